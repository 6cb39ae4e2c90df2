"""Writes one stream of records to segment files: a full segment is sealed, and the next one begins."""

import contextlib
import os
from collections.abc import Callable
from pathlib import Path

from gateway.records.segments import segment_name, segment_path, segments


class SegmentWriter:
    """Appends to the open segment of the stream `name` in `folder`. Full from `segment_bytes` on.

    Every method may raise OSError, after which the file is as it was before the call.
    """

    def __init__(self, folder: Path, name: str, segment_bytes: int) -> None:
        self.name = name
        self._folder = folder
        self._segment_bytes = segment_bytes
        self._path = folder  # of the open segment, once there is one
        self._file: int | None = None
        self._cuts: list[tuple[int, int, Callable[[], None]]] = []
        self.number = 0
        self.size = 0

    def open(self) -> None:
        """Continue the segment that an earlier run left open, cutting off a torn last line, or begin a new one.

        Called before each write; does nothing if the segment is open and still in place.
        """
        if self._in_place():
            return
        self._apply_cuts()
        self.close()  # the file was deleted or moved: no one would read what is written there
        self._folder.mkdir(parents=True, exist_ok=True)
        last = next(reversed(segments(self._folder, self.name)), None)
        name = segment_name(last.name) if last is not None else None
        self.number = 1 if name is None else name.number + (not name.open)
        self._path = segment_path(self._folder, self.name, self.number, open=True)
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        self.size = _end_of_lines(self._file)
        os.ftruncate(self._file, self.size)

    def _in_place(self) -> bool:
        if self._file is None:
            return False
        try:
            return os.path.samestat(os.fstat(self._file), os.stat(self._path))
        except OSError:
            return False

    def write(self, data: bytes | memoryview) -> None:
        """Append whole lines."""
        assert self._file is not None
        left = memoryview(data)
        try:
            while left:
                left = left[os.pwrite(self._file, left, self.size + len(data) - len(left)) :]
        except OSError:
            with contextlib.suppress(OSError):
                self.roll_back()
            raise
        self.size += len(data)

    def roll_back(self) -> None:
        """Cut off what a failed `write` may have left. `write` does so itself; call this if that may have failed."""
        if self._file is not None:
            os.ftruncate(self._file, self.size)

    @property
    def full(self) -> bool:
        """Whether the segment has reached its size and should be sealed."""
        return self.size >= self._segment_bytes

    def seal(self) -> None:
        """Sync, rename and close the segment, which never changes again; the next `open` begins another."""
        if self._file is None:
            return
        os.fsync(self._file)
        self._path.rename(segment_path(self._folder, self.name, self.number, open=False))
        self.close()

    def close(self) -> None:
        """Close the file without sealing it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def cut(self, number: int, size: int, done: Callable[[], None]) -> None:
        """Have the next `open` truncate segment `number` to `size`, to undo a killed run's writes, then call `done`.

        Must be called before the first `open`: later writes would be cut off too.
        """
        self._cuts.append((number, size, done))

    def _apply_cuts(self) -> None:
        while self._cuts:
            number, size, done = self._cuts[0]
            path = segment_path(self._folder, self.name, number, open=True)
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_size > size:
                    os.truncate(path, size)
            done()
            del self._cuts[0]


def _end_of_lines(file: int) -> int:
    """The offset after the last complete line. A power failure may have left half a line, and zeros."""
    end = os.fstat(file).st_size
    while end:
        begin = max(0, end - 65536)
        found = os.pread(file, end - begin, begin).rfind(b"\n")
        if found >= 0:
            return begin + found + 1
        end = begin
    return 0
