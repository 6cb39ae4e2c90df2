"""What hosts of a fleet have seen is counted once, over a real store: failures, feedback, pairs and live metrics."""

import random
from pathlib import Path

import pytest

from gateway.control.guards.failure_counts import FailureCounts
from gateway.control.guards.mean_evidence import MeanEvidence
from gateway.control.release.stages import Stage
from gateway.shm.failure_events import NO_ROUTE, route_id
from tests.control.fleet.ramps import MODEL, ROUTES, RampHost, new_ramp, release
from tests.control.fleet.servers import RedisServer, asynchronous
from tests.control.fleet.test_shared_ramp import leader, others

LIMIT = {"name": "many", "metric": "candidate.error_rate", "above": 0.5, "window": "60s", "min_requests": 30}
TWO_ROUTES = [{"name": "pilot", "match": [{"customer": "pilot"}], "weight": 1}, *ROUTES]
WRONG = {"name": "wrong", "metric": "wrong_feedback"}


def counted(host: RampHost) -> dict[tuple[float, bool], int]:
    """Failures by chance and variant."""
    (process,) = [one.process for one in host.guards.comparisons if one.settings.metric == "failures"]
    assert isinstance(process, FailureCounts)
    return dict(process.counts)


def process_of(host: RampHost) -> MeanEvidence:
    """The evidence of truths."""
    (process,) = [one.process for one in host.guards.comparisons if one.settings.metric == "wrong_feedback"]
    assert isinstance(process, MeanEvidence)
    return process


def restarts(host: RampHost) -> int:
    return host.manager.managed[MODEL].controller.state.restart


@asynchronous
async def test_failures_of_all_hosts_stop_the_candidate_by_one_decision(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        for host in fleet.present:
            host.fail(2, weight_ppm=10_000)
        await fleet.ticks(3)
        assert all(host.stopped(f"{MODEL}/2") for host in fleet.present)
        by = [[(one.by, one.evidence.get("fleet_host")) for one in host.log.decisions if one.action == "stop"]
              for host in fleet.present]  # fmt: skip
        name = next(host.name for host in fleet.present if ("errors", None) in by[fleet.present.index(host)])
        assert sorted(by, key=str) == sorted([[("errors", None)], *[[("errors", name)]] * 2], key=str)


@asynchronous
async def test_a_customer_who_always_fails_counts_once_wherever_it_fails(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b", "c") as fleet:
        for _ in range(3):
            for host in fleet.present:
                host.fail(7, key=4321, weight_ppm=10_000)
            await fleet.ticks(1)
        await fleet.ticks(2)
        assert counted(leader(fleet)) == {(0.01, True): 1}
        assert not any(host.stopped(f"{MODEL}/2") for host in fleet.present)


@asynchronous
async def test_evidence_is_that_of_one_ledger_whatever_is_lost_on_the_way(redis: RedisServer, tmp_path: Path) -> None:
    """Also by route, but for those of a host of the release before, which does not say the route."""
    draw, single = random.Random(7), FailureCounts(routes=[route["name"] for route in TWO_ROUTES])
    async with new_ramp(redis, tmp_path, "a", "b", "c", settings=release(TWO_ROUTES)) as fleet:
        for tick in range(24):
            for host in fleet.present:
                for _ in range(draw.randrange(4)):
                    route = NO_ROUTE if host.name == "c" else route_id(draw.choice(["pilot", "everyone"]))
                    host.fail(candidate=False, weight_ppm=10_000, route=route)
                    single.add(10_000, False, None, route=route)
                host.wire.replies_to_lose = draw.random() < 0.3
                host.wire.cut_documents = draw.random() < 0.2
            if tick == 8:
                fleet.silent.add(leader(fleet).name)
            if tick == 18:
                fleet.silent.clear()
            await fleet.ticks(1, traffic=False)
        for host in fleet.present:
            host.wire.replies_to_lose, host.wire.cut_documents = 0, False
        await fleet.ticks(8, traffic=False)
        assert counted(leader(fleet)) == dict(single.counts)
        for host in fleet.present:  # all have the leader's counts
            (process,) = [one.process for one in host.guards.comparisons]
            assert process.log_e == pytest.approx(single.log_e)
            assert {name: of.counts for name, of in process.by_route.shown()} == {
                name: of.counts for name, of in single.by_route.shown()
            }
        by_route = {name: of.counts.total() for name, of in single.by_route.shown()}
        assert by_route.keys() == {"pilot", "everyone"} and sum(by_route.values()) < single.counts[0.01, False]
        assert leader(fleet).digest.lost == 0


@asynchronous
async def test_evidence_in_the_store_survives_its_leader(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, "a", "b") as fleet:
        for host in fleet.present:
            host.fail(5, candidate=False, weight_ppm=10_000)
        await fleet.ticks(2)
        old = leader(fleet)
        assert counted(old) == {(0.01, False): 10}
        fleet.silent.add(old.name)
        await fleet.ticks(9)
        new = leader(fleet)
        new.fail(1, candidate=False, weight_ppm=10_000)
        await fleet.ticks(1)
        assert counted(new) == {(0.01, False): 11} and restarts(new) == 1


@asynchronous
async def test_feedback_given_to_two_hosts_counts_once(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, *"ab", settings=release(guards={"comparisons": [WRONG]})) as fleet:
        a, b = fleet.present
        tokens = [a.token(nonce) for nonce in range(6)]
        for host in (a, b):
            for token in tokens:
                host.judge(token, correct=False)
        b.judge(b.token(77, candidate=False), correct=False)
        await fleet.ticks(3)
        old = process_of(leader(fleet))
        assert old.counts == [1, 6] and old.log_e != 0
        for host in others(fleet):  # again, much later, and at another leader
            fleet.silent.add(leader(fleet).name)
            await fleet.ticks(9)
            host.judge(a.token(3), correct=False)
            b.records.feedback.take_new()
            await fleet.ticks(2)
            new = process_of(leader(fleet))
            assert new is not old and new.to_json() == old.to_json()


@asynchronous
async def test_limits_and_the_ramps_requests_count_those_of_all_hosts(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, *"abc", settings=release(guards={"limits": [LIMIT]})) as fleet:
        for _ in range(2):
            for host in fleet.present:
                for _ in range(7):
                    host.failed_request()
            await fleet.ticks(1, traffic=False)
        readings = {host.read("candidate.error_rate", 60.0) for host in fleet.present}
        assert max(reading.count for reading in readings) >= 30
        await fleet.ticks(2, traffic=False)
        assert all(host.stopped(f"{MODEL}/2") for host in fleet.present)
        assert {one.by for host in fleet.present for one in host.log.decisions if one.action == "stop"} == {"many"}


@asynchronous
async def test_a_limit_stops_while_there_is_no_leader(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path, *"ab", settings=release(guards={"limits": [LIMIT]})) as fleet:
        fleet.silent.add(leader(fleet).name)
        (host,) = fleet.present
        for _ in range(50):
            host.failed_request()
        await fleet.ticks(2, traffic=False)
        assert fleet.leaders == [] and host.stopped(f"{MODEL}/2")


@asynchronous
async def test_predicted_classes_of_all_hosts_make_the_drift(redis: RedisServer, tmp_path: Path) -> None:
    async with new_ramp(redis, tmp_path) as fleet:
        drift = {"name": "drift", "metric": "predicted_class", "action": "pause"}
        for name in "ab":
            fleet.ramp(name, release(guards={"comparisons": [drift]}))
        await fleet.ramping()
        for _ in range(12):
            for host in fleet.present:
                for _ in range(20):
                    host.tally(2).classified(0, [1])
                    host.tally(1).classified(0, [2])
            await fleet.ticks(1)
        assert leader(fleet).manager.managed[MODEL].controller.state.stage is Stage.PAUSED
        assert sum(len(host.done("pause")) for host in fleet.present) == 1


@asynchronous
async def test_a_limit_does_not_stop_again_for_what_was_counted_before_the_resume(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, *"ab", settings=release(guards={"limits": [LIMIT]})) as fleet:
        for _ in range(80):
            fleet.present[0].failed_request()
        await fleet.ticks(2, traffic=False)
        assert all(host.stopped(f"{MODEL}/2") for host in fleet.present)
        await fleet.present[1].resume()
        await fleet.ticks(4, traffic=False)
        assert not any(host.stopped(f"{MODEL}/2") for host in fleet.present)
        assert [host.weight for host in fleet.present] == [1, 1]
