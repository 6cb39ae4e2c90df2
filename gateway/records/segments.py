"""Names and reads the segments, the files of a record stream.

`predictions-000000001.jsonl` is sealed and never changes; `predictions-000000002.jsonl.open` is still being written. A
line is one JSON object; it is complete once its "\\n" is written.
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import BufferedReader
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.records.time_range import ALL_TIME, TimeRange

PREDICTIONS: Final = "predictions"
FEEDBACK: Final = "feedback"
MIRRORS: Final = "mirrors"
_NAME: Final = re.compile(r"([a-z]+)-([0-9]{9,})\.jsonl(\.open)?")
_HEAD: Final = re.compile(rb'\{"kind":"[a-z]+","prediction_id":"[\w-]*","time_ns":([0-9]{1,19}),')
_HEAD_BYTES: Final = 4096
MAX_DISORDER_NS: Final = 300 * 1_000_000_000  # upper bound: records of several workers interleave
_TIME_SAMPLES: Final = (
    16  # places of a segment whose times are read: clocks are set, so the first record's time is no bound
)


@dataclass(frozen=True, slots=True)
class RecordSegment:
    """A segment and its size when the folder was listed; bytes appended later are not read."""

    path: Path
    size_bytes: int


@dataclass(frozen=True, slots=True)
class SegmentName:
    """The parts of a segment's file name."""

    stream: str
    number: int
    open: bool


def segment_path(folder: Path, stream: str, number: int, *, open: bool) -> Path:
    """The path of segment `number` of `stream`, while it is written (`open`) or once it is sealed."""
    return folder / f"{stream}-{number:09}.jsonl{'.open' if open else ''}"


def segment_name(file: str) -> SegmentName | None:
    """Parse a file's name; None if it is not a segment's."""
    match = _NAME.fullmatch(file)
    return SegmentName(match[1], int(match[2]), match[3] is not None) if match else None


def segments(folder: Path, stream: str) -> list[Path]:
    """List the segments of a stream that exist now, in order; empty if the folder does not exist."""
    if not folder.is_dir():
        return []
    names = [(segment_name(path.name), path) for path in folder.iterdir()]
    found = [(name.number, name.open, path) for name, path in names if name is not None and name.stream == stream]
    return [path for _, _, path in sorted(found)]


def snapshot(folder: Path, stream: str) -> list[RecordSegment]:
    """List the segments of a stream with their present sizes, in order; empty if the folder does not exist."""
    return [segment for path in segments(folder, stream) if (segment := _as_it_is(path)) is not None]


def read(
    stream: Sequence[RecordSegment],
    model: str,
    time_range: TimeRange = ALL_TIME,
    on_progress: Callable[[int], None] = lambda size: None,
    on_malformed: Callable[[], None] = lambda: None,
    on_deleted: Callable[[RecordSegment], None] = lambda segment: None,
) -> Iterator[dict[str, Any]]:
    """Yield the records of one model within `time_range`, in the order of their writing, one in memory at a time.

    `on_progress` is called with the bytes passed, which add up to the segments' sizes. An incomplete line at a
    segment's end is skipped: it is still being written, or was cut off. `on_malformed` is called for each complete line
    that contains the model's name but is not a JSON object with a model and a time, if its neighbour is within the
    range: the model's record before it in the segment, else the first. So later records do not change the count.
    `on_deleted` is called for each segment that is not there any more, and may hold records of the range.
    """
    needle = orjson.dumps(model)
    for segment in segments_within(stream, time_range, on_progress):
        within, unplaced = True if time_range == ALL_TIME else None, 0
        for line in lines(segment, on_deleted):
            on_progress(len(line))
            if needle not in line:
                continue
            record = parsed(line)
            if record is None:
                if line.endswith(b"\n"):
                    unplaced += within is None
                    if within:
                        on_malformed()
            elif record["model"] == model:
                first, within = within is None, time_range.covers(record["time_ns"])
                if within:
                    for _ in range(unplaced if first else 0):
                        on_malformed()
                    yield record


def lines(
    segment: RecordSegment, on_deleted: Callable[[RecordSegment], None] = lambda segment: None
) -> Iterator[bytes]:
    """Yield the lines of a segment, up to its size when it was listed; if it was deleted since, call `on_deleted`."""
    opened = _opened(segment.path)
    if opened is None:
        on_deleted(segment)
        return
    with opened as file:
        left = segment.size_bytes
        for line in file:
            left -= len(line)
            if left < 0:
                return
            yield line


def parsed(line: bytes) -> dict[str, Any] | None:
    """The record in a line; None if it is incomplete, or is not a JSON object with a model and a time."""
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
    """Open the segment, which may have been sealed (renamed) since it was listed. None if it was deleted for space."""
    for name in (path, path.with_suffix("") if path.suffix == ".open" else path):
        try:
            return name.open("rb")
        except FileNotFoundError:
            continue
    return None


def segments_within(
    stream: Sequence[RecordSegment], time_range: TimeRange, on_progress: Callable[[int], None]
) -> Iterator[RecordSegment]:
    """Yield the segments that can hold a record of the range, judged by `_LOOKS` records spread over each segment and
    the first record of the next one.

    Records that a wrong clock stamped may be missed if they fill less than a sixteenth of a segment: their times differ
    from those of all records around them.
    """
    if time_range == ALL_TIME:
        yield from stream
        return
    looks = [times_ns(segment) for segment in stream]
    for segment, times, after in zip(stream, looks, [*looks[1:], []], strict=False):  # one more, to the last
        if times and _apart([*times, *after[:1]], time_range, last=not after):
            on_progress(segment.size_bytes)
        else:
            yield segment


def _apart(times_ns: list[int], time_range: TimeRange, *, last: bool) -> bool:
    """Whether records of about these times are all before or all after the range. The `last` segment may still grow,
    so it is never too old.
    """
    too_old = time_range.since_ns is not None and not last and max(times_ns) + MAX_DISORDER_NS < time_range.since_ns
    return too_old or (time_range.until_ns is not None and min(times_ns) - MAX_DISORDER_NS >= time_range.until_ns)


def times_ns(segment: RecordSegment) -> list[int]:
    """The times of records spread over the segment; empty if none can be read."""
    opened = _opened(segment.path)
    if opened is None:
        return []
    with opened as file:
        found = [_time_at(file, segment.size_bytes * look // _TIME_SAMPLES) for look in range(_TIME_SAMPLES)]
    return [time_ns for time_ns in found if time_ns is not None]


def _time_at(file: BufferedReader, place: int) -> int | None:
    """The time of the first record that begins at byte `place` or later; None if there is none."""
    file.seek(max(0, place - 1))
    if place:
        file.readline()
    begin = file.readline(_HEAD_BYTES)
    if head := _HEAD.match(begin):  # parsing a large request 16 times in each segment would take long
        return int(head[1])
    record = parsed(begin if begin.endswith(b"\n") else begin + file.readline())
    return None if record is None else record["time_ns"]
