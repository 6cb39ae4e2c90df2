"""The files that records lie in: how they are named, and how a stream of them is read in the order of its writing.

`predictions-000000001.jsonl` is sealed and never changes; `predictions-000000002.jsonl.open` is still being written. A
line is one JSON object, and complete once its "\\n" is there.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.records.period import ALL_TIME, TimeRange

PREDICTIONS: Final = "predictions"
FEEDBACK: Final = "feedback"
MIRRORS: Final = "mirrors"
_NAME: Final = re.compile(r"([a-z]+)-([0-9]{9,})\.jsonl(\.open)?")
MAX_DISORDER_NS: Final = 300 * 1_000_000_000  # records of several workers interleave; none is this much out of order
_TIME_SAMPLES: Final = (
    16  # places of a segment whose times are read: a clock that is set makes its first record no bound
)


@dataclass(frozen=True, slots=True)
class RecordSegment:
    """A segment as it was when a reader looked at the folder: what is appended later is not read."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SegmentName:
    """What a segment's file name says."""

    stream: str
    number: int
    open: bool


def segment_path(folder: Path, stream: str, number: int, *, open: bool) -> Path:
    """Where segment `number` of `stream` lies, while it is written (`open`) or once it is sealed."""
    return folder / f"{stream}-{number:09}.jsonl{'.open' if open else ''}"


def segment_name(file: str) -> SegmentName | None:
    """What a file's name says; None where it names no segment."""
    match = _NAME.fullmatch(file)
    return SegmentName(match[1], int(match[2]), match[3] is not None) if match else None


def segments(folder: Path, stream: str) -> list[Path]:
    """The segments of a stream that are there now, in order; none where the folder is missing."""
    if not folder.is_dir():
        return []
    names = [(segment_name(path.name), path) for path in folder.iterdir()]
    found = [(name.number, name.open, path) for name, path in names if name is not None and name.stream == stream]
    return [path for _, _, path in sorted(found)]


def snapshot(folder: Path, stream: str) -> list[RecordSegment]:
    """The segments of a stream as they are now, in order; none where the folder is missing."""
    return [segment for path in segments(folder, stream) if (segment := _as_it_is(path)) is not None]


def read(
    stream: Sequence[RecordSegment],
    model: str,
    period: TimeRange = ALL_TIME,
    advance: Callable[[int], None] = lambda size: None,
    odd: Callable[[], None] = lambda: None,
) -> Iterator[dict[str, Any]]:
    """The records of one model within `period`, in the order of their writing, one in memory at a time.

    `advance` is told the bytes passed, which add up to the segments' sizes. Half a line at a segment's end is not there
    yet (or never will be). A whole line that speaks of the model and is no JSON object with a model and a time is no
    record: `odd` is called for each.
    """
    needle = orjson.dumps(model)
    for segment in _within(stream, period, advance):
        for line in _lines(segment):
            advance(len(line))
            if needle not in line:
                continue
            record = _parsed(line)
            if record is None:
                if line.endswith(b"\n"):
                    odd()
            elif record["model"] == model and period.covers(record["time_ns"]):
                yield record


def _lines(segment: RecordSegment) -> Iterator[bytes]:
    opened = _opened(segment.path)
    if opened is None:
        return
    with opened as file:
        left = segment.size_bytes
        for line in file:
            left -= len(line)
            if left < 0:
                return
            yield line


def _parsed(line: bytes) -> dict[str, Any] | None:
    if not line.endswith(b"\n"):
        return None
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    complete = type(record) is dict and "model" in record and type(record.get("time_ns")) is int
    return record if complete else None


def _as_it_is(path: Path) -> RecordSegment | None:
    opened = _opened(path)
    if opened is None:
        return None
    with opened as file:
        return RecordSegment(path, os.fstat(file.fileno()).st_size)


def _opened(path: Path) -> BufferedReader | None:
    """The segment's file. It may have been sealed since it was listed, or deleted to make room: then None."""
    for name in (path, path.with_suffix("") if path.suffix == ".open" else path):
        try:
            return name.open("rb")
        except FileNotFoundError:
            continue
    return None


def _within(
    stream: Sequence[RecordSegment], period: TimeRange, advance: Callable[[int], None]
) -> Iterator[RecordSegment]:
    """The segments that can hold a record of the period, told by records from all over each, and the next one's first.

    What a clock has stamped while it was wrong for less than a sixteenth of a segment may be missed: by its stamps it
    is of another time than all that lies around it.
    """
    if period == ALL_TIME:
        yield from stream
        return
    looks = [_times_ns(segment) for segment in stream]
    for segment, times, after in zip(stream, looks, [*looks[1:], []], strict=True):
        if times and _apart([*times, *after[:1]], period, last=not after):
            advance(segment.size_bytes)
        else:
            yield segment


def _apart(times_ns: list[int], period: TimeRange, *, last: bool) -> bool:
    """Whether records of about these times are all before or all after the period; the `last` segment may grow."""
    too_old = period.since_ns is not None and not last and max(times_ns) + MAX_DISORDER_NS < period.since_ns
    return too_old or (period.until_ns is not None and min(times_ns) - MAX_DISORDER_NS >= period.until_ns)


def _times_ns(segment: RecordSegment) -> list[int]:
    """Of records from the segment's beginning on to its end; none where it cannot be told."""
    opened = _opened(segment.path)
    if opened is None:
        return []
    with opened as file:
        found = [_time_at(file, segment.size_bytes * look // _TIME_SAMPLES) for look in range(_TIME_SAMPLES)]
    return [time_ns for time_ns in found if time_ns is not None]


def _time_at(file: BufferedReader, place: int) -> int | None:
    """The time of the first record that begins at `place` or later."""
    file.seek(max(0, place - 1))
    if place:
        file.readline()
    record = _parsed(file.readline())
    return None if record is None else record["time_ns"]
