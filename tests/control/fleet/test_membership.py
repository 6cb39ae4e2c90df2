"""Memberships over a real store: what a stop promises while resumes, outages and departures get in its way."""

import asyncio
from pathlib import Path

import pytest

from gateway.control.fleet import membership
from gateway.control.fleet.stop_call import StopOutcome
from gateway.control.fleet.store_state import Word
from gateway.errors import Conflict
from tests.control.fleet.hosts import LEASE_NS, TIMING, new_fleet, some_beats, until
from tests.control.fleet.servers import RedisServer, asynchronous
from tests.control.fleet.wire import begins, changes_core

PATIENCE_NS = TIMING.longest_ns + LEASE_NS // membership.CALLS


@asynchronous
async def test_a_stop_that_begins_while_a_resume_awaits_its_reply_holds(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        assert a.allows("m/2") and b.allows("m/2")
        assert (await a.stop()).outcome is StopOutcome.CONFIRMED
        held = a.wire.hold_reply(begins("m/2", 2))
        resume = asyncio.create_task(a.resume())
        await held.reached.wait()
        await until(lambda: b.allows("m/2"))
        stop = asyncio.create_task(a.stop(reason="again"))
        await until(lambda: "m/2" in a.state.stops)
        held.go.set()
        with pytest.raises(Conflict, match="'m' was stopped again meanwhile"):
            await resume
        assert not a.allows("m/2")
        confirmed = await stop
        assert (confirmed.outcome, confirmed.hosts, confirmed.missing) == (StopOutcome.CONFIRMED, 2, ())
        assert not a.allows("m/2") and not b.allows("m/2")
        await some_beats(a, b)
        assert a.stopped("m/2") and b.stopped("m/2") and await fleet.word("m/2") == Word(2, 2)
        decision = b.log.last("m", 2, "stop")
        assert decision is not None and decision.reason == "again"


@asynchronous
async def test_a_stop_that_waits_is_told_of_a_resume_after_it(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await b.pause()
        stop = asyncio.create_task(a.stop())
        await until(lambda: a.state.told.get("m/2") == Word(1, 1) and not a.state.stops)
        await a.resume()
        confirmation = await stop
        assert confirmation.outcome is StopOutcome.RESUMED
        assert a.membership.unconfirmed == () and a.allows("m/2")


@asynchronous
async def test_a_resume_carried_out_late_fails_after_a_stop_of_the_stopped(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await a.stop()
        lost = a.wire.lose(begins("m/2", 2))
        with pytest.raises(Conflict, match=r"not known to be resumed: .*no answer; it may be resumed yet; stop it"):
            await a.resume()
        assert a.stopped("m/2")
        assert (await b.stop()).outcome is StopOutcome.CONFIRMED
        assert not (await a.wire.deliver(lost)).committed
        await some_beats(a, b)
        assert a.stopped("m/2") and b.stopped("m/2")


@asynchronous
async def test_a_resume_carried_out_with_its_reply_lost_holds_everywhere(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await a.stop()
        a.wire.lose_reply(begins("m/2", 2))
        with pytest.raises(Conflict, match="it may be resumed yet"):
            await a.resume()
        await until(lambda: a.allows("m/2") and b.allows("m/2"))
        assert (await b.stop()).outcome is StopOutcome.CONFIRMED
        assert not a.allows("m/2") and not b.allows("m/2")


@asynchronous
async def test_resume_is_refused_until_the_store_has_the_stop(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a")
        await fleet.open()
        a.wire.cut = True
        stop = asyncio.create_task(a.stop())
        await until(lambda: "m/2" in a.state.stops)
        with pytest.raises(Conflict, match="does not have its stop yet; try again"):
            await a.resume()
        a.wire.cut = False
        await a.resume()  # its own beat brings the stop
        assert (await stop).outcome is StopOutcome.CONFIRMED, "before it was resumed"
        assert await fleet.word("m/2") == Word(2, 1)


@asynchronous
async def test_a_leaving_host_is_listed_until_its_sends_have_ended(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        b.sends_ended.clear()
        leave = asyncio.create_task(b.membership.leave())
        await until(lambda: b.fences > 0 and not b.allows("m/2"))
        stop = asyncio.create_task(a.stop())
        await until(lambda: a.state.told.get("m/2") == Word(1, 1))
        await some_beats(a)
        assert not stop.done() and b.state.incarnation in a.state.members
        b.sends_ended.set()
        await leave
        confirmed = await stop
        assert (confirmed.outcome, confirmed.hosts) == (StopOutcome.CONFIRMED, 1)
        assert (await fleet.state()).members.keys() == {a.state.incarnation}


@asynchronous
async def test_a_host_leaves_within_its_time_whatever_is_in_the_way(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(membership, "LEAVE_S", 0.05)
    async with new_fleet(redis, tmp_path) as fleet:
        sending, cut, slow, broken = (fleet.add(name) for name in ("sending", "cut", "slow", "broken"))
        await fleet.open()
        sending.sends_ended.clear()
        cut.wire.cut = True
        slow.wire.hold_request(lambda transaction: True)
        broken.wire.fault = RuntimeError("of a kind that nobody expects")
        for host, left in (sending, False), (cut, True), (slow, False), (broken, False):
            caplog.clear()
            async with asyncio.timeout(6):  # sooner than a call to the store would end
                await host.membership.leave()
            assert not host.allows("m/2")
            assert left == ("could not be removed" not in caplog.text), host.name
        members = (await fleet.state()).members
        assert {member.name for member in members.values()} == {"sending", "cut", "slow", "broken"}


@asynchronous
async def test_beats_after_the_end_do_no_harm(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await b.membership.leave()
        await some_beats(b)
        await b.pause()
        await b.membership.close()
        await b.beat()
        assert (await fleet.state()).members.keys() == {a.state.incarnation}
        assert not b.state.open and not b.allows("m/2")


@asynchronous
async def test_confirm_stops_again_what_another_host_has_resumed_meanwhile(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        a.stop_here("m", 2, "ann", "wrong answers", {})  # a command, which waits now for its disk
        await until(lambda: b.stopped("m/2"))
        await b.resume()
        await until(lambda: a.allows("m/2"))
        held, fences = a.wire.hold_request(changes_core), a.fences
        confirm = asyncio.create_task(a.membership.confirm({("m", 2)}, "ann", "wrong answers"))
        await held.reached.wait()
        assert a.stopped("m/2") and a.fences == fences + 1, "before the store has it"
        held.go.set()
        assert (await confirm).outcome is StopOutcome.CONFIRMED
        assert not a.allows("m/2") and b.stopped("m/2") and await fleet.word("m/2") == Word(2, 2)


@asynchronous
async def test_candidates_of_other_hosts_are_stopped_too(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b", candidate=3)
        await fleet.opened()
        assert b.allows("m/3")
        assert (await a.stop()).outcome is StopOutcome.CONFIRMED
        for host in a, b:
            assert host.stopped("m/2") and host.stopped("m/3"), host.name
        assert (await fleet.state()).words.keys() >= {"m/2", "m/3"}


@asynchronous
async def test_a_candidate_that_is_stable_here_is_not_stopped(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a", stable=1, candidate=2), fleet.add("b", stable=2, candidate=1)
        await fleet.opened()
        assert (await a.stop()).outcome is StopOutcome.CONFIRMED
        assert not a.stopped("m/1") and not b.stopped("m/1") and b.stopped("m/2")


@asynchronous
async def test_candidates_of_other_hosts_stay_stopped_here_without_the_store(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, _ = fleet.add("a"), fleet.add("b", candidate=3)
        await fleet.open()
        await a.beat()
        a.wire.cut = True
        stop = asyncio.create_task(a.stop())
        await until(lambda: a.state.stops.keys() == {"m/2", "m/3"})
        fleet.clock.advance(PATIENCE_NS)
        assert (await stop).outcome is StopOutcome.HERE_ONLY
        assert a.stopped("m/3"), "else an edit that makes it the candidate here would open it"


@asynchronous
async def test_a_stop_during_an_outage_is_here_only_and_confirmed_later(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        a.wire.cut = True
        stop = asyncio.create_task(a.stop())
        await until(lambda: "m/2" in a.state.stops)
        assert not a.allows("m/2") and b.allows("m/2")
        fleet.clock.advance(PATIENCE_NS)
        assert (await stop).outcome is StopOutcome.HERE_ONLY
        await until(lambda: "cut off" in a.membership.problem)
        assert a.membership.unconfirmed == ("m/2",) and not b.stopped("m/2")
        a.wire.cut = False
        await until(lambda: a.membership.unconfirmed == ())
        assert b.stopped("m/2") and a.stopped("m/2") and not a.membership.problem


@asynchronous
async def test_a_host_that_is_silent_for_a_lease_is_not_waited_for(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await b.pause()
        stop = asyncio.create_task(a.stop())
        await until(lambda: a.state.told.get("m/2") == Word(1, 1))
        await some_beats(a)
        assert not stop.done() and b.allows("m/2")
        fleet.clock.advance(TIMING.longest_ns)
        assert (await stop).outcome is StopOutcome.CONFIRMED
        assert not b.allows("m/2") and not b.stopped("m/2"), "its lease has ended"
