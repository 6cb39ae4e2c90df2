"""Records that the gateway deletes while they are read are missed, not left out in silence."""

from pathlib import Path

import pytest

from gateway.offline.dataset.export import ExportSource, Meters, export
from gateway.offline.dataset.form import Form
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.reader import Query, Records, RecordsDeleted, chunks, load_feedback, records_in
from gateway.records.segments import FEEDBACK, PREDICTIONS, segment_path
from gateway.records.time_range import ALL_TIME, TimeRange
from tests.offline.dataset.test_export import silent
from tests.recording import NOON_NS, Recording, loaded

HOUR_NS = 3600 * 1_000_000_000
HOURS = 3


def hours(folder: Path) -> Records:
    """A prediction with feedback each hour, each in a segment of its own."""
    recording = Recording()
    for hour in range(HOURS):
        recording.clock_ns = NOON_NS + hour * HOUR_NS
        recording.feedback(recording.record(), reward=1.0)
    return records_in(recording.save(folder, lines_per_segment=1))


def delete(folder: Path, stream: str, number: int) -> None:
    segment_path(folder, stream, number, open=False).unlink()


def times_ns(records: Records, time_range: TimeRange) -> list[int]:
    found = chunks(records, Query("digits", time_range), silent)
    return [prediction.time_ns for chunk in found for prediction in chunk]


def test_segment_sealed_meanwhile_is_read(tmp_path: Path) -> None:
    records = hours(tmp_path)
    last = segment_path(tmp_path, PREDICTIONS, HOURS, open=True)
    last.rename(last.with_suffix(""))
    assert len(times_ns(records, ALL_TIME)) == HOURS


@pytest.mark.parametrize("time_range", [ALL_TIME, TimeRange(NOON_NS), TimeRange(NOON_NS + HOUR_NS // 2)])
def test_predictions_of_the_period_that_were_deleted_are_missed(tmp_path: Path, time_range: TimeRange) -> None:
    records = hours(tmp_path)
    delete(tmp_path, PREDICTIONS, 1)
    with pytest.raises(RecordsDeleted, match=r"predictions-000000001\.jsonl.*choose a later --since"):
        times_ns(records, time_range)


def test_predictions_from_before_the_period_are_not_missed(tmp_path: Path) -> None:
    records = hours(tmp_path)
    delete(tmp_path, PREDICTIONS, 1)
    (last,) = times_ns(records, TimeRange(NOON_NS + 2 * HOUR_NS))
    assert last > NOON_NS + 2 * HOUR_NS
    delete(tmp_path, PREDICTIONS, 2)
    with pytest.raises(RecordsDeleted):  # it may have grown until the next one began
        times_ns(records, TimeRange(NOON_NS + 2 * HOUR_NS))


def test_other_hosts_records_say_nothing_of_what_one_has_deleted(tmp_path: Path) -> None:
    hours(tmp_path / "one")
    hours(tmp_path / "other")
    records = records_in(tmp_path / "one", tmp_path / "other")
    for number in range(1, HOURS):
        delete(tmp_path / "one", PREDICTIONS, number)
    segment_path(tmp_path / "one", PREDICTIONS, HOURS, open=True).unlink()
    with pytest.raises(RecordsDeleted):
        times_ns(records, TimeRange(NOON_NS + 2 * HOUR_NS))


def test_deleted_feedback_is_missed(tmp_path: Path) -> None:
    records = hours(tmp_path)
    delete(tmp_path, FEEDBACK, 1)
    with FeedbackStore(tmp_path / "feedback.sqlite") as store:
        load_feedback(store, records, Query("digits", TimeRange(NOON_NS + 2 * HOUR_NS)), silent)
        with pytest.raises(RecordsDeleted, match="feedback-000000001"):
            load_feedback(store, records, Query("digits"), silent)


def test_export_whose_records_are_deleted_while_it_is_made_fails(tmp_path: Path) -> None:
    records = hours(tmp_path / "records")
    (spec,) = loaded("digits", 1).session.signature.inputs

    def deleted(size: int) -> None:
        for segment in records.predictions[:1]:
            segment.path.unlink(missing_ok=True)

    out = tmp_path / "out"
    with pytest.raises(RecordsDeleted):
        export(
            ExportSource(records, lambda version: spec),
            Query("digits"),
            out,
            Form("jsonl"),
            Meters(silent, deleted, silent),
        )
    assert not out.exists()
