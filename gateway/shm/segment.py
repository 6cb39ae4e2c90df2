"""A file of 64-bit words in memory, mapped into several processes. Each word has one writer, so nothing is locked.

The file lies on tmpfs: a mapping of a file on disk stalls on write-back (architecture.md). Plain mmap files rather than
multiprocessing.shared_memory, whose resource tracker destroys segments under live users.
"""

import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

from gateway.errors import SettingsError

MAGIC: Final = int.from_bytes(b"CANARYGW", "little")
HEADER_WORDS: Final = 4  # magic, layout, words, one to spare
WORD: Final = 8
SHARED: Final = Path("/dev/shm")


def memory_folder() -> Path:
    """Where memory files lie: tmpfs on Linux; elsewhere the folder for temporary files, for development."""
    return SHARED if SHARED.is_dir() else Path(tempfile.gettempdir())


class Segment:
    """A mapped file. `words` are its 64-bit words after the header, `raw` its bytes, from the header on."""

    __slots__ = ("path", "raw", "words")

    def __init__(self, path: Path, raw: mmap.mmap) -> None:
        self.path = path
        self.raw = raw
        self.words = memoryview(raw).cast("q")[HEADER_WORDS:]

    @classmethod
    def create(cls, path: Path, words: int, layout: int) -> "Segment":
        """A new file of `words` zeros, in place of any left by a killed run; raises SettingsError where it is too big.

        Processes that still map the old file keep it: nothing of theirs is seen here, and nothing of ours there.
        """
        size = (HEADER_WORDS + words) * WORD
        free = os.statvfs(path.parent)
        if free.f_bavail * free.f_frsize < size:
            raise SettingsError(
                str(path.parent),
                [
                    f"shared memory needs {size / 2**20:.1f} MiB, but only {free.f_bavail * free.f_frsize / 2**20:.1f}"
                    " MiB are free; give the container more (docker: --shm-size), or run fewer server.workers"
                ],
            )
        unfinished = path.with_suffix(f".{os.getpid()}")
        try:
            segment = cls(path, _zeros(unfinished, size))
        except OSError as error:  # others have taken what was free a moment ago
            unfinished.unlink(missing_ok=True)
            problem = f"shared memory of {size / 2**20:.1f} MiB cannot be made: {error.strerror}"
            raise SettingsError(str(path), [problem]) from None
        header = memoryview(segment.raw).cast("q")
        header[0], header[1], header[2] = MAGIC, layout, words
        unfinished.replace(path)
        return segment

    @classmethod
    def attach(cls, path: Path, layout: int) -> "Segment":
        """The file as another process made it; raises SettingsError where it is none of this layout."""
        try:
            with path.open("r+b") as file:
                segment = cls(path, mmap.mmap(file.fileno(), 0))
        except (OSError, ValueError) as error:
            raise SettingsError(str(path), [f"shared memory cannot be read: {error}"]) from None
        if len(segment.raw) < HEADER_WORDS * WORD or len(segment.raw) % WORD:
            raise SettingsError(str(path), ["is no shared memory of this gateway: its size is wrong"])
        magic, found, words = memoryview(segment.raw).cast("q")[:3]
        if magic != MAGIC or found != layout or len(segment.words) != words:
            raise SettingsError(str(path), ["is no shared memory of this version of the gateway"])
        return segment

    def remove(self) -> None:
        """Take the file away. Mappings live on until their processes end."""
        self.path.unlink(missing_ok=True)


def _zeros(path: Path, size: int) -> mmap.mmap:
    with path.open("w+b") as file:
        os.chmod(path, 0o600)
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, size)  # now, or a full tmpfs would kill us at some later write
        else:
            file.truncate(size)
        return mmap.mmap(file.fileno(), size)
