"""Counts of randomised predictions in the logs of a fleet's hosts, whose leader adds them up."""

from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from gateway.control.fleet.evidence import Log
from gateway.control.fleet.randomised import randomised_counts, randomised_of
from gateway.control.record_writer.feedback_stats import CreditedFeedback
from tests.control.fleet.ramps import MODEL, RampHost, new_ramp, release
from tests.control.fleet.servers import RedisServer, asynchronous
from tests.control.fleet.test_shared_ramp import leader, others

OLD = {"versions": [1, 1, 2], "run": 1}


def log(counts: dict[str, tuple[int, int]] | None, *, epoch: int = 1, settings: str = "s") -> Log:
    told = OLD if counts is None else OLD | randomised_counts(counts, epoch)
    return Log(1, settings=settings, counts=orjson.loads(orjson.dumps(told)))


def test_counts_are_those_of_the_epoch_and_settings_by_process() -> None:
    logs = {
        "a-1": log({"x": (10, 2)}),
        "a-2": log({"x": (12, 3)}),  # the same process, whose first log was removed too early
        "b-1": log({"y": (5, 1)}),
        "c-1": log({"z": (7, 7)}, epoch=2),
        "d-1": log(None, settings="t"),
        "e-1": Log(1, settings="s"),
    }
    assert randomised_of(logs, "s", 1) == {"x": (12, 3), "y": (5, 1)}
    assert randomised_of(dict(reversed(logs.items())), "s", 1) == {"x": (12, 3), "y": (5, 1)}


@pytest.mark.parametrize("told", [None, 7, {}, {"epoch": 1, "counts": {"x": [1]}}, {"epoch": 1, "counts": {"x": 3}}])
def test_a_host_that_does_not_tell_makes_them_unknown(told: Any) -> None:
    other = OLD if told is None else OLD | {"randomised": told}
    assert randomised_of({"a-1": log({"x": (1, 1)}), "b-1": Log(1, settings="s", counts=other)}, "s", 1) is None


def judged(host: RampHost, told: RampHost, first: int) -> None:
    """200 predictions of each version on `host`, and truths on 80% and 40% of them at the other."""
    epoch = host.board.epoch(host.slot(f"{MODEL}/2"))
    for number in range(400):
        candidate = number % 2 == 0
        host.tally(2).randomised(epoch, candidate)
        if number % 10 < (8 if candidate else 4):
            told.judge(host.token(first + number, candidate=candidate, weight_ppm=500_000), correct=True)


def words(host: RampHost) -> str:
    return next(effect.words for effect in host.guards.effects() if effect.outcome == "wrong")


@asynchronous
async def test_shares_are_of_the_predictions_of_all_hosts_and_go_on_at_another_leader(
    redis: RedisServer, tmp_path: Path
) -> None:
    shares = "feedback has come for 80% of the candidate's and 40% of stable's predictions"
    compared = {"name": "wrong", "metric": "wrong_feedback"}
    async with new_ramp(redis, tmp_path, *"abc", settings=release(guards={"comparisons": [compared]})) as fleet:
        a, b, c = fleet.present
        await fleet.ticks(2)
        for number, (host, told) in enumerate([(a, b), (b, c), (c, a)]):
            judged(host, told, 1000 * number)
            await fleet.ticks(3)
        assert shares in words(leader(fleet))
        (other, _) = others(fleet)
        assert shares in words(other)
        fleet.silent.add(leader(fleet).name)
        await fleet.ticks(9)
        here, there = fleet.present
        judged(here, there, 5000)
        await fleet.ticks(4)
        assert shares in words(leader(fleet))
        fleet.clock.advance(10**9)
        with patch("gateway.control.fleet.shared_release.randomised_counts", lambda counts, epoch: {}):
            await others(fleet)[0].exchange()  # as a host of the release before
        await leader(fleet).exchange()
        assert "feedback comes 2 times as often" in words(leader(fleet))


@asynchronous
async def test_feedback_of_an_earlier_process_does_not_pile_up_where_the_fleet_counts(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_ramp(redis, tmp_path, "a") as fleet:
        (host,) = fleet.present
        await fleet.ticks(2)
        one = host.manager.managed[MODEL]
        item = CreditedFeedback(host.records.feedback._signer.read(host.token(1)), 1, {"reward": 1.0}, None)
        one.add_unheard(item)
        assert len(one.unheard) == 1
        await fleet.ticks(1)
        assert not one.unheard
