"""Takes records out of the workers' rings and writes them to segment files: the control process's one writer thread.

A slow, full or unwritable disk only makes the rings fill; what to do then the workers decide. What was half written
when the disk or the process failed is cut off again, and the same bytes are taken anew: none is lost, none comes twice.
"""

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS, segment_name, segments
from gateway.records.stream import Stream
from gateway.settings.gateway_settings import RecordsSettings
from gateway.shm.ring import Ring

STREAMS: Final = (PREDICTIONS, FEEDBACK, MIRRORS)
CHUNK: Final = 1 << 20  # bytes taken from a ring at a time
PAUSE_S: Final = 0.02  # between rounds in which there was nothing to do
RETRY_S: Final = 0.25  # after the disk has refused
LAST_S: Final = 10.0  # how long the end waits for the disk
log: Final = logging.getLogger("gateway.records")
Select = Callable[[bytes], bytes]  # which of some lines to write; may be asked about the same lines again
Heard = Callable[[bytes], None]  # is told lines that have been dealt with, once
EVERYTHING: Final[tuple[Select, Heard]] = (lambda lines: lines), (lambda lines: None)
NO_LISTENERS: Final[Mapping[str, tuple[Select, Heard]]] = {}


@dataclass(slots=True, eq=False)
class Source:
    """A ring and the stream that it goes to. `abandoned`: its writer is of a former run, and ends by and by."""

    ring: Ring
    stream: str
    abandoned: bool = False


class Journal:
    """The writer. `listeners`: for a stream, who chooses among its lines, and who is told of them."""

    def __init__(
        self, folder: Path, settings: RecordsSettings, listeners: Mapping[str, tuple[Select, Heard]] = NO_LISTENERS
    ) -> None:
        self.error = ""  # why the disk refuses; empty while it does not
        self.written = dict.fromkeys(STREAMS, 0)
        self._folder = folder
        self._retain = settings.retain
        self._listeners = listeners
        self._streams = {name: Stream(folder, name, settings.segment) for name in STREAMS}
        self._sources: list[Source] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)

    def add(self, source: Source) -> None:
        """Drain this ring too. One that a killed control process was draining must be added before `start`."""
        drain = source.ring.interrupted
        if drain is not None:
            self._streams[source.stream].cut(drain.segment, drain.offset)
            source.ring.undo_drain()
        self._sources = [*self._sources, source]

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Write what the workers have left, seal the segments, and end. What the disk refuses stays in its ring."""
        self._end.set()
        if self._thread.is_alive():
            self._thread.join(LAST_S)

    def _run(self) -> None:
        ending = False
        while not ending:
            ending = self._end.is_set()  # before the last round, not after it
            moved = self._round()
            if not moved and not ending:
                self._end.wait(RETRY_S if self.error else PAUSE_S)
        for stream in self._streams.values():
            try:
                if stream.size:
                    stream.seal()
            except OSError as error:
                self._refused(error)
            stream.close()

    def _round(self) -> bool:
        """Empty every ring once; whether there was anything in them that could be written."""
        moved = False
        for source in self._sources:
            alive = not source.abandoned or source.ring.owner_lives  # before the drain, not after it
            try:
                while self._drain(source):
                    moved = True
            except OSError as error:
                self._refused(error)
                return False
            if not alive and source.ring.empty:
                source.ring.remove()
                self._sources = [other for other in self._sources if other is not source]
        return moved

    def _drain(self, source: Source) -> bool:
        ring = source.ring
        data = ring.pending(CHUNK)
        end = data.rfind(b"\n") + 1
        if data and not end:  # an entry larger than a chunk
            data = ring.pending(1 << 62)
            end = data.rfind(b"\n") + 1
        if not end:
            return False
        data = data[:end]
        stream = self._streams[source.stream]
        stream.open()
        select, heard = self._listeners.get(source.stream, EVERYTHING)
        lines = select(data)
        ring.begin_drain(len(data), stream.number, stream.size)
        stream.write(lines)
        ring.release(len(data))
        heard(data)
        self.written[source.stream] += lines.count(b"\n")
        if self.error:
            log.info("records can be written again")
            self.error = ""
        if stream.full:
            stream.seal()
            self._make_room()
        return True

    def _make_room(self) -> None:
        """Delete the oldest sealed segments beyond `retain`: predictions first, feedback is small and dear."""
        sealed = {
            path: path.stat().st_size
            for names in ((PREDICTIONS, MIRRORS), (FEEDBACK,))
            for path in sorted(_sealed(self._folder, names), key=lambda path: path.stat().st_mtime_ns)
        }
        total = sum(sealed.values())
        for path, size in sealed.items():
            if total <= self._retain:
                return
            path.unlink(missing_ok=True)
            total -= size
            log.info("%s is deleted: records.retain is reached", path.name)

    def _refused(self, error: OSError) -> None:
        if not self.error:
            log.error("records cannot be written to %s: %s; predictions go on without", self._folder, error)
        self.error = str(error)


def _sealed(folder: Path, streams: tuple[str, ...]) -> list[Path]:
    found = [path for name in streams for path in segments(folder, name)]
    return [path for path in found if (name := segment_name(path.name)) is not None and not name.open]
