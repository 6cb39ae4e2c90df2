"""A comparison of means: its scale, its direction, its forecast, its record and its state."""

import random
from typing import Any

import orjson
import pytest

from gateway.control.guards.comparisons import Guards, GuardVerdict
from gateway.control.guards.mean_evidence import MOST_LISTED, MeanEvidence, recomputed
from gateway.control.guards.outcomes import NewUnits
from gateway.settings.guards import ComparisonSettings, GuardsSettings


def evidence(**settings: Any) -> MeanEvidence:
    return MeanEvidence(ComparisonSettings.model_validate({"name": "c", **settings}))


def units(count: int, stable: float, candidate: float, low: float = 0.0, high: float = 1.0) -> NewUnits:
    generator, new = random.Random(count), NewUnits()
    for _ in range(count):
        of = generator.random() < 0.3
        value = high if generator.random() < (candidate if of else stable) else low
        new.add(NewUnits([value], [of], [0.3], ["all"]))
    return new


def test_a_lower_reward_is_as_harmful_as_a_higher_loss_of_the_same_size() -> None:
    loss, reward = evidence(metric="loss"), evidence(metric="reward", range=[-10, 30])
    new = units(800, 0.2, 0.5)
    loss.add(new)
    reward.add(NewUnits([30 - 40 * value for value in new.values], new.candidate, new.chances, new.routes))
    assert reward.log_e == pytest.approx(loss.log_e) and loss.log_e > 10
    assert evidence(metric="metrics.a", range=[0, 1], direction="increase").log_e == 0


def test_tolerated_harm_is_no_evidence_and_shown_to_be_tolerated() -> None:
    strict, tolerant = evidence(metric="loss"), evidence(metric="loss", tolerance=0.2)
    for one in (strict, tolerant):
        one.add(units(4000, 0.2, 0.3))
    assert strict.log_e > 5 and tolerant.log_e < 0 and tolerant.log_safe > 5


def test_forecast_is_about_what_it_takes() -> None:
    one, enough = evidence(metric="loss"), 12.0
    assert one.more_units(enough) is None
    new, at = units(6000, 0.2, 0.3), 1500
    first = NewUnits(new.values[:at], new.candidate[:at], new.chances[:at], new.routes[:at])
    one.add(first)
    more = one.more_units(enough)
    assert more is not None
    reached = at
    while one.log_e < enough:
        cut = slice(reached, reached + 50)
        one.add(NewUnits(new.values[cut], new.candidate[cut], new.chances[cut], new.routes[cut]))
        reached += 50
    assert more == pytest.approx(reached - at, rel=0.6) and one.more_units(enough) is None


@pytest.mark.parametrize("sizes", [(10, 20), (MOST_LISTED - 1, 2), (MOST_LISTED, 1), (3 * MOST_LISTED,)])
def test_evidence_is_recomputed_from_its_record(sizes: tuple[int, ...]) -> None:
    one = evidence(metric="reward", range=[0, 2], tolerance=0.1)
    for size in sizes:
        one.add(units(size, 0.5, 0.4, high=2.5))
    record = orjson.loads(orjson.dumps(one.record()))
    again = recomputed(record)
    assert (again.log_e, again.log_safe) == pytest.approx((one.log_e, one.log_safe))
    assert len(record["since"]) >= min(sizes[-1], MOST_LISTED) or sizes[-1] > MOST_LISTED
    assert record["clipped"] > 0 and sum(record["outcomes"]) == sum(sizes)


def test_state_of_an_earlier_gateway_starts_anew_and_the_present_one_comes_back() -> None:
    settings = GuardsSettings.model_validate({"comparisons": [{"name": "c", "metric": "wrong_feedback"}]})
    old = {"wrong_feedback": {"counts": [[0.1, True, 30]], "known": [[0, 100_000, [5]]]}}
    guards = Guards(settings)
    guards.restore(old)
    assert guards.assess(1).results[0].verdict is GuardVerdict.NO_DATA
    (process,) = [one.process for one in guards.comparisons if one.settings.metric == "wrong_feedback"]
    assert isinstance(process, MeanEvidence)
    process.add(units(300, 0.2, 0.4))
    again = Guards(settings)
    again.restore(orjson.loads(orjson.dumps(guards.to_json())))
    assert again.assess(1) == guards.assess(1) and process.log_e != 0
    assert orjson.dumps(again.to_json()) == orjson.dumps(guards.to_json())
