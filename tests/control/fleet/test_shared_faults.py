"""One controller for a fleet when its store, or a part of the way to it, fails, and when hosts go and come back."""

import random
from pathlib import Path

import pytest

from gateway.control.fleet import host_log
from gateway.control.release.stages import Event
from tests.control.fleet.ramps import MODEL, new_ramp
from tests.control.fleet.servers import RedisServer, asynchronous
from tests.control.fleet.test_shared_evidence import counted
from tests.control.fleet.test_shared_ramp import leader, others


@asynchronous
async def test_counters_of_a_host_that_is_gone_stay_and_one_that_comes_back_counts_once(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        away = others(fleet)[0]
        away.manager.command(MODEL, Event.HOLD, "ann", "so that no step begins the evidence anew", {})
        away.answer(1000)
        away.fail(4, candidate=False, weight_ppm=10_000)
        await fleet.ticks(2)
        await fleet.ticks(1, traffic=False)
        before = leader(fleet).sums
        fleet.silent.add(away.name)
        away.fail(3, candidate=False, weight_ppm=10_000)
        await fleet.ticks(20, traffic=False)
        assert len(leader(fleet).shared._release.logs) == 2, "its log is removed"
        assert leader(fleet).sums == before
        fleet.silent.clear()
        await fleet.ticks(12, traffic=False)
        assert len(leader(fleet).shared._release.logs) == 3
        assert leader(fleet).sums == before
        assert sum(counted(leader(fleet)).values()) == 7 and leader(fleet).digest.lost == 0
        away.answer(5)
        await fleet.ticks(2, traffic=False)
        assert leader(fleet).sums == before + 5


@asynchronous
async def test_a_full_log_keeps_the_oldest_and_says_how_many_are_lost(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host_log, "MOST_SENT", 5)
    monkeypatch.setattr(host_log, "MOST_KEPT", 12)
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        host = others(fleet)[0]
        host.fail(20, candidate=False, weight_ppm=10_000)
        await fleet.ticks(8)
        assert counted(leader(fleet)) == {(0.01, False): 12}
        assert host.shared.lost == 8


@asynchronous
async def test_a_store_that_does_not_answer_delays_nothing_and_closes_after_a_lease(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        for host in fleet.present:
            host.wire.cut = True
            host.fail(30, candidate=False, weight_ppm=10_000)
        await fleet.ticks(4)
        assert all("cut off" in host.ramps.problems[MODEL] for host in fleet.present)
        assert all(host.allows(f"{MODEL}/2") for host in fleet.present)
        await fleet.ticks(4)
        assert not any(host.allows(f"{MODEL}/2") for host in fleet.present)
        for host in fleet.present:
            host.wire.cut = False
        await fleet.ticks(12)
        assert counted(leader(fleet)) == {(0.01, False): 60} and len(fleet.leaders) == 1


@asynchronous
async def test_routes_close_where_only_the_ramps_documents_cannot_be_reached(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        leader(fleet).manager.command(MODEL, Event.HOLD, "ann", "", {})
        cut = others(fleet)[0]
        cut.wire.cut_documents = True
        await fleet.ticks(5)
        assert cut.weight == 1
        await fleet.ticks(4)
        assert cut.weight == 0 and leader(fleet).weight >= 1
        assert "cut off" in cut.ramps.problems[MODEL]
        cut.wire.cut_documents = False
        await fleet.ticks(2)
        assert cut.weight == leader(fleet).weight


@asynchronous
async def test_a_stop_by_a_guard_does_not_wait_for_the_store(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        leads = leader(fleet)
        leads.fail(12, weight_ppm=10_000)
        leads.wire.replies_to_lose = 1
        await leads.exchange()
        assert leads.ramps.problems
        assert leads.stopped(f"{MODEL}/2")
        await fleet.ticks(3)
        assert leads.done("stop") == ["stop"] and all(host.stopped(f"{MODEL}/2") for host in fleet.present)


@asynchronous
async def test_a_leader_that_beats_but_writes_nothing_is_replaced(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        old, (new,) = leader(fleet), others(fleet)
        old.wire.cut_documents = True
        await fleet.ticks(2)
        assert not new.leads
        await fleet.ticks(6)
        assert new.leads and new.weight == 1
        old.wire.cut_documents = False
        await fleet.ticks(2)
        assert fleet.leaders == [new.name] and old.weight == 1


@asynchronous
async def test_a_log_whose_first_reply_is_lost_counts_once_though_it_is_removed_meanwhile(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        leader(fleet).manager.command(MODEL, Event.HOLD, "ann", "", {})
        new = fleet.ramp("c")
        await fleet.open()
        new.fail(4, candidate=False, weight_ppm=10_000)
        new.wire.log_replies_to_lose = 1
        await fleet.ticks(1, traffic=False)
        assert new.ramps.problems
        fleet.silent.add("c")
        await fleet.ticks(20, traffic=False)
        assert counted(leader(fleet)) == {(0.01, False): 4}
        fleet.silent.clear()
        new.fail(2, candidate=False, weight_ppm=10_000)
        await fleet.ticks(12, traffic=False)
        assert counted(leader(fleet)) == {(0.01, False): 6}


@asynchronous
async def test_a_first_log_that_never_arrived_is_sent_again(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        leader(fleet).manager.command(MODEL, Event.HOLD, "ann", "", {})
        new = fleet.ramp("c")
        await fleet.open()
        new.fail(4, candidate=False, weight_ppm=10_000)
        new.wire.cut_documents = True
        await fleet.ticks(1, traffic=False)
        new.wire.cut_documents = False
        await fleet.ticks(3, traffic=False)
        assert counted(leader(fleet)) == {(0.01, False): 4}


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 35, 53, 57])  # these found entries counted twice
@asynchronous
async def test_nothing_is_counted_twice_whatever_fails(redis: RedisServer, tmp_path: Path, seed: int) -> None:
    draw = random.Random(seed)
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        leader(fleet).manager.command(MODEL, Event.HOLD, "ann", "so that no step begins the evidence anew", {})
        await fleet.ticks(2)
        before, failures, answers = {host.name: host.sums for host in fleet.present}, 0, 0
        for _ in range(50):
            for host in fleet.present:
                failed, answered = draw.randrange(4), draw.randrange(3)
                host.fail(failed, candidate=False, weight_ppm=10_000)
                failures += failed
                host.answer(answered, 0)
                answers += answered
                host.wire.replies_to_lose = int(draw.random() < 0.3)
                host.wire.log_replies_to_lose = int(draw.random() < 0.3)
                host.wire.cut_documents = draw.random() < 0.15
                host.wire.cut = draw.random() < 0.1
            if draw.random() < 0.08:
                fleet.silent.add(draw.choice([host.name for host in fleet.hosts]))
            if draw.random() < 0.08 and fleet.silent:
                fleet.silent.discard(draw.choice(sorted(fleet.silent)))
            if len(fleet.silent) == 3:
                fleet.silent.clear()
            await fleet.ticks(1, traffic=False)
        fleet.silent.clear()
        for host in fleet.present:
            host.wire.replies_to_lose = host.wire.log_replies_to_lose = 0
            host.wire.cut_documents = host.wire.cut = False
        await fleet.ticks(30, traffic=False)
        for host in fleet.present:  # what is counted at a host that is away is lost to live metrics
            assert answers / 3 <= host.sums - before[host.name] <= answers
        assert failures - 20 <= sum(counted(leader(fleet)).values()) <= failures
        before = {host.name: host.sums for host in fleet.present}
        for host in fleet.present:
            host.answer(7, 0)
        await fleet.ticks(2, traffic=False)
        assert {host.sums - before[host.name] for host in fleet.present} == {21}
