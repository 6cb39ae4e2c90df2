"""Which content of a version's files is known to load, and which to do harm: not a path, nor a number, is trusted.

A file that was overwritten since is another version, whatever it is called. A content is told by what the file system
says of each file that may be read: its inode changes where the file is replaced, its ctime with every write, which no
program can set back. So looking costs no reading, however large the weights are.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.version_key import VersionKey

Content = tuple[tuple[str, int, int, int, int], ...]  # of each file: its path, inode, size, mtime and ctime in ns
BESIDE: Final = ("model.yaml", "warmup.json")  # what a load reads that lies beside the versions
DEPTH: Final = 4  # of folders in a version's folder


class Contents:
    """Those of the repository at `path`. May be asked from any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._good: dict[VersionKey, Content] = {}
        self._bad: dict[VersionKey, tuple[Content, str]] = {}

    def fingerprint(self, key: VersionKey) -> Content:
        """What lies there now; takes a look at each file."""
        folder = self.path / key[0]
        files = [*_files(folder / str(key[1]), DEPTH), *(folder / name for name in BESIDE)]
        return tuple(found for file in files if (found := _seen(file)) is not None)

    def mark_good(self, key: VersionKey, content: Content) -> None:
        """To load this content does no harm."""
        with self._lock:
            self._good[key] = content
            self._bad.pop(key, None)

    def mark_bad(self, key: VersionKey, content: Content, why: str) -> None:
        """This content has ended the process that loaded it, or kept it for ever."""
        with self._lock:
            self._bad[key] = content, why
            self._good.pop(key, None)

    def is_good(self, key: VersionKey) -> bool:
        """Whether what lies there now is known to do no harm."""
        return self._good.get(key) == self.fingerprint(key)

    def why_bad(self, key: VersionKey) -> str:
        """Why what lies there now must not be loaded; empty where nothing is known against it."""
        content, why = self._bad.get(key, ((), ""))
        return why if why and content == self.fingerprint(key) else ""

    def unknown(self, keys: Iterable[VersionKey]) -> list[VersionKey]:
        """Those of which it is not known whether what lies there now does harm."""
        return [key for key in keys if not self.is_good(key) and not self.why_bad(key)]


def _files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not entry.is_dir():
            yield Path(entry.path)
        elif depth:
            yield from _files(Path(entry.path), depth - 1)


def _seen(file: Path) -> tuple[str, int, int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return str(file), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
