"""Ranges of rewards and business metrics: values outside are refused, and ignored where they were recorded before."""

import math
from typing import Any

import pytest

from gateway.control.record_writer.feedback_stats import FeedbackStats
from gateway.errors import InvalidRequest, SettingsError
from gateway.records import outcomes
from gateway.records.segments import FEEDBACK, segment_path
from gateway.settings.load import parse
from gateway.settings.model import FeedbackSettings, ModelSettings
from tests.control.record_writer.test_feedback_stats import credit, feedback_line, ledger, prediction

__all__ = ["ledger"]
DECLARED = FeedbackSettings(reward=(0, 1), metrics={"revenue": (0, 500)})


@pytest.mark.parametrize("value", [0.0, 1.0, 0.5])
def test_value_within_the_range_is_accepted(value: float) -> None:
    assert outcomes.reward(value, DECLARED) == value


@pytest.mark.parametrize("value", [-1e-9, 1.0001, 1e20, 1.7e308, -1.7e308, math.inf, math.nan])
def test_value_outside_is_refused_with_the_range(value: float) -> None:
    with pytest.raises(InvalidRequest, match=r"reward must be from 0 to 1, which feedback\.reward in model\.yaml sets"):
        outcomes.reward(value, DECLARED)
    with pytest.raises(InvalidRequest, match=r"metrics\.revenue must be from 0 to 500"):
        outcomes.metric("revenue", value * 600, DECLARED)


def test_default_range_keeps_sums_finite() -> None:
    for far in (1.7e308, 1e20, -1e9):
        with pytest.raises(InvalidRequest):
            outcomes.reward(far, outcomes.DEFAULT_SETTINGS)
    assert outcomes.metric("any", -1e9, outcomes.DEFAULT_SETTINGS) == -1e9


@pytest.mark.parametrize("range_", ["[1, 0]", "[0, 0]", "[0, 1e13]", "[.nan, 1]", "[0]", "[0, 1, 2]", "[-.inf, .inf]"])
def test_invalid_range_is_refused(range_: str) -> None:
    with pytest.raises(SettingsError, match=r"feedback\.reward"):
        parse(f"feedback: {{reward: {range_}}}", ModelSettings, "model.yaml")


@pytest.mark.parametrize("odd", [1.7e308, -1.7e308, 1e20, 10**19, True, "1", [1]])
def test_out_of_range_values_recorded_earlier_are_ignored(ledger: FeedbackStats, odd: Any) -> None:
    lines = [feedback_line(prediction(number), reward=odd, metrics={"sales": odd}) for number in range(3)]
    ledger.add(b"".join(lines) + feedback_line(prediction(9), reward=0.5, metrics={"sales": 2.0}))
    assert credit(ledger).sums.reward_mean == 0.5
    assert credit(ledger).received_of("reward") == (1, 0.5, 0.0)
    assert credit(ledger).sums.outcomes["metrics.sales"] == (1, 2.0)
    assert [heard.outcomes for heard in ledger.take_new()] == [{"reward": 0.5, "metrics.sales": 2.0}]


def test_out_of_range_values_of_a_former_run_are_ignored(ledger: FeedbackStats, tmp_path: Any) -> None:
    path = segment_path(tmp_path, FEEDBACK, 1, open=False)
    path.write_bytes(feedback_line(prediction(1), reward=1.7e308) + feedback_line(prediction(2), reward=0.25))
    ledger.load(tmp_path)
    ledger.add(feedback_line(prediction(1), reward=0.75))
    assert credit(ledger).sums.reward_mean == 0.5


def test_sums_of_the_largest_allowed_values_are_exact(ledger: FeedbackStats) -> None:
    for number in range(2000):
        ledger.add(feedback_line(prediction(number), reward=1e12 * (-1) ** number))
    assert credit(ledger).sums.reward_mean == 0.0
