"""Comparisons in the routing file: which metrics there are, what an outcome needs, and how settings are kept."""

from typing import Any

import pytest
from pydantic import ValidationError

from gateway.settings.guards import ComparisonSettings, ConditionSettings
from gateway.settings.metric_names import COUNTED, METRICS

REVENUE = {"metric": "metrics.revenue", "range": [0, 500], "direction": "decrease"}


def comparison(**settings: Any) -> ComparisonSettings:
    return ComparisonSettings.model_validate({"name": "c", **settings})


@pytest.mark.parametrize(
    ("settings", "outcome", "bounds", "harm"),
    [
        ({"metric": "wrong_feedback"}, "wrong", (0, 1), "increase"),
        ({"metric": "loss"}, "loss", (0, 1), "increase"),
        ({"metric": "age.loss", "range": [0, 40]}, "age.loss", (0, 40), "increase"),
        ({"metric": "flag.wrong"}, "flag.wrong", (0, 1), "increase"),
        ({"metric": "ndcg"}, "ndcg", (0, 1), "decrease"),
        ({"metric": "reward", "range": [-1, 1]}, "reward", (-1, 1), "decrease"),
        ({"metric": "reward", "range": [-1, 1], "direction": "increase"}, "reward", (-1, 1), "increase"),
        (REVENUE, "metrics.revenue", (0, 500), "decrease"),
    ],
)
def test_what_an_outcome_is_compared_by(
    settings: dict[str, Any], outcome: str, bounds: tuple[float, float], harm: str
) -> None:
    found = comparison(**settings)
    assert (found.outcome, found.bounds, found.harm) == (outcome, bounds, harm)


@pytest.mark.parametrize("metric", COUNTED)
def test_what_is_counted_is_no_outcome(metric: str) -> None:
    assert comparison(metric=metric, **({"threshold": "50ms"} if metric == "slow_requests" else {})).outcome == ""


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"metric": "reward"}, "reward needs a range"),
        ({"metric": "squared_error"}, "squared_error needs a range"),
        ({"metric": "metrics.a", "direction": "increase"}, "metrics.a needs a range"),
        ({"metric": "metrics.a", "range": [0, 1]}, "metrics.a needs a direction"),
        ({"metric": "metrics."}, "'metrics.' cannot be compared; what can are failures"),
        ({"metric": "accuracy"}, "'accuracy' cannot be compared; write wrong_feedback, which compares both versions"),
        ({"metric": "candidate.error_rate"}, "cannot be compared; write failures"),
        ({"metric": "wrong"}, "'wrong' cannot be compared"),
        ({"metric": 7}, "7 cannot be compared"),
        ({"metric": "failures", "tolerance": 0.1}, "failures has no tolerance"),
        ({"metric": "complaints", "feedback_delay": "1h"}, "complaints has no feedback_delay"),
        ({"metric": "wrong_feedback", "range": [0, 1]}, "wrong_feedback has no range"),
        (
            {"metric": "loss", "tolerance": 1},
            "less than the range's width, which is 1; without `range` it is",
        ),
        ({**REVENUE, "tolerance": 500}, "less than the range's width, which is 500 "),
        ({"metric": "loss", "tolerance": -0.1}, "tolerance must be from 0"),
        ({"metric": "loss", "range": [1, 1]}, "a range is two numbers"),
        ({"metric": "loss", "range": [1]}, "a range is two numbers, such as .*, not 1"),
        ({"metric": "loss", "range": 7, "tolerance": "1%"}, "percentage only if"),
        ({"metric": "age.wrong", "range": [0, 2]}, "age.wrong has no range"),
        ({"metric": "age.wrong", "direction": "decrease"}, "more of it is harm"),
        ({"metric": "loss", "direction": "decrease"}, "loss cannot have the direction `decrease`: more of it is harm"),
        ({**REVENUE, "tolerance": "1%"}, "tolerance is in the outcome's unit"),
        ({"metric": ".loss"}, "'.loss' cannot be compared"),
        ({"metric": "stable.loss"}, "'stable.loss' cannot be compared; both versions are: write loss"),
    ],
)
def test_outcome_that_cannot_be_compared_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        comparison(**settings)


def test_unset_keys_are_left_out_so_that_earlier_states_and_hosts_agree() -> None:
    assert comparison(metric="failures").model_dump() == {
        "name": "c", "metric": "failures", "threshold": None, "action": "stop"
    }  # fmt: skip
    kept = comparison(**REVENUE, tolerance=5, feedback_delay="1h").model_dump()
    assert ComparisonSettings.model_validate({**kept, "feedback_delay": "1h"}).model_dump() == kept
    assert (kept["range"], kept["tolerance"], kept["feedback_delay"]) == ((0, 500), 5, 3600)


@pytest.mark.parametrize("metric", [*METRICS, "candidate.loss", "stable.metrics.revenue", "candidate.age.ndcg"])
def test_live_metric_is_known(metric: str) -> None:
    assert ConditionSettings.model_validate({"metric": metric, "below": 1}).metric == metric


@pytest.mark.parametrize(
    ("metric", "meant"),
    [
        ("error_rate", "candidate.error_rate or stable.error_rate"),
        ("loss", "candidate.loss or stable.loss"),
        ("metrics.revenue", "candidate.metrics.revenue or stable.metrics.revenue"),
        ("candidate.acuracy", "candidate.accuracy"),
    ],
)
def test_live_metric_that_is_meant_is_named(metric: str, meant: str) -> None:
    with pytest.raises(ValidationError, match=rf"'{metric}' is not known; did you mean {meant}\?"):
        ConditionSettings.model_validate({"metric": metric, "below": 1})


@pytest.mark.parametrize(
    ("sides", "problem"), [({}, "needs either below or above"), ({"below": 1, "above": 2}, "has both below and above")]
)
def test_condition_has_one_side(sides: dict[str, int], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        ConditionSettings.model_validate({"metric": "gateway.inflight", **sides})


@pytest.mark.parametrize("metric", ["candidate..loss", "gateway.loss", "candidate.metrics.", "canary.loss", 5])
def test_unknown_live_metric_is_refused(metric: object) -> None:
    with pytest.raises(ValidationError, match=r"is not known; metrics are stable\.error_rate"):
        ConditionSettings.model_validate({"metric": metric, "below": 1})


def test_live_share_of_wrong_answers_is_named_by_its_opposite() -> None:
    with pytest.raises(ValidationError, match=r"'candidate\.wrong' is not known; its opposite is: candidate\.accuracy"):
        ConditionSettings.model_validate({"metric": "candidate.wrong", "below": 1})


def test_percentage_tolerates_a_part_of_shares() -> None:
    assert comparison(metric="loss", tolerance="5%").tolerance == 0.05
    assert comparison(metric="reward", range=[0, 1], tolerance="5%").tolerance == 0.05
