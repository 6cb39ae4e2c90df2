"""A snapshot of the routing file: its bytes, and the metadata that shows who wrote it and when."""

import hashlib
import os
import pwd
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import SettingsError
from gateway.settings.routing_file import MAX_BYTES

REVISION_LENGTH: Final = 12


@dataclass(frozen=True, slots=True)
class FileStat:
    """Metadata that shows, without reading the file, whether it has been written since."""

    modified_ns: int
    inode: int
    size: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The file at one moment. `error`: why it cannot be read, else empty. `inode`, with time and content, shows
    whether the file was replaced.
    """

    content: bytes
    modified_ns: int = 0
    inode: int = 0
    uid: int = 0
    error: str = ""

    @property
    def revision(self) -> str:
        return revision_of(self.content)

    @property
    def stat(self) -> FileStat:
        return FileStat(self.modified_ns, self.inode, len(self.content))

    @property
    def owner(self) -> str:
        """The user name of the file's owner, or the user id if it has no name here."""
        try:
            return pwd.getpwuid(self.uid).pw_name
        except KeyError:
            return str(self.uid)

    def content_or_raise(self, source: str) -> bytes:
        """The content. Raises SettingsError if the file could not be read."""
        if self.error:
            raise SettingsError(source, [self.error])
        return self.content


def snapshot(path: Path) -> Snapshot:
    """Read the file now. Of a file beyond the size limit it reads only enough to show that. Does not raise: see
    `error`.
    """
    try:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            return Snapshot(file.read(MAX_BYTES + (1 << 20)), stat.st_mtime_ns, stat.st_ino, stat.st_uid)
    except FileNotFoundError:
        return Snapshot(b"", error=_missing(path))
    except OSError as error:
        return Snapshot(b"", error=f"cannot be read: {error.strerror}")


def file_stat(path: Path) -> FileStat:
    """The file's current standing; zeros if it does not exist."""
    try:
        stat = path.stat()
    except OSError:
        return FileStat(0, 0, 0)
    return FileStat(stat.st_mtime_ns, stat.st_ino, stat.st_size)


def _missing(path: Path) -> str:
    try:
        return f"its link leads to {os.readlink(path)}, which is not there"
    except OSError:  # no link
        return "there is no such file; run from the project's folder or name another"


def revision_of(content: bytes) -> str:
    """A short hash that identifies a file's content."""
    return hashlib.sha256(content).hexdigest()[:REVISION_LENGTH]
