"""Folding all feedback on one prediction into one record."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.merged_feedback import StoredFeedback, merge_feedback
from gateway.offline.reader import Query, join_feedback, load_feedback, records_in
from gateway.records.time_range import TimeRange
from tests.recording import STEP_NS, Recording


def feedback_record(time_ns: int = 0, **fields: Any) -> dict[str, Any]:
    return {"prediction_id": "p", "time_ns": time_ns, "customer": "acme", **fields}


def test_last_truth_wins_and_the_conflict_is_flagged() -> None:
    feedback = merge_feedback(
        [feedback_record(2, truth=5, correct=False, customer="b"), feedback_record(1, truth=3, correct=True)]
    )
    assert (feedback.truth, feedback.correct, feedback.conflict, feedback.count) == (5, False, True, 2)
    assert [(label.truth, label.customer) for label in feedback.labels] == [(3, "acme"), (5, "b")]


def test_repeated_feedback_counts_once() -> None:
    feedback = merge_feedback([feedback_record(time, truth=3, reward=0.5, metrics={"a": 1}) for time in range(3)])
    assert (feedback.count, feedback.conflict, feedback.reward) == (1, False, 0.5)


def test_partial_feedback_is_combined() -> None:
    feedback = merge_feedback(
        [
            feedback_record(1, truth=3, correct=True),
            feedback_record(2, reward=0.1),
            feedback_record(3, reward=0.2, metrics={"a": 1.0, "b": 2.0}),
            feedback_record(4, metrics={"a": 3.0}, comment="slow"),
        ]
    )
    assert feedback == StoredFeedback(
        truth=3,
        truth_class=None,
        reward=0.2,
        correct=True,
        metrics={"a": 3.0, "b": 2.0},
        comment="slow",
        count=4,
        labels=feedback.labels,
    )
    assert not feedback.conflict


def test_class_name_and_class_index_of_one_class_are_no_conflict() -> None:
    by_name, by_index = feedback_record(1, truth="billing", truth_class=1), feedback_record(2, truth=1, truth_class=1)
    assert not merge_feedback([by_name, by_index]).conflict
    assert merge_feedback([by_name, by_index, feedback_record(3, truth=2, truth_class=2)]).conflict
    assert merge_feedback([feedback_record(1, truth="billing"), feedback_record(2, truth=1)]).conflict


@pytest.fixture
def recording() -> Recording:
    recording = Recording()
    predictions = [recording.record(variant=("stable", "candidate")[count % 3 == 0]) for count in range(1200)]
    for prediction in predictions[::2]:
        recording.feedback(prediction, truth=1)
    return recording


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FeedbackStore]:
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        yield store


def ids(recording: Recording, store: FeedbackStore, folder: Path, query: Query) -> list[tuple[str, int]]:
    records = records_in(recording.save(folder))
    load_feedback(store, records, query, lambda size: None)
    pairs = join_feedback(records, query, store, lambda size: None)
    return [(prediction.prediction_id, feedback.count) for prediction, feedback in pairs]


def test_join_returns_every_prediction_with_its_feedback(
    recording: Recording, store: FeedbackStore, tmp_path: Path
) -> None:
    found = ids(recording, store, tmp_path / "records", Query("digits"))
    assert found == [(f"p{number}", number % 2) for number in range(1, 1201)]
    assert store.truth_kinds == {int}


def test_join_applies_the_query(recording: Recording, store: FeedbackStore, tmp_path: Path) -> None:
    first_ns = recording.clock_ns - 1800 * STEP_NS
    period = TimeRange(first_ns + 11 * STEP_NS, first_ns + 24 * STEP_NS)
    query = Query("digits", period, variant="candidate", with_feedback=True)
    assert ids(recording, store, tmp_path / "records", query) == [("p13", 1), ("p19", 1)]


def test_lists_that_judge_other_rows_are_combined_and_are_no_conflict() -> None:
    merged = merge_feedback(
        [
            feedback_record(1, truth=[1, None], truth_class=[1, None], correct=[True, None]),
            feedback_record(2, truth=[None, 2], truth_class=[None, 2], correct=[None, False]),
        ]
    )
    assert (merged.truth, merged.correct, merged.conflict) == ([1, 2], [True, False], False)
    assert merge_feedback([feedback_record(1, truth=[1, 2]), feedback_record(2, truth=[1, 3])]).conflict


@pytest.mark.parametrize(
    ("one", "other", "conflict"),
    [
        ({"row": 1, "truth": "a"}, {"row": 0, "truth": "b"}, False),
        ({"row": 1, "truth": "a"}, {"row": 1, "truth": "b"}, True),
        ({"row": 1, "truth": "a", "truth_class": 2}, {"row": 1, "truth": 2, "truth_class": 2}, False),
        ({"row": 1, "truth": "a", "truth_class": 2}, {"row": 1, "truth": 3, "truth_class": 3}, True),
        ({"row": 1, "truth": 2}, {"truth": [1, 2]}, False),
        ({"row": 1, "truth": 2}, {"truth": [1, 3]}, True),
        ({"row": 1, "truth": 2}, {"truth": [1, None]}, False),
        ({"row": 0, "truth": 2}, {"truth": 2}, False),
        ({"row": 0, "truth": 2}, {"truth": 3}, True),
        ({"truth": [1, None, 3]}, {"truth": [1, None, 4]}, True),
        ({"truth": ["a", "b"]}, {"truth": ["a"]}, True),
        ({"truth": 1}, {"truth": 1}, False),
    ],
)
def test_truths_contradict_each_other_if_two_of_a_row_or_of_the_request_differ(
    one: dict[str, Any], other: dict[str, Any], conflict: bool
) -> None:
    for pair in ((one, other), (other, one)):
        assert (
            merge_feedback([feedback_record(time, **fields) for time, fields in enumerate(pair)]).conflict is conflict
        )


def test_feedback_on_rows_is_put_over_earlier_feedback_on_them_only() -> None:
    sent = feedback_record(1, truth=[1, 2, 3], truth_class=[1, 2, 3], reward=[1.0, 1.0, 1.0])
    later = [
        feedback_record(2, row=1, truth="x", reward=0.5, metrics={"a": 1.0}),
        feedback_record(3, row=3, truth=4, truth_class=4, correct=True),
    ]
    merged = merge_feedback([sent, *later])
    assert (merged.truth, merged.truth_class) == ([1, "x", 3, 4], [1, None, 3, 4])
    assert (merged.reward, merged.metrics, merged.correct) == ([1.0, 0.5, 1.0], {"a": [None, 1.0]}, [None] * 3 + [True])
    assert [(row, [label.truth for label in labels]) for row, labels in merged.row_labels.items()] == [
        (1, ["x"]),
        (3, [4]),
    ]
    assert sent["truth"] == [1, 2, 3]  # records are not changed


def test_feedback_on_each_of_ten_thousand_rows_is_merged() -> None:
    records = [
        feedback_record(row, row=row, truth=row % 10, truth_class=row % 10, correct=True, metrics={"a": 1.0})
        for row in range(10_000)
    ]
    merged = merge_feedback(records)
    assert (merged.truth, merged.count, merged.conflict) == ([row % 10 for row in range(10_000)], 10_000, False)
    assert sum(len(label.truth) if type(label.truth) is list else 1 for label in merged.row_labels[9_999]) == 1
    assert merge_feedback([*records, feedback_record(10_000, row=5_000, truth=1, truth_class=1)]).conflict


def test_latest_feedback_of_several_hosts_is_that_of_the_latest_time(tmp_path: Path) -> None:
    """A correction hours later was given to a; b, which is read last, has the earlier truth."""
    hour_ns = 3600 * 10**9
    correction, earlier = feedback_record(9 * hour_ns, truth=7), feedback_record(hour_ns, truth=3)
    assert merge_feedback([correction], [earlier]) == merge_feedback([earlier], [correction])
    assert merge_feedback([correction], [earlier]).truth == 7
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        store.fill([correction], [earlier])
        assert store.of(["p"])["p"].truth == 7


def test_whole_list_replaces_an_earlier_one() -> None:
    earlier, later = feedback_record(1, truth=["a", "b"]), feedback_record(2, truth=["a", "c"])
    assert merge_feedback([earlier, later]).truth == ["a", "c"]


def test_feedback_with_a_wrong_value_in_a_list_is_skipped(tmp_path: Path) -> None:
    recording = Recording()
    for fields in ({"reward": [1, "x"]}, {"correct": [1]}, {"truth_class": ["a"]}, {"outcomes": {"loss": "x"}}):
        recording.feedback(recording.record(), **fields)
    recording.feedback(
        recording.record(), truth=[1, None], reward=[1, None], correct=[True, None], outcomes={"loss": 0}
    )
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        records = records_in(recording.save(tmp_path / "records"))
        load_feedback(store, records, Query("digits"), lambda size: None)
        assert (store.malformed, store.listed, store.truth_kinds) == (4, {"truth", "reward", "correct"}, {int})
