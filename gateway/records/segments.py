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

from gateway.records.period import EVER, Period

PREDICTIONS: Final = "predictions"
FEEDBACK: Final = "feedback"
MIRRORS: Final = "mirrors"
_NAME: Final = re.compile(r"([a-z]+)-([0-9]{9,})\.jsonl(\.open)?")
_DISORDER_NS: Final = 300 * 1_000_000_000  # records of several workers interleave; none is this much out of order


@dataclass(frozen=True, slots=True)
class Segment:
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


def snapshot(folder: Path, stream: str) -> list[Segment]:
    """The segments of a stream as they are now, in order; none where the folder is missing."""
    return [segment for path in segments(folder, stream) if (segment := _as_it_is(path)) is not None]


def read(
    stream: Sequence[Segment],
    model: str,
    period: Period = EVER,
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


def _lines(segment: Segment) -> Iterator[bytes]:
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


def _as_it_is(path: Path) -> Segment | None:
    opened = _opened(path)
    if opened is None:
        return None
    with opened as file:
        return Segment(path, os.fstat(file.fileno()).st_size)


def _opened(path: Path) -> BufferedReader | None:
    """The segment's file. It may have been sealed since it was listed, or deleted to make room: then None."""
    for name in (path, path.with_suffix("") if path.suffix == ".open" else path):
        try:
            return name.open("rb")
        except FileNotFoundError:
            continue
    return None


def _within(stream: Sequence[Segment], period: Period, advance: Callable[[int], None]) -> Iterator[Segment]:
    """The segments that can hold a record of the period, told by the first record of each and of the next one."""
    if period == EVER:
        yield from stream
        return
    begins_ns = [_first_time_ns(segment) for segment in stream]
    for segment, begin_ns, end_ns in zip(stream, begins_ns, [*begins_ns[1:], None], strict=True):
        too_old = period.since_ns is not None and end_ns is not None and end_ns + _DISORDER_NS < period.since_ns
        too_new = period.until_ns is not None and begin_ns is not None and begin_ns - _DISORDER_NS >= period.until_ns
        if too_old or too_new:
            advance(segment.size_bytes)
        else:
            yield segment


def _first_time_ns(segment: Segment) -> int | None:
    record = _parsed(next(_lines(segment), b""))
    return None if record is None else record["time_ns"]
