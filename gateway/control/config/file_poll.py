"""A look at the routing file ten times a second, which reads it only where it may have changed."""

import os
from pathlib import Path
from typing import Final

from gateway.control.config.file_snapshot import Snapshot, snapshot

SETTLED_S: Final = 1.0  # from the first sight of a change: what is written later than that has another time
AGAIN_S: Final = 5.0  # a network's file system may tell old times for longer than it shows old contents


class Glance:
    """At the file of `path`. All times are of one clock that only rises."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._marks: tuple[int, ...] = ()
        self._marked_s = 0.0
        self._read_s = 0.0

    def now(self, now_s: float, last: Snapshot) -> Snapshot:
        """What is there; `last`, what was there at the last look, where nothing shows that it has changed since.

        No program can set a file's ctime: it changes with every write, whatever is done to its other times.
        """
        marks = _marks(self._path)
        if marks != self._marks or not marks:
            self._marks, self._marked_s = marks, now_s
        elif now_s - self._marked_s > SETTLED_S and now_s - self._read_s < AGAIN_S:
            return last
        self._read_s = now_s
        return snapshot(self._path)


def _marks(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
