"""A file of 64-bit words in memory, mapped into several processes. Each word has one writer, so there are no locks.

The file is on tmpfs: a mapping of a file on disk stalls on write-back (architecture.md). It is a plain mmap file, since
the resource tracker of multiprocessing.shared_memory destroys segments that are in use.
"""

import fcntl
import mmap
import os
import tempfile
from pathlib import Path
from typing import Final

from gateway.errors import SettingsError
from gateway.system.durable_files import replacing

MAGIC: Final = int.from_bytes(b"CANARYGW", "little")
HEADER_WORDS: Final = 4  # magic, layout, words, one to spare
SPARE: Final = 3
WORD: Final = 8
SHARED_MEMORY: Final = Path("/dev/shm")
REMEDY: Final = "give the container more (docker: --shm-size), or run fewer server.workers or models"


def memory_folder() -> Path:
    """Return the folder for memory files: tmpfs on Linux; elsewhere the temporary folder, for development."""
    return SHARED_MEMORY if SHARED_MEMORY.is_dir() else Path(tempfile.gettempdir())


def is_held(path: Path) -> bool:
    """Whether any process has the file mapped or locked; raises OSError if it cannot be opened."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def layout_of(path: Path) -> int:
    """Return the layout number in the file's header; 0 if it cannot be read."""
    try:
        with path.open("rb") as file:
            header = file.read(HEADER_WORDS * WORD)
    except OSError:
        return 0
    return memoryview(header).cast("q")[1] if len(header) == HEADER_WORDS * WORD else 0


class SharedSegment:
    """A mapped file. `words` are its 64-bit words after the header, `raw` its bytes including the header.

    Each process that maps the file holds a shared lock on it, which ends with the process, even if it is killed: a file
    without a lock is a leftover.
    """

    __slots__ = ("_file", "path", "raw", "words")

    def __init__(self, path: Path, file: int, size: int) -> None:
        fcntl.flock(file, fcntl.LOCK_SH)  # the mapping keeps a duplicate of `file`, and so the lock
        self.path = path
        self._file: int | None = None  # only if some of its words have no memory yet
        self.raw = mmap.mmap(file, size)
        self.words = memoryview(self.raw).cast("q")[HEADER_WORDS:]

    @classmethod
    def create(cls, path: Path, words: int, layout: int, reserved: int | None = None) -> "SharedSegment":
        """Create a file of `words` zeros, replacing any left by a killed run; raise SettingsError if that fails.

        Only the first `reserved` words get memory (None: all); the others must not be accessed before `reserve`.
        Processes that still map the old file keep it and share nothing with the new one.
        """
        size = (HEADER_WORDS + words) * WORD
        needed = size if reserved is None else (HEADER_WORDS + reserved) * WORD
        _check_free(path, needed)
        unfinished = path.with_suffix(f".{os.getpid()}")
        try:
            with replacing(path, unfinished, 0o600, exclusive=True) as file:
                os.ftruncate(file, size)
                _allocate(file, 0, needed)  # now: otherwise a full tmpfs would kill us (SIGBUS) at a later write
                segment = cls(path, file, size)
                if needed < size:
                    segment._file = os.dup(file)
                header = memoryview(segment.raw).cast("q")
                header[0], header[1], header[2] = MAGIC, layout, words
        except OSError as error:  # other processes may have used the free memory meanwhile
            problem = f"shared memory of {needed / 2**20:.1f} MiB cannot be made: {error.strerror}"
            raise SettingsError(str(path), [problem]) from None
        return segment

    @classmethod
    def attach(cls, path: Path, layout: int) -> "SharedSegment":
        """Map a file that another process made; raise SettingsError if it is missing or of another layout."""
        try:
            with path.open("r+b") as file:
                segment = cls(path, file.fileno(), 0)
        except (OSError, ValueError) as error:
            raise SettingsError(str(path), [f"shared memory cannot be read: {error}"]) from None
        if len(segment.raw) < HEADER_WORDS * WORD or len(segment.raw) % WORD:
            raise SettingsError(str(path), ["is not shared memory of this gateway: its size is wrong"])
        magic, found, words = memoryview(segment.raw).cast("q")[:3]
        if magic != MAGIC or found != layout or len(segment.words) != words:
            raise SettingsError(str(path), ["is not shared memory of this version of the gateway"])
        return segment

    @property
    def spare_word(self) -> int:
        """A word of the header that is for the user, 0 at first."""
        return int(memoryview(self.raw).cast("q")[SPARE])

    @spare_word.setter
    def spare_word(self, value: int) -> None:
        memoryview(self.raw).cast("q")[SPARE] = value

    def reserve(self, first: int, count: int) -> None:
        """Allocate memory for `count` words from `first` on; raise SettingsError if memory is short.

        Words that already have memory keep their values.
        """
        if self._file is None:
            return
        _check_free(self.path, count * WORD)
        try:
            _allocate(self._file, (HEADER_WORDS + first) * WORD, count * WORD)
        except OSError as error:
            problem = f"{count * WORD / 2**10:.0f} KiB more of shared memory cannot be had: {error.strerror}; {REMEDY}"
            raise SettingsError(str(self.path), [problem]) from None

    def remove(self) -> None:
        """Delete the file. Existing mappings stay valid until their processes end."""
        self.path.unlink(missing_ok=True)
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _check_free(path: Path, size: int) -> None:
    free = os.statvfs(path.parent)
    if free.f_bavail * free.f_frsize < size:
        problem = (
            f"shared memory needs {size / 2**20:.1f} MiB, but only {free.f_bavail * free.f_frsize / 2**20:.1f} MiB are"
            f" free; {REMEDY}"
        )
        raise SettingsError(str(path.parent), [problem])


def _allocate(file: int, begin: int, size: int) -> None:
    if hasattr(os, "posix_fallocate"):  # elsewhere the folder for temporary files is on disk, and grows
        os.posix_fallocate(file, begin, size)
