"""Feedback as units of evidence: sticky keys, the share of what comes, delays, and a sample ratio mismatch."""

import random
from itertools import pairwise

import orjson
import pytest

from gateway.control.guards import outcomes as module
from gateway.control.guards import waiting_outcomes
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


def delayed(delay: str) -> Outcomes:
    return Outcomes([ComparisonSettings.model_validate({"name": "c", "metric": "loss", "feedback_delay": delay})])


@pytest.mark.parametrize(("delay", "at_s"), [("10s", 11), ("0s", 6)])
def test_waiting_outcomes_come_back_from_json_even_after_an_edit(delay: str, at_s: int) -> None:
    before, after = delayed("20s"), delayed(delay)
    early = event(True, 7, loss=0.5, wrong=1.0)._replace(decided_ns=10**9)
    before.ingest([early._replace(key=8, decided_ns=5 * 10**9), early], 6 * 10**9)
    after.restore(orjson.loads(orjson.dumps(before.to_json())))
    assert orjson.dumps(after.to_json()) == orjson.dumps(before.to_json())
    assert at_s == 6 or not after.ingest([early._replace(key=9)], 11 * 10**9 - 1)  # as old as another
    new = after.ingest([], at_s * 10**9)
    assert (new["loss"].values, new["wrong"].values) == ([0.5] * 2, [1.0] * 2)


S = 10**9
DAY_NS = 86400 * S


@pytest.mark.parametrize("set_by_ns", [DAY_NS, -3600 * S], ids=["a day ahead", "an hour back"])
def test_outcomes_wait_as_long_as_before_when_the_clock_is_set(set_by_ns: int) -> None:
    units, now_ns = delayed("10s"), 10 * DAY_NS
    units.ingest([event(True, loss=0.1)._replace(decided_ns=now_ns)], now_ns)
    assert not units.ingest([], now_ns + 4 * S)
    later_ns = now_ns + set_by_ns
    assert not units.ingest([event(True, loss=0.2)._replace(decided_ns=later_ns + 4 * S)], later_ns + 4 * S)
    assert not units.ingest([], later_ns + 10 * S - 1)
    assert units.ingest([], later_ns + 10 * S)["loss"].values == [0.1]
    assert units.ingest([], later_ns + 14 * S)["loss"].values == [0.2]


def test_outcomes_of_predictions_made_while_the_clock_was_ahead_wait_no_longer_than_others() -> None:
    """Nor do they after a restart, before which it was."""
    units, again, now_ns = delayed("10s"), delayed("10s"), 10 * DAY_NS
    units.ingest([event(True, loss=0.1)._replace(decided_ns=now_ns + DAY_NS)], now_ns)
    assert units.ingest([], now_ns + 10 * S)["loss"].values == [0.1]
    units.ingest([event(True, loss=0.2)._replace(decided_ns=now_ns + DAY_NS)], now_ns + DAY_NS)
    again.restore(orjson.loads(orjson.dumps(units.to_json())))
    assert not again.ingest([], now_ns + 20 * S)
    assert again.ingest([], now_ns + 30 * S)["loss"].values == [0.2]


def test_outcomes_that_are_old_enough_make_room_for_others_to_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting_outcomes, "MOST_WAITING", 1)
    units = delayed("10s")
    one, two = (event(True, loss=value)._replace(decided_ns=at * 10**9) for value, at in ((0.1, 1), (0.2, 11)))
    units.ingest([one], 2 * 10**9)
    assert units.ingest([two], 11 * 10**9)["loss"].values == [0.1] and not units.limits_reached("loss")
    units.ingest([two, two], 12 * 10**9)
    assert units.limits_reached("loss") == "2 outcomes found no room to wait for feedback_delay"
    assert units.ingest([], 21 * 10**9)["loss"].values == [0.2]


def test_many_names_leave_room_for_what_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PARTS", 2)
    revenue = {"name": "c", "metric": "metrics.revenue", "range": [0, 1], "direction": "decrease"}
    units = Outcomes([ComparisonSettings.model_validate(revenue)])
    for _ in range(2):
        units.ingest([event(True, **{f"metrics.{name}": 1.0}) for name in "abc"], 0)
        new = units.ingest([event(True, **{"metrics.revenue": 1.0, "wrong": 1.0, "reward": 1.0, "metrics.d": 1.0})], 0)
        assert new.keys() == {"metrics.revenue", "wrong", "reward"}
        units.reset()


def test_many_names_leave_room_for_what_is_declared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_PARTS", 1)
    monkeypatch.setattr(module, "MOST_OTHER_KEYS", 1)
    declared = frozenset({"metrics.revenue", "metrics.cost"})
    units, again = Outcomes((), declared), Outcomes((), declared)
    units.ingest([event(True, **{f"metrics.{name}": 1.0}) for name in "ab"], 0)
    for key in (1, 2):
        units.ingest([event(True, key, **dict.fromkeys(declared, 1.0))], 0)
    again.restore(units.to_json())
    assert again.to_json().keys() == {"metrics.a", *declared}
    assert again.limits_reached("metrics.cost") == "1 sticky keys are known, later ones do not count"


def test_sticky_keys_beyond_the_limit_are_said_not_to_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 3)
    monkeypatch.setattr(module, "MOST_OTHER_KEYS", 2)
    units = Outcomes(())
    for key in range(4):
        units.ingest([event(True, key, **{"wrong": 1.0, "metrics.a": 1.0})], 0)
    assert units.limits_reached("loss") == "3 sticky keys are known, later ones do not count"
    assert units.limits_reached("metrics.a").startswith("2 sticky keys") and not units.limits_reached("reward")


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
