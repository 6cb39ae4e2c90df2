"""What a host stops and resumes for the fleet, and what it still knows after a restart."""

import asyncio
import shutil
from pathlib import Path
from typing import Any

from gateway.control.fleet.stop_call import StopOutcome
from gateway.control.fleet.store_state import Word
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from tests.control.fleet.hosts import Fleet, Host, new_fleet, some_beats, until
from tests.control.fleet.servers import RedisServer, asynchronous


async def stopped_and_resumed_by(fleet: Fleet, host: Host, **evidence: Any) -> None:
    """In the store, without waiting for the other hosts."""
    host.stop_here("m", 2, "ann", "wrong answers", {})
    await host.beat()
    assert await fleet.word("m/2") == Word(1, 1)
    await host.resume(**evidence)
    assert await fleet.word("m/2") == Word(2, 1)


def last(host: Host, action: str) -> ReleaseDecision:
    decision = host.log.last("m", 2, action)
    assert decision is not None
    return decision


@asynchronous
async def test_what_was_stopped_and_resumed_between_two_beats_is_in_a_new_epoch(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.open()
        before = b.epoch("m/2")
        await stopped_and_resumed_by(fleet, a)
        await b.beat()
        assert b.epoch("m/2") > before and b.allows("m/2"), "a late trip of the old epoch stops nothing"
        decisions = [(one.action, one.by, one.reason, one.evidence) for one in b.log.decisions]
        evidence = {"fleet": fleet.name, "fleet_epoch": 2, "fleet_host": "a"}
        assert decisions == [("resume", "bob", "mended", evidence)]
        await b.beat()
        assert len(b.log.decisions) == 1


@asynchronous
async def test_first_contact_makes_no_decisions_by_itself(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a")
        await fleet.open()
        await stopped_and_resumed_by(fleet, a)
        b = fleet.add("b")
        await b.beat()
        await b.beat()
        assert b.state.words["m/2"] == Word(2, 1) and b.log.decisions == []
        await a.beat()
        again = await a.restarted()
        before = len(again.log.decisions)
        await again.beat()
        assert len(again.log.decisions) == before


@asynchronous
async def test_who_stopped_and_resumed_it_where_and_why_is_known_on_all_hosts(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await a.stop()
        stop = last(b, "stop")
        assert (stop.by, stop.reason) == ("ann", "wrong answers")
        assert stop.evidence == {"fleet": fleet.name, "fleet_epoch": 1, "fleet_host": "a"}
        assert last(a, "stop").evidence == {}, "made here"
        await a.resume(checked="on Friday")
        await until(lambda: not b.stopped("m/2"))
        said = {"fleet": fleet.name, "fleet_epoch": 2, "fleet_host": "a"}
        here, there = last(a, "resume"), last(b, "resume")
        assert here.evidence == {"checked": "on Friday", **said} and there.evidence == said
        assert (here.by, here.reason) == (there.by, there.reason) == ("bob", "mended")
        await b.stop(reason="still wrong")
        assert last(a, "stop").reason == "still wrong"
        await b.resume()
        await until(lambda: not a.stopped("m/2"))
        assert "checked" not in last(a, "resume").evidence, "that was another resume's"


@asynchronous
async def test_stop_of_the_stopped_that_the_store_never_got_is_kept_over_a_restart(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await a.stop()
        await until(lambda: a.membership.unconfirmed == ())
        a.wire.cut = True
        stop = asyncio.create_task(a.stop(reason="once more"))
        await until(lambda: "m/2" in a.state.stops)
        stop.cancel()
        await b.resume()
        a = await a.restarted()
        assert a.state.stops.keys() == {"m/2"} and a.stopped("m/2")
        a.start()
        await until(lambda: b.stopped("m/2"))
        await some_beats(a)
        assert a.stopped("m/2") and await fleet.word("m/2") == Word(2, 2)


@asynchronous
async def test_trip_whose_memory_was_not_written_yet_is_not_undone(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await a.stop()
        await a.pause()
        await a.log.wait_durable()
        a = await a.restarted()
        memory, older = a.folder / "fleet.json", tmp_path / "older"
        shutil.copy(memory, older)  # it says: epoch 1 is stopped
        await a.beat()
        await a.resume()
        a.wire.cut = True
        a.stop_here("m", 2, "breaker", "too many failures", {})
        await a.end()
        shutil.copy(older, memory)
        a = fleet.replace(a, Host(fleet, a.folder, "a", a.served))
        assert a.state.stops.keys() == {"m/2"}
        await a.beat()
        assert a.stopped("m/2") and await fleet.word("m/2") == Word(2, 2)
        await until(lambda: b.stopped("m/2"))


@asynchronous
async def test_stop_made_without_the_fleet_is_not_undone_by_an_earlier_resume(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        await a.stop()
        await a.end()
        alone = DecisionLog(a.folder)
        alone.resume("m", 2, "ann", "tried again", {})
        alone.stop("m", 2, "ann", "still wrong", {})
        alone.close()
        await b.resume()
        a = fleet.replace(a, Host(fleet, a.folder, "a", a.served))
        a.start()
        await until(lambda: b.stopped("m/2"))
        await some_beats(a)
        assert a.stopped("m/2") and await fleet.word("m/2") == Word(2, 2)


@asynchronous
async def test_stop_that_was_confirmed_and_resumed_since_is_not_repeated(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.opened()
        assert (await a.stop()).outcome is StopOutcome.CONFIRMED
        await until(lambda: a.membership.unconfirmed == () and not a.membership.notes)
        await a.end()
        await b.resume()
        a = fleet.replace(a, Host(fleet, a.folder, "a", a.served))
        assert a.stopped("m/2") and not a.state.stops
        await a.beat()
        await some_beats(b)
        assert not a.stopped("m/2") and not b.stopped("m/2") and await fleet.word("m/2") == Word(2, 1)


@asynchronous
async def test_stop_that_was_made_here_before_a_resume_elsewhere_is_undone_by_it(
    redis: RedisServer, tmp_path: Path
) -> None:
    """The fleet's order decides: this host's stop of epoch 1 came to the store before it was resumed."""
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a"), fleet.add("b")
        await fleet.open()
        a.stop_here("m", 2, "breaker", "too many failures", {})
        await a.beat()
        await b.beat()
        await b.resume()
        await a.beat()
        assert not a.stopped("m/2") and not b.stopped("m/2")


@asynchronous
async def test_epochs_of_another_fleet_do_not_count(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        b = fleet.add("b")
        await fleet.open()
        await stopped_and_resumed_by(fleet, b)
        folder = tmp_path / "moved"
        log = DecisionLog(folder)
        log.stop("m", 2, "ann", "wrong answers", {"fleet": "another", "fleet_epoch": 7})
        log.stop("m", 3, "ann", "wrong answers", {"fleet": fleet.name, "fleet_epoch": 7})
        log.stop("m", 4, "ann", "wrong answers", {"fleet": fleet.name, "fleet_epoch": "7"})
        log.close()
        (folder / "fleet.json").write_text('{"fleet":"another","words":{"m/2":[7,7]},"stops":[],"sequence":9}')
        a = Host(fleet, folder, "a", b.served)
        fleet.hosts.append(a)
        assert a.state.words == {"m/3": Word(7, 7)} and a.state.stops.keys() == {"m/2", "m/4"}
        await a.beat()
        await b.beat()
        words = (await fleet.state()).words
        assert words["m/2"] == Word(2, 2) and words["m/3"] == Word(7, 7) and words["m/4"] == Word(1, 1)
        assert a.stopped("m/2") and b.stopped("m/2")
