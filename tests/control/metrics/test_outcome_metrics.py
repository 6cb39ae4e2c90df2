"""Exported outcomes and recall, from known sums."""

from gateway.control.metrics.data_metrics import DataMetrics
from gateway.control.metrics.outcome_metrics import OutcomeLabels, OutcomeMetrics
from gateway.control.record_writer.outcome_sums import ClassTruths, ReceivedSum
from tests.control.metrics.registry import registry

BIAS = OutcomeLabels("prices", 2, "candidate", "everyone", "error")
LABELS = {"model": "prices", "version": "2", "variant": "candidate", "route": "everyone", "outcome": "error"}


def test_outcomes_are_exported_as_a_count_and_a_sum_of_each_sign() -> None:
    found = registry(data=DataMetrics(outcomes=OutcomeMetrics({BIAS: ReceivedSum(5, 3.5, 7.25)})))
    assert found.get_sample_value("gateway_outcomes_total", LABELS) == 5
    assert found.get_sample_value("gateway_outcome_sum_total", {**LABELS, "sign": "positive"}) == 3.5
    assert found.get_sample_value("gateway_outcome_sum_total", {**LABELS, "sign": "negative"}) == 7.25


def test_sum_of_negative_values_is_exported_only_if_there_are_any() -> None:
    found = registry(data=DataMetrics(outcomes=OutcomeMetrics({BIAS: ReceivedSum(5, 3.5)})))
    assert found.get_sample_value("gateway_outcome_sum_total", {**LABELS, "sign": "positive"}) == 3.5
    assert found.get_sample_value("gateway_outcome_sum_total", {**LABELS, "sign": "negative"}) is None


def test_truths_are_exported_by_class_and_verdict() -> None:
    truths = {("digits", 1, 0): ClassTruths(9, 0), ("digits", 1, 7): ClassTruths(3, 2)}
    data = DataMetrics(outcomes=OutcomeMetrics(classes=truths))
    found = registry(data=data, labels={("digits", 1): ["zero", "one"]})
    samples = {
        (name, verdict): found.get_sample_value(
            "gateway_class_truths_total", {"model": "digits", "version": "1", "class": name, "verdict": verdict}
        )
        for name in ("zero", "7")
        for verdict in ("correct", "wrong")
    }
    assert samples == {("zero", "correct"): 9, ("zero", "wrong"): 0, ("7", "correct"): 3, ("7", "wrong"): 2}
