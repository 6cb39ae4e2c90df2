"""Exported metrics of records, feedback, classes and mirrors, from known counters."""

import pytest

from gateway.control.metrics.class_names import OTHER_CLASS
from gateway.control.metrics.data_metrics import DataMetrics
from gateway.shm.tally import CLASSES, UNSTRATIFIED, Tally
from tests.control.metrics.registry import registry


def test_records_and_spans_are_exported_by_kind_and_reason() -> None:
    found = registry(
        data=DataMetrics({"prediction": 7, "feedback": 2}, {("prediction", "full"): 5}, spans={"failed": 4})
    )
    assert found.get_sample_value("gateway_spans_total", {"result": "failed"}) == 4
    assert found.get_sample_value("gateway_records_written_total", {"kind": "prediction"}) == 7
    assert found.get_sample_value("gateway_records_written_total", {"kind": "feedback"}) == 2
    assert found.get_sample_value("gateway_records_dropped_total", {"kind": "prediction", "reason": "full"}) == 5


def test_requests_refused_because_unrecorded_are_exported_as_shed() -> None:
    found = registry(shed=3, unrecorded=4)
    assert found.get_sample_value("gateway_shed_total", {"reason": "records"}) == 4
    assert found.get_sample_value("gateway_shed_total", {"reason": "inflight"}) == 3


def test_feedback_is_exported_by_verdict() -> None:
    found = registry(data=DataMetrics(feedback={("digits", 2, "wrong"): 3}))
    labels = {"model": "digits", "version": "2", "verdict": "wrong"}
    assert found.get_sample_value("gateway_feedback_total", labels) == 3


@pytest.mark.parametrize(
    ("index", "labels", "name"),
    [
        (0, ["zero", "one"], "zero"),
        (1, ["zero", "one"], "one"),
        (2, ["zero", "one"], "2"),
        (5, [], "5"),
        (CLASSES - 1, [], OTHER_CLASS),
        (200, [], OTHER_CLASS),
        (200, [str(index) for index in range(300)], OTHER_CLASS),
        (CLASSES - 1, [f"class {index}" for index in range(CLASSES)], f"class {CLASSES - 1}"),
    ],
)
def test_predicted_class_is_exported_with_its_label_if_known(index: int, labels: list[str], name: str) -> None:
    tally = Tally()
    tally.classified(0, [index])
    tally.classified(UNSTRATIFIED, [index])
    found = registry(tally, labels={("digits", 1): labels})
    samples = [s for m in found.collect() if m.name == "gateway_predicted_class" for s in m.samples]
    assert [(s.labels["class"], s.value) for s in samples] == [(name, 2.0)], "and only classes that were seen are there"


def test_mirrors_and_the_queue_are_exported() -> None:
    tally = Tally()
    for word in ("agree", "agree", "disagree", "failed", "dropped"):
        tally.mirrored(word)
    tally.waiting(6)
    found = registry(tally)
    counts = {
        word: found.get_sample_value("gateway_mirror_total", {"model": "digits", "result": word})
        for word in ("agree", "disagree", "failed", "dropped")
    }
    assert counts == {"agree": 2, "disagree": 1, "failed": 1, "dropped": 1}
    assert found.get_sample_value("gateway_queue_depth", {"model": "digits", "version": "1"}) == 6
