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
        ({"metric": "accuracy"}, "'accuracy' cannot be compared"),
        ({"metric": "wrong"}, "'wrong' cannot be compared"),
        ({"metric": 7}, "7 cannot be compared"),
        ({"metric": "failures", "tolerance": 0.1}, "failures has no tolerance"),
        ({"metric": "complaints", "feedback_delay": "1h"}, "complaints has no feedback_delay"),
        ({"metric": "wrong_feedback", "range": [0, 1]}, "wrong_feedback has no range"),
        ({"metric": "loss", "tolerance": 1}, "tolerance must be from 0 to less than the range's width, which is 1"),
        ({"metric": "loss", "tolerance": -0.1}, "tolerance must be from 0"),
        ({"metric": "loss", "range": [1, 1]}, "a range is two numbers"),
    ],
)
def test_outcome_that_cannot_be_compared_is_refused(settings: dict[str, Any], problem: str) -> None:
    with pytest.raises(ValidationError, match=problem):
        comparison(**settings)


def test_unset_keys_are_left_out_so_that_earlier_states_and_hosts_agree() -> None:
    assert comparison(metric="failures").model_dump() == {
        "name": "c", "metric": "failures", "threshold": None, "action": "stop"
    }  # fmt: skip
    kept = comparison(**REVENUE, tolerance="1%", feedback_delay="1h").model_dump()
    assert ComparisonSettings.model_validate({**kept, "feedback_delay": "1h"}).model_dump() == kept
    assert (kept["range"], kept["tolerance"], kept["feedback_delay"]) == ((0, 500), 0.01, 3600)


@pytest.mark.parametrize("metric", [*METRICS, "candidate.loss", "stable.metrics.revenue", "candidate.age.ndcg"])
def test_live_metric_is_known(metric: str) -> None:
    assert ConditionSettings.model_validate({"metric": metric, "below": 1}).metric == metric


@pytest.mark.parametrize("metric", ["candidate.wrong", "loss", "gateway.loss", "candidate.metrics.", "canary.loss", 5])
def test_unknown_live_metric_is_refused(metric: object) -> None:
    with pytest.raises(ValidationError, match=r"is not known; metrics are stable\.error_rate"):
        ConditionSettings.model_validate({"metric": metric, "below": 1})
