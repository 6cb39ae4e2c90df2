"""A host that was killed is removed from the fleet by a person, and one that may go on is not."""

import asyncio
from pathlib import Path

import pytest

from gateway.control.fleet.removal import HostRemoval
from gateway.control.fleet.stop_call import StopOutcome
from gateway.control.fleet.stores import open_store
from gateway.errors import Conflict, NotFound
from tests.control.fleet.hosts import TIMING, Fleet, Host, new_fleet, some_beats, until
from tests.control.fleet.servers import LONG_S, RedisServer, asynchronous


def removal(fleet: Fleet, host: Host) -> HostRemoval:
    return HostRemoval(host.membership, None, lambda: open_store(fleet.server.url, fleet.name, LONG_S))


@asynchronous
async def test_stops_no_longer_wait_for_a_holding_host_that_was_removed(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b", hold=True)
        await fleet.opened()
        await b.pause()
        ended = b.state.incarnation
        fleet.clock.advance(2 * TIMING.longest_ns)
        await some_beats(a)
        assert ended in a.state.members, "time does not remove it"
        stop = asyncio.create_task(a.stop())
        await until(lambda: "m/2" in a.state.told and not a.state.stops)
        fleet.clock.advance(2 * TIMING.longest_ns)
        assert (await stop).outcome is StopOutcome.UNCONFIRMED
        removed = await removal(fleet, a).remove("b")
        assert (removed.shares, removed.memberships) == ((), (ended,))
        await some_beats(a)
        assert list((await fleet.state()).members) == [a.state.incarnation]
        assert a.membership.unconfirmed == ()


@asynchronous
async def test_host_that_beats_is_not_removed_nor_one_that_is_unknown(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b", hold=True)
        await fleet.open()
        remover = removal(fleet, a)
        with pytest.raises(Conflict, match=r"'b' beats, or did until less than 30 s ago: end it with SIGTERM"):
            await remover.remove("b")
        with pytest.raises(Conflict, match="'a' is the host that was asked: end it with SIGTERM"):
            await remover.remove("a")
        with pytest.raises(NotFound, match="the fleet has no host 'x'; there are a, b"):
            await remover.remove("x")
        fleet.clock.advance(2 * TIMING.longest_ns)
        await b.beat()
        with pytest.raises(Conflict, match="beats, or did until"):
            await remover.remove(b.state.incarnation)
        assert b.state.incarnation in (await fleet.state()).members


@asynchronous
async def test_nothing_is_removed_without_contact(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b", hold=True)
        await fleet.open()
        a.wire.cut = True
        await a.beat()
        with pytest.raises(Conflict, match="'b' is not removed: cut off"):
            await removal(fleet, a).remove("b")
        assert b.state.incarnation in (await fleet.state()).members
