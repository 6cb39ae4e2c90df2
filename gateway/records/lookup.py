"""Finds the records of one prediction among many, by the time that its id holds."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from gateway.records.segments import MAX_DISORDER_NS, RecordSegment, lines, parsed, segments_within, times_in, times_ns
from gateway.records.time_range import TimeRange


def oldest_ns(stream: Sequence[RecordSegment]) -> int | None:
    """The time of the oldest record that is kept in any of the folders; None if there is none."""
    oldest: dict[Path, int] = {}
    for segment in stream:
        if segment.path.parent not in oldest and (times := times_ns(segment)):
            oldest[segment.path.parent] = min(times)
    return min(oldest.values(), default=None)


def find(
    stream: Sequence[RecordSegment],
    prediction_id: str,
    time_ns: int,
    on_progress: Callable[[int], None] = lambda size: None,
) -> dict[str, Any] | None:
    """The first record of a prediction that was made at this time; None if there is none.

    Only segments with records of about that time are read, the most likely one first. `on_progress` is called with the
    bytes passed, which may add up to less than all.
    """
    for segment in _nearest(stream, time_ns):
        for record in _of(segment, prediction_id):
            on_progress(segment.size_bytes)
            return record
        on_progress(segment.size_bytes)
    return None


def find_all(
    stream: Sequence[RecordSegment],
    prediction_id: str,
    since_ns: int,
    on_progress: Callable[[int], None] = lambda size: None,
) -> Iterator[dict[str, Any]]:
    """Yield all records of a prediction from a time on, in the order of their writing."""
    for segment in segments_within(stream, TimeRange(since_ns), on_progress):
        yield from _of(segment, prediction_id)
        on_progress(segment.size_bytes)


def _of(segment: RecordSegment, prediction_id: str) -> Iterator[dict[str, Any]]:
    needle = f'"{prediction_id}"'.encode()
    for line in lines(segment):
        if needle in line:
            record = parsed(line)
            if record is not None and record.get("prediction_id") == prediction_id:
                yield record


def _nearest(stream: Sequence[RecordSegment], time_ns: int) -> list[RecordSegment]:
    """The segments that can hold a record of this time, those first whose records are nearest to it.

    A segment ends where the next one of its folder begins. The last one may have grown since it was looked at, and the
    end of one whose next one cannot be read is not known: records may come after the last one that was looked at.
    """
    found: list[tuple[int, int]] = []
    for number, (times, after) in enumerate(times_in(stream)):
        if times:
            distance_ns = max(0, min(times) - time_ns, time_ns - max([*times, *(after or [time_ns])]))
            if distance_ns <= MAX_DISORDER_NS:
                found.append((distance_ns, number))
    return [stream[number] for _, number in sorted(found)]
