"""A comparison of means: its scale, its direction, its forecast, its record and its state."""

import random
from typing import Any

import orjson
import pytest

from gateway.control.guards.comparisons import Guards, GuardVerdict
from gateway.control.guards.mean_evidence import MOST_LISTED, MeanEvidence, recomputed
from gateway.control.guards.observation import FeedbackEvent, Observation
from gateway.control.guards.outcomes import NewUnits
from gateway.control.guards.window import MetricWindow
from gateway.control.release.wording import verdict_text
from gateway.settings.guards import ComparisonSettings, GuardsSettings


def evidence(**settings: Any) -> MeanEvidence:
    return MeanEvidence(ComparisonSettings.model_validate({"name": "c", **settings}))


def units(count: int, stable: float, candidate: float, low: float = 0.0, high: float = 1.0) -> NewUnits:
    generator, new = random.Random(count), NewUnits()
    for _ in range(count):
        of = generator.random() < 0.3
        value = high if generator.random() < (candidate if of else stable) else low
        new.add(NewUnits([value], [of], [0.3], [0.3], ["all"]))
    return new


def test_a_lower_reward_is_as_harmful_as_a_higher_loss_of_the_same_size() -> None:
    loss, reward = evidence(metric="loss"), evidence(metric="reward", range=[-10, 30])
    new = units(800, 0.2, 0.5)
    loss.add(new)
    reward.add(NewUnits([30 - 40 * value for value in new.values], new.candidate, new.chances, new.thinned, new.routes))
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
    first = NewUnits(new.values[:at], new.candidate[:at], new.chances[:at], new.thinned[:at], new.routes[:at])
    one.add(first)
    more = one.more_units(enough)
    assert more is not None
    reached = at
    while one.log_e < enough:
        cut = slice(reached, reached + 50)
        one.add(NewUnits(new.values[cut], new.candidate[cut], new.chances[cut], new.thinned[cut], new.routes[cut]))
        reached += 50
    assert more == pytest.approx(reached - at, rel=0.6) and one.more_units(enough) is None


@pytest.mark.parametrize("sizes", [(10, 20), (MOST_LISTED - 1, 2), (MOST_LISTED, 1), (3 * MOST_LISTED,)])
def test_evidence_is_recomputed_from_its_record(sizes: tuple[int, ...]) -> None:
    one = evidence(metric="reward", range=[0, 2], tolerance=0.1)
    for size in sizes:
        one.add(units(size, 0.5, 0.4, high=2.5))
    record = orjson.loads(orjson.dumps(one.record()))
    again = recomputed(record)
    assert again == pytest.approx((one.log_e, one.log_safe))
    assert len(record["since"]) >= min(sizes[-1], MOST_LISTED) or sizes[-1] > MOST_LISTED
    assert record["clipped"] > 0 and sum(record["outcomes"]) == sum(sizes)


def both(count: int, stable: float, candidate: float, left: float) -> NewUnits:
    """Units of which thinning leaves stable's, and half as many of the candidate's, with a mean of `left`."""
    generator, found = random.Random(1), NewUnits()
    for value, of in zip((made := units(count, stable, candidate)).values, made.candidate, strict=True):
        found.add(NewUnits([value], [of], [0.3], [0.0 if of else 0.18], ["all"]))
        if of and generator.random() < 0.5:
            found.add(NewUnits([float(generator.random() < left)], [True], [0.0], [0.18], ["all"]))
    return found


@pytest.mark.parametrize(("candidate", "left", "harmful"), [(0.7, 0.7, True), (0.7, 0.1, False), (0.1, 0.7, False)])
def test_harm_is_what_both_ways_of_counting_show(candidate: float, left: float, harmful: bool) -> None:
    one, tolerant = evidence(metric="loss"), evidence(metric="loss", tolerance=0.2)
    for process in (one, tolerant):
        process.add(units(200, 0.2, 0.2))
        process.add(both(2000, 0.2, candidate, left))
    assert one.thinned is not None
    assert one.log_e == min(one.first.process.log_e, one.thinned.process.log_e)
    assert (one.log_e > 5) is harmful and (one.first.process.log_e > 5) is (candidate > 0.5)
    assert (one.more_units(5.0) is None) and (harmful or one.more_units(1e9) is None)
    assert tolerant.thinned is not None and tolerant.log_safe < 0
    assert tolerant.log_safe == min(tolerant.first.process.log_safe, tolerant.thinned.process.log_safe)
    assert sum(one.counts) == 2200, "of each customer once"


def test_forecast_is_of_the_way_of_counting_that_takes_longer() -> None:
    one = evidence(metric="loss")
    one.add(both(900, 0.2, 0.7, 0.4))
    assert one.thinned is not None
    slower = one.thinned.more_units(1000.0)
    first = one.first.more_units(1000.0)
    assert slower is not None and first is not None and slower > first
    assert one.more_units(1000.0) == round(slower * sum(one.counts) / one.thinned.process.count) > slower


def test_ways_of_counting_part_where_they_differ_and_meet_again_at_a_restart() -> None:
    one, alone = evidence(metric="loss"), evidence(metric="loss")
    for process in (one, alone):
        process.add(units(400, 0.2, 0.5))
    assert one.thinned is None and one.record()["thinned"] is None and one.to_json()["thinned"] is None
    more = both(50, 0.2, 0.5, 0.5)
    one.add(more)
    for name, process in (("chances", evidence(metric="loss")), ("thinned", evidence(metric="loss"))):
        process.add(units(400, 0.2, 0.5))
        kept = [row for row in zip(more.values, more.candidate, getattr(more, name), strict=True) if row[2]]
        values, candidate, chances = map(list, zip(*kept, strict=True))
        process.add(NewUnits(values, candidate, chances, chances, ["all"] * len(kept)))
        found = one.first if name == "chances" else one.thinned
        assert found is not None and process.thinned is None
        assert found.process.to_json() == process.first.process.to_json()
    one.restart()
    assert one.thinned is None and one.log_e == 0


@pytest.mark.parametrize("count", [60, 2000])
def test_evidence_of_both_ways_is_recomputed_from_its_record_and_comes_back_from_a_state(count: int) -> None:
    one, again = (evidence(metric="loss", tolerance=0.05) for _ in range(2))
    one.add(units(150, 0.2, 0.5))
    one.add(both(count, 0.2, 0.7, 0.4))
    record = orjson.loads(orjson.dumps(one.record()))
    assert recomputed(record) == pytest.approx((one.log_e, one.log_safe))
    assert recomputed({**record, "thinned": None}) != pytest.approx((one.log_e, one.log_safe))
    again.restore(orjson.loads(orjson.dumps(one.to_json())))
    assert orjson.dumps(again.to_json()) == orjson.dumps(one.to_json())
    stricter = evidence(metric="loss", tolerance=0.01)
    stricter.restore(one.to_json())
    assert stricter.first.process.tolerance == 0.01, "that of the settings"
    for process in (one, again):
        process.add(both(100, 0.2, 0.7, 0.6))
    assert (again.log_e, again.log_safe, again.record()) == (one.log_e, one.log_safe, one.record())


def test_guard_says_how_many_outcomes_are_clipped() -> None:
    guards = Guards(
        GuardsSettings.model_validate({"comparisons": [{"name": "c", "metric": "reward", "range": [0, 1]}]})
    )
    told = [FeedbackEvent(0, 0, 500_000, number > 1, None, {"reward": float(number)}) for number in range(4)]
    guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=MetricWindow(()), feedback=told), 0)
    found = guards.assess(1).results[0]
    assert verdict_text(found, []) == "inconclusive; 2 of 4 outcomes are beyond the range, and count as its end"


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
