"""All that was said of one prediction, as one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.records.feedback import Feedback, FeedbackStore, folded
from gateway.records.joined import Query, fill, joined, records_in
from gateway.records.period import Period
from gateway.records.truth import class_of, same_as
from tests.recording import STEP_NS, Recording


def said(time_ns: int = 0, **fields: Any) -> dict[str, Any]:
    return {"prediction_id": "p", "time_ns": time_ns, "customer": "acme", **fields}


def test_the_last_truth_wins_and_the_conflict_is_seen() -> None:
    feedback = folded([said(2, truth=5, correct=False, customer="b"), said(1, truth=3, correct=True)])
    assert (feedback.truth, feedback.correct, feedback.conflict, feedback.count) == (5, False, True, 2)
    assert [(label.truth, label.customer) for label in feedback.labels] == [(3, "acme"), (5, "b")]


def test_the_same_feedback_again_counts_once() -> None:
    feedback = folded([said(time, truth=3, reward=0.5, metrics={"a": 1}) for time in range(3)])
    assert (feedback.count, feedback.conflict, feedback.reward) == (1, False, 0.5)


def test_what_is_said_in_parts_adds_up() -> None:
    feedback = folded(
        [said(1, truth=3, correct=True), said(2, reward=0.1), said(3, reward=0.2, metrics={"a": 1.0, "b": 2.0}),
         said(4, metrics={"a": 3.0}, comment="slow")]
    )  # fmt: skip
    assert feedback == Feedback(3, 0.2, True, {"a": 3.0, "b": 2.0}, "slow", 4, feedback.labels)
    assert not feedback.conflict


@pytest.mark.parametrize(
    ("truth", "labels", "expected"),
    [
        (7, (), 7),
        (7.0, ["0"] * 10, 7),
        (10, ["0"] * 10, None),
        (-1, (), None),
        ("billing", ["account", "billing"], 1),
        ("taxes", ["account", "billing"], None),
        ("5", ["3", "5"], 1),
        (5, ["3", "5"], None),
        ("cat", (), None),
        (True, ["no", "yes"], 1),
        (1.5, (), None),
        ([1], (), None),
        (None, (), None),
    ],
)
def test_the_class_that_a_truth_names(truth: object, labels: list[str], expected: int | None) -> None:
    assert class_of(truth, labels) == expected


def test_a_label_and_its_index_are_no_conflict() -> None:
    assert same_as(1, ["account", "billing"]) == same_as("billing", ["account", "billing"])
    assert not folded([said(1, truth="billing"), said(2, truth=1)], ["account", "billing"]).conflict
    assert folded([said(1, truth="billing"), said(2, truth=1)]).conflict


@pytest.fixture
def recording() -> Recording:
    recording = Recording()
    predictions = [recording.record(variant=("stable", "candidate")[count % 3 == 0]) for count in range(1200)]
    for prediction in predictions[::2]:
        recording.feedback(prediction, truth=1)
    return recording


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.sqlite", ()) as store:
        yield store


def ids(recording: Recording, store: FeedbackStore, folder: Path, query: Query) -> list[tuple[str, int]]:
    records = records_in(recording.save(folder))
    fill(store, records, query, lambda size: None)
    pairs = joined(records, query, store, lambda size: None)
    return [(prediction.prediction_id, feedback.count) for prediction, feedback in pairs]


def test_every_prediction_with_its_feedback(recording: Recording, store: FeedbackStore, tmp_path: Path) -> None:
    found = ids(recording, store, tmp_path / "records", Query("digits"))
    assert found == [(f"p{number}", number % 2) for number in range(1, 1201)]
    assert store.truth_kinds == {int}


def test_only_what_was_asked_for(recording: Recording, store: FeedbackStore, tmp_path: Path) -> None:
    first_ns = recording.clock_ns - 1800 * STEP_NS
    period = Period(first_ns + 11 * STEP_NS, first_ns + 24 * STEP_NS)
    query = Query("digits", period, variant="candidate", with_feedback=True)
    assert ids(recording, store, tmp_path / "records", query) == [("p13", 1), ("p19", 1)]


def test_a_prediction_that_was_written_twice(recording: Recording, store: FeedbackStore, tmp_path: Path) -> None:
    lines = recording.lines["predictions"]
    lines[50:50] = lines[10:30]
    assert len(ids(recording, store, tmp_path / "records", Query("digits"))) == 1200
