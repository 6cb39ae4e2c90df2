"""Takes records out of the workers' rings and writes them to segment files: the control process's one writer thread.

A slow, full or unwritable disk only makes the rings fill; what to do then the workers decide. What was half written
when the disk or the process failed is cut off again, and the same bytes are taken anew: none is lost, none comes twice.
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
CHUNK: Final = 1 << 20  # bytes taken from a ring at a time
MANY: Final = 1 << 19  # worth to be taken at once
LITTLE: Final = 1 << 14  # as much may still fit onto a disk that a chunk does not fit onto
BUSY: Final = 1 << 17  # where a ring gives as much as this, more is likely to come
PAUSE_S: Final = 0.02  # between rounds in which there was nothing to do
ROOMY: Final = 8 * MANY  # a smaller ring might be full by then
WAIT_S: Final = 0.1  # how long predictions wait until they are many: each drain takes a core from a worker
RETRY_S: Final = 0.25  # after the disk has refused
LAST_S: Final = 10.0  # how long the end waits for the disk
NEWLINE: Final = ord("\n")
AT_ONCE: Final = 1 << 16  # bytes looked at: what numpy makes of them stays in a core's cache
log: Final = logging.getLogger("gateway.control.record_writer")


class StreamHook(NamedTuple):
    """`filter`: which of some lines to write; may be asked about the same lines again. `on_written` is told lines that
    have been dealt with, once.
    """

    filter: Callable[[bytes], bytes]
    on_written: Callable[[bytes], None]


NO_LISTENERS: Final[Mapping[str, StreamHook]] = {}


@dataclass(slots=True, eq=False)
class RingSource:
    """A ring and the stream that it goes to. `abandoned`: its writer is of a former run, and ends by and by."""

    ring: Ring
    stream: str
    abandoned: bool = False
    drained_s: float = 0.0  # when, on the monotonic clock

    def may_wait(self) -> bool:
        """Whether what is there is better taken later, together with what comes by then. Not what guards hear of."""
        if self.stream != PREDICTIONS or self.abandoned or self.ring.size < ROOMY:
            return False
        return self.ring.waiting < MANY and time.monotonic() - self.drained_s < WAIT_S


class RecordWriter:
    """The writer. `listeners`: for a stream, who chooses among its lines, and who is told of them."""

    def __init__(
        self, folder: Path, settings: RecordsSettings, listeners: Mapping[str, StreamHook] = NO_LISTENERS
    ) -> None:
        self.written = dict.fromkeys(STREAMS, 0)
        self._errors: dict[str, str] = {}  # by stream
        self._folder = folder
        self._retain = settings.retain
        self._listeners = listeners
        self._streams = {name: SegmentWriter(folder, name, settings.segment) for name in STREAMS}
        self._sources: list[RingSource] = []
        self._pending: RingSource | None = None  # whose drain the disk has refused
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)

    @property
    def error(self) -> str:
        """Why records are not written; empty while they are."""
        return "; ".join(dict.fromkeys(list(self._errors.values())))

    def add(self, source: RingSource) -> None:
        """Drain this ring too. One that a killed control process was draining must be added before `start`."""
        drain = source.ring.interrupted
        if drain is not None:
            self._streams[source.stream].cut(drain.segment, drain.offset, source.ring.undo_drain)
        self._sources = [*self._sources, source]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what the workers have left, seal the segments, and end. What the disk refuses stays in its ring."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(LAST_S)

    def _run(self) -> None:
        raise_niceness()
        while True:
            ending = self._end.is_set()  # before the last round, not after it
            if self.round(patient=not ending):
                continue
            if ending:
                break
            self._end.wait(RETRY_S if self._errors else PAUSE_S)
        for stream in self._streams.values():
            with self._checked(stream.name):
                if stream.size:
                    stream.seal()
            stream.close()

    def round(self, *, patient: bool = False) -> bool:
        """Take two chunks at most from every ring: no busy one keeps the others waiting. Whether to go on at once.

        `patient`: leave what may wait, and rest where little was left.

        The writer thread does nothing else; called by anyone only while it does not run.
        """
        busy = False
        for source in self._sources:
            with self._checked(source.stream):
                alive = not source.abandoned or source.ring.owner_lives  # before the drain, not after it
                if not (source.ring.empty or (patient and source.may_wait())):
                    busy |= self._drain(source) >= (BUSY if patient else 1)
                if not alive and source.ring.empty:
                    source.ring.remove()
                    self._sources = [other for other in self._sources if other is not source]
        return busy

    def _drain(self, source: RingSource) -> int:
        """Write what waits in a ring, two chunks at most, or as much as the disk takes; how many bytes that were."""
        self._roll_back_pending()
        try:
            moved = self._move(source, CHUNK)
            if moved >= MANY:  # and what has come meanwhile: a ring that is empty begins again at its front
                moved += self._move(source, CHUNK)
            return moved
        except OSError:
            if self._pending is None:
                raise  # it was not the writing that failed
            self._roll_back_pending()
            return self._move(source, LITTLE)

    def _move(self, source: RingSource, most: int) -> int:
        ring = source.ring
        data = ring.lines(most)  # a view of the ring where that is possible
        if not data:
            return 0
        stream = self._streams[source.stream]
        stream.open()
        listener = self._listeners.get(source.stream)
        heard = b"" if listener is None else bytes(data)  # by then the ring may hold others in their place
        lines = data if listener is None else listener.filter(heard)
        count, size = _lines_in(lines), len(data)
        ring.begin_drain(size, stream.number, stream.size)
        self._pending = source
        stream.write(lines)
        ring.release(size)
        self._pending = None
        source.drained_s = time.monotonic()
        self.written[source.stream] += count
        if self._errors.pop(source.stream, ""):
            log.info("%s can be written again", source.stream)
        if listener is not None:
            listener.on_written(heard)
        if stream.full:
            stream.seal()
            self._make_room()
        return size

    def _roll_back_pending(self) -> None:
        """Before anything else is written: else the note of the drain that failed would name what others have written
        there since, and the next run would cut that off.
        """
        if self._pending is not None:
            self._streams[self._pending.stream].roll_back()
            self._pending.ring.undo_drain()
            self._pending = None

    def _make_room(self) -> None:
        """Delete the oldest sealed segments beyond `retain`: predictions first, feedback is small and dear.

        Of each stream in the order of their numbers, whatever the clock said when they were written.
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
            log.info("%s is deleted: records.retain is reached", path.name)

    @contextlib.contextmanager
    def _checked(self, stream: str) -> Iterator[None]:
        """What goes wrong with one stream is said once, and keeps no other from being written."""
        try:
            yield
        except OSError as error:
            if stream not in self._errors:
                log.error("%s cannot be written to %s: %s; predictions go on without", stream, self._folder, error)
            self._errors[stream] = str(error)
        except Exception as error:  # one line that no one foresaw must not end the writing of all others
            if stream not in self._errors:
                log.exception("%s cannot be written", stream)
            self._errors[stream] = f"{type(error).__name__}: {error}"


def _lines_in(data: bytes | memoryview) -> int:
    """By numpy, five times as fast as by bytes."""
    raw = np.frombuffer(data, np.uint8)
    return sum(int(np.count_nonzero(raw[at : at + AT_ONCE] == NEWLINE)) for at in range(0, len(raw), AT_ONCE))


def _sealed(folder: Path, stream: str) -> Iterator[tuple[int, Path, int]]:
    """In their order: when each was written, where it is, its size. A shipper may take one away meanwhile.

    A time is no earlier than that of the one before: it only says how two streams mix.
    """
    latest_ns = 0
    for path in segments(folder, stream):
        name = segment_name(path.name)
        if name is not None and not name.open:
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                latest_ns = max(latest_ns, status.st_mtime_ns)
                yield latest_ns, path, status.st_size
