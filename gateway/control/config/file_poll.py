"""Polls the routing file ten times a second, and reads it only if its metadata may have changed."""

import os
from pathlib import Path
from typing import Final

from gateway.control.config.file_snapshot import Snapshot, snapshot

SETTLED_S: Final = 1.0  # after a change is first seen; a later write is certain to get another timestamp
REREAD_S: Final = 5.0  # read at least so often: a network file system may show old timestamps with new contents


class FilePoll:
    """Polls the file at `path`. All times are seconds of one monotonic clock."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._metadata: tuple[int, ...] = ()
        self._changed_s = 0.0
        self._read_s = 0.0

    def poll(self, now_s: float, last: Snapshot) -> Snapshot:
        """The file now, or `last`, the previous result, if its metadata shows no change since.

        This relies on the ctime, which no program can set: it changes with every write, whatever is done to the other
        times.
        """
        marks = _metadata(self._path)
        if marks != self._metadata or not marks:
            self._metadata, self._changed_s = marks, now_s
        elif now_s - self._changed_s > SETTLED_S and now_s - self._read_s < REREAD_S:
            return last
        self._read_s = now_s
        return snapshot(self._path)


def _metadata(path: Path) -> tuple[int, ...]:
    try:
        found = os.stat(path)
    except OSError:
        return ()
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
