"""The effect of each outcome: its range, its direction, routes, words, bounds and what is kept."""

import random
from typing import Any

import orjson
import pytest

from gateway.control.guards import effects as module
from gateway.control.guards import outcomes as outcomes_module
from gateway.control.guards.effects import Effects
from gateway.control.guards.observation import FeedbackEvent
from gateway.control.guards.outcomes import NewUnits, Outcomes
from gateway.evidence.effect import Effect, EffectVerdict
from gateway.settings.guards import ComparisonSettings

REVENUE = {"name": "r", "metric": "metrics.revenue", "range": [0, 500], "direction": "decrease", "tolerance": 30}


def effects(*comparisons: dict[str, Any]) -> Effects:
    return Effects([ComparisonSettings.model_validate(one) for one in comparisons])


def traffic(count: int, stable: float, candidate: float, routes: str = "a", most: float = 1.0) -> NewUnits:
    """Outcomes of 0 or `most` with these means, at a weight of 30%, on routes of a letter each."""
    generator, new = random.Random(count), NewUnits()
    for _ in range(count):
        of = generator.random() < 0.3
        new.add(NewUnits([most * (generator.random() < (candidate if of else stable))], [of], [0.3], [0.3], []))
        new.routes.append(generator.choice(routes))
    return new


def whole(found: tuple[Effect, ...]) -> Effect:
    (one,) = [effect for effect in found if effect.route is None]
    return one


@pytest.mark.parametrize(
    ("name", "means", "comparisons", "verdict"),
    [
        ("wrong", (0.2, 0.3), (), EffectVerdict.WORSE),
        ("wrong", (0.3, 0.2), (), EffectVerdict.BETTER),
        ("wrong", (0.3, 0.3), (), EffectVerdict.UNKNOWN),
        ("reward", (0.2, 0.3), (), EffectVerdict.BETTER),
        ("age.loss", (0.2, 0.3), (), EffectVerdict.WORSE),
        ("ndcg", (0.2, 0.3), (), EffectVerdict.BETTER),
        ("metrics.loss", (0.2, 0.3), (), EffectVerdict.HIGHER),
        ("error", (0.3, 0.2), (), EffectVerdict.LOWER),
        ("metrics.revenue", (0.3, 0.2), (REVENUE,), EffectVerdict.WORSE),
        ("metrics.revenue", (0.3, 0.3), (REVENUE,), EffectVerdict.NO_WORSE),
    ],
)
def test_verdict(name: str, means: tuple[float, float], comparisons: Any, verdict: EffectVerdict) -> None:
    found, most = effects(*comparisons), 500.0 if comparisons else 1.0
    found.add({name: traffic(20_000, *means, most=most)}, 10**9)
    one = whole(found.read(Outcomes(())))
    assert one.verdict is verdict
    assert one.low is not None and one.high is not None and one.effect is not None
    assert one.low < (means[1] - means[0]) * most < one.high
    assert one.asymptotic == (not comparisons and name not in ("wrong", "ndcg"))
    assert one.candidate_units + one.stable_units == 20_000
    assert one.more_units is None or (verdict is EffectVerdict.UNKNOWN and one.more_units > 0)
    assert one.words.startswith(f"no worse than {30}" if verdict is EffectVerdict.NO_WORSE else str(verdict))


def test_routes_are_shown_beside_the_whole_if_there_are_several() -> None:
    found = effects()
    found.add({"wrong": traffic(3000, 0.3, 0.3)}, 10**9)
    assert [one.route for one in found.read(Outcomes(()))] == [None]
    found.add({"wrong": traffic(3000, 0.3, 0.3, "bc")}, 3 * 10**9)
    outcomes = Outcomes(())
    outcomes.ingest([FeedbackEvent(0, 0, 500_000, number % 3 > 0, None, {"wrong": 0.0}) for number in range(900)], 0)
    all_, *routes = found.read(outcomes)
    assert [one.route for one in routes] == ["a", "b", "c"] and all_.route is None
    assert {one.alpha for one in routes} == {0.05 / 3} and all_.alpha == 0.05
    assert sum(one.stable_units for one in routes) == all_.stable_units
    assert (
        all_.feedback_ratio == pytest.approx(2)
        and "2 times as often" in all_.words
        and routes[0].feedback_ratio is None
    )


def test_routes_that_have_had_no_outcomes_yet_are_questions_too() -> None:
    found = Effects((), 5)
    found.add({"wrong": traffic(300, 0.3, 0.3, "ab")}, 10**9)
    assert [one.alpha for one in found.read(Outcomes(()))] == [0.05, 0.05 / 5, 0.05 / 5]


def test_sticky_keys_that_do_not_count_are_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outcomes_module, "MOST_KEYS", 1)
    found, outcomes = effects(), Outcomes(())
    found.add(outcomes.ingest([FeedbackEvent(0, 0, 500_000, True, 1, {"wrong": 0.0})], 0), 10**9)
    assert whole(found.read(outcomes)).words.endswith("1 sticky keys are known, later ones do not count")


def test_reading_leaves_the_last_second_for_the_next_addition() -> None:
    found = effects()
    found.add({"wrong": traffic(30, 0.3, 0.3)}, 10**9)
    found.add({"wrong": traffic(20, 0.3, 0.3)}, 10**9 + 1)
    assert whole(found.read(Outcomes(()))).candidate_units + whole(found.read(Outcomes(()))).stable_units == 30
    found.add({}, 2 * 10**9)
    assert whole(found.read(Outcomes(()))).candidate_units + whole(found.read(Outcomes(()))).stable_units == 50


def test_numbers_of_outcomes_and_routes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OUTCOMES", 2)
    monkeypatch.setattr(module, "MOST_ROUTES", 3)
    found = effects()
    found.add({f"metrics.{name}": traffic(50, 0.3, 0.3, "abcde") for name in "xyz"}, 10**9)
    assert found.outcomes == ("metrics.x", "metrics.y")
    assert len(found.read(Outcomes(()))) == 2 * 4


def test_many_names_leave_room_for_what_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OUTCOMES", 1)
    found = effects(REVENUE)
    found.add({f"metrics.{name}": traffic(5, 0.3, 0.3) for name in ("x", "y", "revenue")}, 10**9)
    found.add({name: traffic(5, 0.3, 0.3) for name in ("wrong", "loss", "reward", "metrics.z")}, 2 * 10**9)
    assert found.outcomes == ("metrics.x", "metrics.revenue", "wrong", "loss", "reward")


def test_what_is_declared_counts_and_is_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_OUTCOMES", 1)
    found = Effects((), 1, frozenset({"metrics.revenue"}))
    found.add({f"metrics.{name}": traffic(5, 0.3, 0.3) for name in ("x", "y", "revenue")}, 10**9)
    assert [one.outcome for one in found.read(Outcomes(()))] == ["metrics.revenue", "metrics.x"]


def test_what_is_outside_of_the_range_is_clipped_and_counted() -> None:
    found = effects(REVENUE)
    found.add(
        {"metrics.revenue": NewUnits([-1.0, 600.0, 500.0, 0.0], [True, False] * 2, [0.5] * 4, [0.5] * 4, ["a"] * 4)},
        10**9,
    )
    one = whole(found.read(Outcomes(())))
    assert one.clipped == 2 and one.candidate_mean == 249.5, "means are as they came"
    assert one.words.endswith("2 of 4 outcomes are beyond the range, and count as its end")


def test_interval_holds_what_either_way_of_counting_shows() -> None:
    """It reaches from the lower end of both to the upper one; the means are those of customers, each once."""
    first, left = traffic(4000, 0.3, 0.3, "ab"), traffic(3000, 0.3, 0.6, "ab")
    nothing = [[0.0] * len(one.values) for one in (first, left)]
    parted = NewUnits()
    parted.add(NewUnits(first.values, first.candidate, first.chances, nothing[0], first.routes))
    parted.add(NewUnits(left.values, left.candidate, nothing[1], left.chances, left.routes))
    found, *apart = effects(), effects(), effects()
    begun = traffic(500, 0.3, 0.3, "ab")
    for one, new in zip((found, *apart), (parted, first, left), strict=True):
        one.add({"wrong": begun}, 10**9)
        one.add({"wrong": new}, 3 * 10**9)
    restored = effects()
    restored.restore(orjson.loads(orjson.dumps(found.to_json())))
    outcomes = Outcomes(())
    assert restored.read(outcomes) == found.read(outcomes)
    for both, one, other in zip(found.read(outcomes), *(each.read(outcomes) for each in apart), strict=True):
        assert (both.low, both.high) == (min(one.low or 0, other.low or 0), max(one.high or 0, other.high or 0))
        assert (both.effect, both.candidate_units, both.route) == (one.effect, one.candidate_units, one.route)
        assert one.low != other.low and one.high != other.high
    for one in (found, restored):
        one.add({"wrong": parted}, 5 * 10**9)
    assert restored.read(outcomes) == found.read(outcomes)
    few = effects()
    few.add({"wrong": NewUnits([1.0, 0.0], [True, False], [0.5] * 2, [0.5, 0.0], ["a"] * 2)}, 10**9)
    assert whole(few.read(outcomes)).verdict is EffectVerdict.UNKNOWN and whole(few.read(outcomes)).low is None


def test_another_outcome_of_the_same_customer_is_not_the_same_though_its_chance_is() -> None:
    one, other = [1.0, 0.0], [0.0, 1.0]
    found, alone = effects(), effects()
    begun = traffic(500, 0.3, 0.3)
    for each in (found, alone):
        each.add({"wrong": begun}, 10**9)
    parted = [0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5]
    found.add({"wrong": NewUnits([*one, *other], [True, False] * 2, *parted, ["a"] * 4)}, 3 * 10**9)
    alone.add({"wrong": NewUnits(one, [True, False], [0.5] * 2, [0.5] * 2, ["a"] * 2)}, 3 * 10**9)
    assert [route for route, _ in found.to_json()["wrong"]["thinned"]] == [None, "a"]
    both, first = (whole(each.read(Outcomes(()))) for each in (found, alone))
    assert both.low is not None and first.low is not None
    assert both.low < first.low and both.high == first.high, "they are the worse for the other outcomes"


def shares(count: int, candidate: int, first: float, left: float) -> NewUnits:
    """Outcomes of both versions in turn, of which 3 of ten are 1, and so many of the candidate's. `first`, `left`: the
    chances in either way of counting.
    """
    return NewUnits(
        [float(number // 2 % 10 < (candidate if number % 2 else 3)) for number in range(count)],
        [number % 2 == 1 for number in range(count)],
        [first] * count,
        [left] * count,
        ["a"] * count,
    )


@pytest.mark.parametrize(("left", "told"), [(5, True), (3, False), (1, False)])
def test_forecast_is_until_both_ways_of_counting_tell(left: int, told: bool) -> None:
    """No number is said where they never will."""
    found, alone, apart = effects(), effects(), effects()
    parted = shares(200, 4, 0.5, 0.0)
    parted.add(shares(100, left, 0.0, 0.5))
    ways = shares(200, 4, 0.5, 0.5), shares(100, left, 0.5, 0.5)
    for each, new in zip((found, alone, apart), (parted, *ways), strict=True):
        each.add({"wrong": new}, 10**9)
    both, one, two = (whole(each.read(Outcomes(()))).more_units for each in (found, alone, apart))
    assert one is not None and (both is not None) is told
    if told:
        assert two is not None and both == pytest.approx(max(200 + one, 2 * (100 + two)) - 200, abs=2)


def test_few_outcomes_are_said_to_be_too_few() -> None:
    found = effects()
    found.add({"metrics.x": NewUnits([1.0, 2.0], [True, False], [0.5] * 2, [0.5] * 2, ["a"] * 2)}, 10**9)
    assert whole(found.read(Outcomes(()))).words == "not known yet: 1 and 1 outcomes, too few to tell"


def test_state_comes_back_from_json_unless_the_range_is_another() -> None:
    found, restored, other = effects(REVENUE), effects(REVENUE), effects({**REVENUE, "range": [0, 400]})
    found.add({"metrics.revenue": traffic(500, 0.3, 0.3, "ab", 500.0), "wrong": traffic(500, 0.3, 0.2)}, 10**9)
    found.read(Outcomes(()))
    kept = orjson.loads(orjson.dumps(found.to_json()))
    for one in (restored, other):
        one.restore(kept)
    assert restored.read(Outcomes(())) == found.read(Outcomes(()))
    assert {one.outcome for one in other.read(Outcomes(()))} == {"wrong"}
    found.reset()
    assert found.read(Outcomes(())) == () and found.to_json() == {}
