"""Drains the workers' rings into segment files: the control process's one writer thread.

A slow, full or unwritable disk only makes the rings fill up; workers decide what to do then. If the disk or the process
fails in the middle of a write, the partial write is cut off and the same bytes are taken again: exactly once.
"""

import contextlib
import heapq
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np

from gateway.control.record_writer.segment_writer import SegmentWriter
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS, segment_name, segments
from gateway.settings.gateway import RecordsSettings
from gateway.shm.ring import Ring
from gateway.system.scheduling import raise_niceness

STREAMS: Final = (PREDICTIONS, FEEDBACK, MIRRORS)
CHUNK_BYTES: Final = 1 << 20  # bytes taken from a ring at a time
BATCH_BYTES: Final = 1 << 19  # waiting bytes that are drained at once
SMALL_CHUNK_BYTES: Final = 1 << 14  # bytes that may still fit on a disk that has no room for a chunk
BUSY_BYTES: Final = 1 << 17  # after a drain of this many bytes, more are likely to come
PAUSE_S: Final = 0.02  # between rounds in which there was nothing to do
MIN_RING_TO_WAIT: Final = 8 * BATCH_BYTES  # smaller rings are not left waiting: they might fill up
MAX_WAIT_S: Final = 0.1  # how long predictions may wait to become MANY: each drain takes a core from a worker
RETRY_S: Final = 0.25  # after an error of the disk
STOP_TIMEOUT_S: Final = 10.0  # how long `stop` waits for the disk
NEWLINE: Final = ord("\n")
COUNT_CHUNK: Final = 1 << 16  # bytes compared at a time: numpy's result then stays in a core's cache
log: Final = logging.getLogger("gateway.control.record_writer")


class StreamHook(NamedTuple):
    """Callbacks for one stream, called in the writer thread with lines as bytes.

    `filter` returns the lines to write; may be called again with the same lines. `on_written` is called once with all
    lines taken, including those filtered out, after the write.
    """

    filter: Callable[[bytes], bytes]
    on_written: Callable[[bytes], None]


NO_HOOKS: Final[Mapping[str, StreamHook]] = {}


@dataclass(slots=True, eq=False)
class RingSource:
    """A ring and the stream that it is drained to. `abandoned`: its writer belongs to an earlier run and will end."""

    ring: Ring
    stream: str
    abandoned: bool = False
    drained_s: float = 0.0  # when, on the monotonic clock

    def may_wait(self) -> bool:
        """Whether to drain later, in a larger batch. Only predictions wait: guards need feedback at once."""
        if self.stream != PREDICTIONS or self.abandoned or self.ring.size < MIN_RING_TO_WAIT:
            return False
        return self.ring.waiting < BATCH_BYTES and time.monotonic() - self.drained_s < MAX_WAIT_S


class RecordWriter:
    """Drains its sources in a thread, from `start` to `stop`. `listeners`: hooks by stream.

    `observe` is called with lines of predictions, where they are, and their number; it must not keep them. `written`:
    lines written so far, by stream.
    """

    def __init__(
        self,
        folder: Path,
        settings: RecordsSettings,
        listeners: Mapping[str, StreamHook] = NO_HOOKS,
        observe: Callable[[bytes | memoryview, int], None] | None = None,
    ) -> None:
        self._observe = observe
        self.written = dict.fromkeys(STREAMS, 0)
        self._errors: dict[str, str] = {}  # by stream
        self._folder = folder
        self._retain = settings.retain
        self._hooks = listeners
        self._streams = {name: SegmentWriter(folder, name, settings.segment) for name in STREAMS}
        self._sources: list[RingSource] = []
        self._pending: RingSource | None = None  # the source whose drain has failed
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)

    @property
    def error(self) -> str:
        """Why records cannot be written; "" while they can."""
        return "; ".join(dict.fromkeys(list(self._errors.values())))

    def add(self, source: RingSource) -> None:
        """Drain this ring too. If a killed control process was draining it, it must be added before `start`."""
        drain = source.ring.interrupted
        if drain is not None:
            self._streams[source.stream].cut(drain.segment, drain.offset, source.ring.undo_drain)
        self._sources = [*self._sources, source]

    def end_of(self, stream: str) -> tuple[int, int]:
        """The number of the stream's segment, and its bytes, after the last write. For hooks."""
        return self._streams[stream].number, self._streams[stream].size

    def start(self) -> None:
        """Start the writer thread."""
        self._thread.start()

    def stop(self) -> None:
        """Drain all rings, seal the segments and end the thread, within STOP_TIMEOUT_S. What cannot be written stays in
        its ring.
        """
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(STOP_TIMEOUT_S)

    def _run(self) -> None:
        raise_niceness()
        while True:
            ending = self._end.is_set()  # before the last round, not after it
            if self.drain_round(patient=not ending):
                continue
            if ending:
                break
            self._end.wait(RETRY_S if self._errors else PAUSE_S)
        for stream in self._streams.values():
            with self._catch_errors(stream.name):
                if stream.size:
                    stream.seal()
            stream.close()

    def drain_round(self, *, patient: bool = False) -> bool:
        """Drain at most two chunks from every ring, so that a busy one does not delay the others.

        Returns whether to start another round at once. `patient`: skip rings that may wait, and pause after small
        drains. Called by the writer thread, and by others only while that does not run.
        """
        busy = False
        for source in self._sources:
            with self._catch_errors(source.stream):
                alive = not source.abandoned or source.ring.owner_lives  # before the drain, not after it
                if not (source.ring.empty or (patient and source.may_wait())):
                    busy |= self._drain(source) >= (BUSY_BYTES if patient else 1)
                if not alive and source.ring.empty:
                    source.ring.remove()
                    self._sources = [other for other in self._sources if other is not source]
        return busy

    def _drain(self, source: RingSource) -> int:
        """Write at most two chunks from a ring, or what fits on the disk; return the number of bytes."""
        self._roll_back_pending()
        try:
            moved = self._move(source, CHUNK_BYTES)
            if moved >= BATCH_BYTES:  # take what has come meanwhile too: an emptied ring restarts at its front
                moved += self._move(source, CHUNK_BYTES)
            return moved
        except OSError:
            if self._pending is None:
                raise  # something other than the write failed
            self._roll_back_pending()
            return self._move(source, SMALL_CHUNK_BYTES)

    def _move(self, source: RingSource, most: int) -> int:
        ring = source.ring
        data = ring.lines(most)  # a view of the ring if possible
        if not data:
            return 0
        stream = self._streams[source.stream]
        stream.open()
        listener = self._hooks.get(source.stream)
        lines_copy = b"" if listener is None else bytes(data)  # a copy: after the release the ring is overwritten
        lines = data if listener is None else listener.filter(lines_copy)
        count, size = _lines_in(lines), len(data)
        if self._observe is not None and source.stream == PREDICTIONS:
            self._observe(lines, count)
        ring.begin_drain(size, stream.number, stream.size)
        self._pending = source
        stream.write(lines)
        ring.release(size)
        self._pending = None
        source.drained_s = time.monotonic()
        self.written[source.stream] += count
        if self._errors.pop(source.stream, ""):
            log.info("records of %s can be written again", source.stream)
        if listener is not None:
            listener.on_written(lines_copy)
        if stream.full:
            stream.seal()
            self._make_room()
        return size

    def _roll_back_pending(self) -> None:
        """Undo the drain that failed, before anything else is written: else its note in the ring would cover later
        writes of others, and the next run would cut those off.
        """
        if self._pending is not None:
            self._streams[self._pending.stream].roll_back()
            self._pending.ring.undo_drain()
            self._pending = None

    def _make_room(self) -> None:
        """Delete the oldest sealed segments beyond `retain`: predictions and mirrors first, since feedback is small
        and valuable. Within a stream in the order of their numbers, since clocks may be set back.
        """
        sealed = [
            (path, size)
            for names in ((PREDICTIONS, MIRRORS), (FEEDBACK,))
            for _, path, size in heapq.merge(*(_sealed(self._folder, name) for name in names))
        ]
        total = sum(size for _, size in sealed)
        for path, size in sealed:
            if total <= self._retain:
                return
            path.unlink(missing_ok=True)
            total -= size
            log.info("%s is deleted, because the records exceed records.retain", path.name)

    @contextlib.contextmanager
    def _catch_errors(self, stream: str) -> Iterator[None]:
        """Log the first error of a stream and keep it in `error`, without disturbing the other streams."""
        try:
            yield
        except OSError as error:
            if stream not in self._errors:
                log.error(
                    "records of %s cannot be written to %s: %s; predictions are served without them",
                    stream,
                    self._folder,
                    error,
                )
            self._errors[stream] = str(error)
        except Exception as error:  # one unforeseen line must not end the writer thread
            if stream not in self._errors:
                log.exception("%s cannot be written", stream)
            self._errors[stream] = f"{type(error).__name__}: {error}"


def _lines_in(data: bytes | memoryview) -> int:
    """Count lines with numpy, five times as fast as `bytes.count`."""
    raw = np.frombuffer(data, np.uint8)
    return sum(int(np.count_nonzero(raw[at : at + COUNT_CHUNK] == NEWLINE)) for at in range(0, len(raw), COUNT_CHUNK))


def _sealed(folder: Path, stream: str) -> Iterator[tuple[int, Path, int]]:
    """Yield (time written in ns, path, size) of a stream's sealed segments in order; a log shipper may remove some.

    Times are made non-decreasing: they only serve to merge two streams.
    """
    latest_ns = 0
    for path in segments(folder, stream):
        name = segment_name(path.name)
        if name is not None and not name.open:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                latest_ns = max(latest_ns, status.st_mtime_ns)
                yield latest_ns, path, status.st_size
