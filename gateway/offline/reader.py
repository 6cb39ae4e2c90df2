"""Predictions, each with the feedback on it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.offline.feedback_store import FeedbackStore, StoredFeedback
from gateway.records.period import ALL_TIME, TimeRange
from gateway.records.prediction import Prediction, prediction_of
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS, RecordSegment, read, snapshot

CHUNK: Final = 500  # predictions in memory at a time, and fewer where they are large
CHUNK_BYTES: Final = 16 * 1024**2
NO_FEEDBACK: Final = StoredFeedback()
Advance = Callable[[int], None]  # told the bytes passed
Odd = Callable[[], None]  # told of each line that is no record


def _ignore() -> None:
    """No one asks for what is odd."""


@dataclass(frozen=True, slots=True)
class Query:
    """Which predictions of a model. `variant` None: of all; `with_feedback`: only those that got some."""

    model: str
    period: TimeRange = ALL_TIME
    variant: str | None = None
    with_feedback: bool = False


@dataclass(frozen=True, slots=True)
class Records:
    """The streams as they are at one moment, so that who reads them twice reads the same."""

    predictions: Sequence[RecordSegment]
    feedback: Sequence[RecordSegment]
    mirrors: Sequence[RecordSegment]


Joined = tuple[Prediction, StoredFeedback]


def records_in(folder: Path) -> Records:
    """The streams in a folder, as they are now."""
    return Records(snapshot(folder, PREDICTIONS), snapshot(folder, FEEDBACK), snapshot(folder, MIRRORS))


def size_of(stream: Sequence[RecordSegment]) -> int:
    """The bytes of a stream, for a progress bar."""
    return sum(segment.size_bytes for segment in stream)


def fill(store: FeedbackStore, records: Records, query: Query, advance: Advance) -> None:
    """Take in all feedback that can be for the query's predictions: it comes after them, whenever that is."""
    store.fill(read(records.feedback, query.model, TimeRange(query.period.since_ns), advance))


def joined(
    records: Records, query: Query, store: FeedbackStore, advance: Advance, odd: Odd = _ignore
) -> Iterator[Joined]:
    """The predictions of the query in the order of their recording, each with its feedback."""
    for chunk in chunks(records, query, advance, odd):
        feedback = store.of([prediction.prediction_id for prediction in chunk])
        for prediction in chunk:
            if not query.with_feedback or prediction.prediction_id in feedback:
                yield prediction, feedback.get(prediction.prediction_id, NO_FEEDBACK)


def chunks(records: Records, query: Query, advance: Advance, odd: Odd = _ignore) -> Iterator[list[Prediction]]:
    """The predictions of the query, with or without feedback, a few at a time. What is none is left out, and told."""
    passed_bytes = 0
    chunk: list[Prediction] = []

    def passed(size: int) -> None:
        nonlocal passed_bytes
        passed_bytes += size
        advance(size)

    for record in read(records.predictions, query.model, query.period, passed, odd):
        prediction = prediction_of(record)
        if prediction is None:
            odd()
        elif query.variant in (None, prediction.variant):
            chunk.append(prediction)
        if len(chunk) == CHUNK or passed_bytes >= CHUNK_BYTES:
            yield chunk
            chunk, passed_bytes = [], 0
    yield chunk
