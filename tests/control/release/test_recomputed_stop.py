"""A stop on feedback that sticky customers give more often for one version can be recomputed from its record."""

import json
import random
from typing import Any

import pytest

from gateway.control.guards.mean_evidence import MOST_LISTED
from gateway.control.guards.observation import FeedbackEvent
from gateway.control.release.actions import Stop
from gateway.control.release.audit import recompute
from tests.control.release.running import ERRORS, Running, release

ACCURACY = {"name": "accuracy", "metric": "wrong_feedback"}
RATES = {True: 0.9, False: 0.3}  # of the predictions of each version that get feedback
WRONG = {True: 0.42, False: 0.25}


@pytest.fixture(scope="module")
def record() -> dict[str, Any]:
    """The record of the stop, as it is written."""
    running, generator = Running(release(comparisons=[ACCURACY, ERRORS])), random.Random(3)
    for _ in range(100):
        feedback = []
        for key in generator.choices(range(0, 1_000_000, 333), k=60):
            candidate = key < 500_000
            if generator.random() < RATES[candidate]:
                outcomes = {"wrong": float(generator.random() < WRONG[candidate])}
                feedback.append(FeedbackEvent(0, running.time_ns, 500_000, candidate, key, outcomes, route="a"))
        running.tick(feedback=feedback)
        for stop in running.actions:
            if isinstance(stop, Stop):
                assert stop.guard == "accuracy"
                written: dict[str, Any] = json.loads(json.dumps(stop.evidence))
                return written
    raise AssertionError("not stopped")


def test_evidence_is_that_of_both_ways_of_counting(record: dict[str, Any]) -> None:
    again, (accuracy, _) = recompute(record), record["guards"]
    assert again.guards["accuracy"] == pytest.approx(accuracy["log10_e"])
    assert again.safe["accuracy"] == pytest.approx(accuracy["log10_safe"])
    assert again.combined["stop"] == pytest.approx(record["log10_e"]["stop"])
    assert again.combined["stop"] >= 2


def test_outcomes_are_those_that_have_counted_in_each(record: dict[str, Any]) -> None:
    means = record["guards"][0]["means"]
    assert sum(means["outcomes"]) > MOST_LISTED
    first, thinned = (one["checkpoint"]["count"] + len(one["since"]) for one in (means, means["thinned"]))
    assert first == sum(means["outcomes"]) > thinned > MOST_LISTED
    shares = [sum(row[1] for row in one["since"]) / len(one["since"]) for one in (means, means["thinned"])]
    assert shares[0] > shares[1] + 0.1


@pytest.mark.parametrize("thinned", [False, True])
def test_forged_evidence_does_not_stop(record: dict[str, Any], thinned: bool) -> None:
    forged = json.loads(json.dumps(record))
    means = forged["guards"][0]["means"]
    (means["thinned"] if thinned else means)["checkpoint"]["log_e"] -= 20.0
    assert recompute(forged).combined["stop"] < 2
