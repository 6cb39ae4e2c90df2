"""Remembers which content of a version's files loads without harm and which does harm; paths and numbers prove nothing.

A file that has been overwritten is another version, even under the same name. Content is identified by what the file
system says of each file that may be read: its inode changes when the file is replaced, its ctime with every write, and
no program can set ctime back. So checking needs no reading, however large the weights are.
"""

import os
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from gateway.version_key import VersionKey

Content = tuple[tuple[str, int, int, int, int], ...]  # of each file: its path, inode, size, mtime and ctime in ns
BESIDE: Final = ("model.yaml", "warmup.json")  # files beside the versions that a load reads
DEPTH: Final = 4  # of folders in a version's folder


class ContentVerdicts:
    """The verdicts on the repository at `path`. For any thread."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._good: dict[VersionKey, Content] = {}
        self._bad: dict[VersionKey, tuple[Content, str]] = {}

    def fingerprint(self, key: VersionKey) -> Content:
        """The identity of the version's files as they are now; stats each file."""
        folder = self.path / key[0]
        files = [*_files(folder / str(key[1]), DEPTH), *(folder / name for name in BESIDE)]
        return tuple(found for file in files if (found := _file_identity(file)) is not None)

    def mark_good(self, key: VersionKey, content: Content) -> None:
        """Note that this content loads, or fails, without harm."""
        with self._lock:
            self._good[key] = content
            self._bad.pop(key, None)

    def mark_bad(self, key: VersionKey, content: Content, why: str) -> None:
        """Note that loading this content ended or blocked the process. `why`: the error message."""
        with self._lock:
            self._bad[key] = content, why
            self._good.pop(key, None)

    def is_good(self, key: VersionKey) -> bool:
        """Whether the current content is known to be harmless."""
        return self._good.get(key) == self.fingerprint(key)

    def reason_bad(self, key: VersionKey) -> str:
        """Why the current content must not be loaded; empty if nothing is known against it."""
        content, why = self._bad.get(key, ((), ""))
        return why if why and content == self.fingerprint(key) else ""

    def unknown(self, keys: Iterable[VersionKey]) -> list[VersionKey]:
        """The versions whose current content has no verdict yet."""
        return [key for key in keys if not self.is_good(key) and not self.reason_bad(key)]


def _files(folder: Path, depth: int) -> Iterator[Path]:
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        if not _is_folder(entry):
            yield Path(entry.path)
        elif depth:
            yield from _files(Path(entry.path), depth - 1)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, or to where nothing may be read
        return False


def _file_identity(file: Path) -> tuple[str, int, int, int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return str(file), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns
