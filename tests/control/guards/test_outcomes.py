"""Feedback as units of evidence: sticky keys, the share of what comes, delays, and a sample ratio mismatch."""

import random
from itertools import pairwise

import orjson
import pytest

from gateway.control.guards import outcomes as module
from gateway.control.guards.observation import FeedbackEvent
from gateway.control.guards.outcomes import Outcomes, part_of
from gateway.settings.guards import ComparisonSettings


def event(candidate: bool, key: int | None = None, weight_ppm: int = 100_000, **outcomes: float) -> FeedbackEvent:
    return FeedbackEvent(0, 0, weight_ppm, candidate, key, outcomes or {"wrong": 1.0}, route="all")


@pytest.mark.parametrize(
    ("outcome", "part"),
    [("wrong", ""), ("loss", ""), ("age.loss", "age"), ("reward", "reward"), ("metrics.a.b", "metrics.a.b")],
)
def test_outcomes_of_one_truth_are_one_part_of_the_feedback(outcome: str, part: str) -> None:
    assert part_of(outcome) == part


def test_sticky_key_is_one_unit_for_all_outcomes_of_a_truth_and_another_for_the_reward() -> None:
    units = Outcomes(())
    new = units.ingest([event(True, 7, wrong=1.0, loss=0.5), event(True, 7, wrong=0.0, reward=3.0)], 0)
    assert {name: (one.values, one.chances, one.routes) for name, one in new.items()} == {
        "wrong": ([1.0], [0.1], ["all"]),
        "loss": ([0.5], [0.1], ["all"]),
        "reward": ([3.0], [0.1], ["all"]),
    }


def test_key_counts_again_after_a_rise_only_if_it_could_have_moved() -> None:
    units = Outcomes(())
    for weight_ppm in (100_000, 550_000):
        new = units.ingest([event(weight_ppm > 300_000, 300_000, weight_ppm), event(True, 50_000, weight_ppm)], 0)
        units.restart()
    assert new["wrong"].chances == [pytest.approx(0.5)]


def test_chance_is_the_share_of_the_outcomes_that_come_and_starts_anew_with_a_step() -> None:
    units = Outcomes(())
    chances = units.ingest([event(True)] * 50, 0)["wrong"].chances
    assert chances[0] == 0.1 and all(a < b for a, b in pairwise(chances)) and chances[-1] == pytest.approx(54 / 99)
    units.restart()
    assert units.ingest([event(True)], 0)["wrong"].chances == [0.1]


def test_outcome_counts_once_its_prediction_is_old_enough_in_the_order_of_the_predictions() -> None:
    units = Outcomes([ComparisonSettings.model_validate({"name": "c", "metric": "loss", "feedback_delay": "10s"})])
    late, early = (event(True, loss=value)._replace(decided_ns=at * 10**9) for value, at in ((0.2, 8), (0.1, 3)))
    assert not units.ingest([late, early, event(True, reward=1.0)], 12 * 10**9).keys() - {"reward"}
    assert units.ingest([], 13 * 10**9)["loss"].values == [0.1]
    assert units.ingest([], 18 * 10**9)["loss"].values == [0.2]


@pytest.mark.parametrize(("delay", "at_s"), [("10s", 11), ("0s", 2)])
def test_waiting_outcomes_are_taken_over_after_an_edit(delay: str, at_s: int) -> None:
    def outcomes(delay: str) -> Outcomes:
        return Outcomes([ComparisonSettings.model_validate({"name": "c", "metric": "loss", "feedback_delay": delay})])

    before, after = outcomes("20s"), outcomes(delay)
    before.ingest([event(True, 7, loss=0.5)._replace(decided_ns=10**9)], 10**9)
    after.restore(orjson.loads(orjson.dumps(before.to_json())))
    after.inherit_waiting(before)
    assert not after.ingest([], at_s * 10**9 - 1 - 10**9) and after.ingest([], at_s * 10**9)["loss"].values == [0.5]


def test_number_of_parts_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    new = Outcomes(()).ingest([event(True, **{f"metrics.{name}": 1.0}) for name in "abc"], 0)
    assert new.keys() == {"metrics.a", "metrics.b"}


@pytest.mark.parametrize(("rates", "expected"), [((0.5, 0.5), None), ((0.8, 0.4), 2.0), ((0.2, 0.6), 1 / 3)])
def test_feedback_that_comes_more_often_for_one_version_is_said(
    rates: tuple[float, float], expected: float | None
) -> None:
    generator, units = random.Random(5), Outcomes(())
    for _ in range(6000):
        candidate = generator.random() < 0.1
        if generator.random() < rates[not candidate]:
            units.ingest([event(candidate)], 0)
    assert units.feedback_ratio("loss") == (None if expected is None else pytest.approx(expected, rel=0.2))
    assert units.feedback_ratio("reward") is None


def test_state_comes_back_from_json() -> None:
    units, restored = Outcomes(()), Outcomes(())
    units.ingest([event(True, 7), event(False), event(True, reward=1.0)], 0)
    restored.restore(orjson.loads(orjson.dumps(units.to_json())))
    more = [event(True, 7), event(True), event(False, 8, reward=0.0)]
    assert restored.ingest(more, 0) == units.ingest(more, 0)
    assert restored.ingest(more, 0) == units.ingest(more, 0)
