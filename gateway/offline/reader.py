"""Reads recorded predictions, each joined with its feedback."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from gateway.errors import GatewayError
from gateway.offline.feedback_store import FeedbackStore
from gateway.offline.merged_feedback import StoredFeedback
from gateway.records.prediction import Prediction, prediction_of
from gateway.records.segments import (
    FEEDBACK,
    MAX_DISORDER_NS,
    MIRRORS,
    PREDICTIONS,
    RecordSegment,
    read,
    snapshot,
    times_ns,
)
from gateway.records.time_range import ALL_TIME, TimeRange

CHUNK: Final = 500  # predictions in memory at a time; fewer if they are large
CHUNK_BYTES: Final = 16 * 1024**2
NO_FEEDBACK: Final = StoredFeedback()
OnProgress = Callable[[int], None]  # called with the bytes passed
OnMalformed = Callable[[], None]  # called for each line that is not a valid record


def _ignore() -> None:
    """The default for `on_malformed`: does nothing."""


def _ignore_bytes(size: int) -> None:
    """The default for `on_progress`: does nothing."""


class RecordsDeleted(GatewayError):
    """The gateway has deleted records of the period since the snapshot, to keep to `records.retain`."""


@dataclass(frozen=True, slots=True)
class Query:
    """Selects predictions of a model. `variant` None: both variants; `with_feedback`: only those with feedback.

    `feedback_until_ns`: feedback recorded at that time or later is as if it had not come; None: no bound.
    """

    model: str
    time_range: TimeRange = ALL_TIME
    variant: str | None = None
    with_feedback: bool = False
    feedback_until_ns: int | None = None

    @property
    def feedback_range(self) -> TimeRange:
        """When feedback may have come: any time after the first prediction, by default."""
        return TimeRange(self.time_range.since_ns, self.feedback_until_ns)


@dataclass(frozen=True, slots=True)
class Records:
    """A snapshot of the record streams, of one host after the other: reading it twice gives the same records, or raises
    RecordsDeleted.
    """

    predictions: Sequence[RecordSegment]
    feedback: Sequence[RecordSegment]
    mirrors: Sequence[RecordSegment]


Joined = tuple[Prediction, StoredFeedback]


def records_in(*folders: Path) -> Records:
    """Take a snapshot of the streams in these folders, one of each host."""
    predictions, feedback, mirrors = (
        [segment for folder in folders for segment in snapshot(folder, stream)]
        for stream in (PREDICTIONS, FEEDBACK, MIRRORS)
    )
    return Records(predictions, feedback, mirrors)


def size_of(stream: Sequence[RecordSegment]) -> int:
    """The size of a stream in bytes, for a progress bar."""
    return sum(segment.size_bytes for segment in stream)


def read_all(
    stream: Sequence[RecordSegment],
    query: Query,
    time_range: TimeRange,
    on_progress: OnProgress = _ignore_bytes,
    on_malformed: OnMalformed = _ignore,
) -> Iterator[dict[str, Any]]:
    """Yield the model's records within `time_range`, as `segments.read` does. Raises RecordsDeleted."""

    def deleted(segment: RecordSegment) -> None:
        if not _is_before(stream, segment, time_range):
            raise RecordsDeleted(
                f"records of this period were deleted while they were read ({segment.path.name}), since they were the"
                " oldest: choose a later --since, or keep more (records.retain)"
            )

    yield from read(stream, query.model, time_range, on_progress, on_malformed, deleted)


def _is_before(stream: Sequence[RecordSegment], deleted: RecordSegment, time_range: TimeRange) -> bool:
    """Whether a segment's records were older than the range: what the same host wrote next, and is still there, is."""
    after = stream[stream.index(deleted) + 1 :]
    times = (times_ns(segment) for segment in after if segment.path.parent == deleted.path.parent)
    first = next((found[0] for found in times if found), None)
    return time_range.since_ns is not None and first is not None and first + MAX_DISORDER_NS < time_range.since_ns


def load_feedback(store: FeedbackStore, records: Records, query: Query, on_progress: OnProgress) -> None:
    """Fill the store with all feedback that can be on the query's predictions. Raises RecordsDeleted."""
    hosts = groupby(records.feedback, lambda segment: segment.path.parent)
    store.fill(*(read_all(list(of), query, query.feedback_range, on_progress) for _, of in hosts))


def join_feedback(
    records: Records, query: Query, store: FeedbackStore, on_progress: OnProgress, on_malformed: OnMalformed = _ignore
) -> Iterator[Joined]:
    """Yield the query's predictions in the order of recording, each with its feedback. Raises RecordsDeleted."""
    for chunk in chunks(records, query, on_progress, on_malformed):
        feedback = store.of([prediction.prediction_id for prediction in chunk])
        for prediction in chunk:
            if not query.with_feedback or prediction.prediction_id in feedback:
                yield prediction, feedback.get(prediction.prediction_id, NO_FEEDBACK)


def chunks(
    records: Records, query: Query, on_progress: OnProgress, on_malformed: OnMalformed = _ignore
) -> Iterator[list[Prediction]]:
    """Yield the query's predictions in chunks, with or without feedback. Raises RecordsDeleted."""
    passed_bytes = 0
    chunk: list[Prediction] = []

    def passed(size: int) -> None:
        nonlocal passed_bytes
        passed_bytes += size
        on_progress(size)

    for record in read_all(records.predictions, query, query.time_range, passed, on_malformed):
        prediction = prediction_of(record)
        if prediction is None:
            on_malformed()
        elif query.variant in (None, prediction.variant):
            chunk.append(prediction)
        if len(chunk) == CHUNK or passed_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, passed_bytes = [], 0
    yield chunk
