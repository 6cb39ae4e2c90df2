"""Memory that one process writes and another reads: blocks for tensors, which only the writer allocates and frees.

The memory is an unnamed file (memfd), passed over a socket. So a killed process leaves nothing behind, a small /dev/shm
is no limit, and a mapping lasts as long as its user. The other side cannot shrink the file (F_SEAL_SHRINK), so reading
it cannot kill the reader by SIGBUS.
"""

import contextlib
import fcntl
import mmap
import os
import tempfile
from typing import Final

SMALLEST: Final = 1 << 10  # bytes; block sizes are powers of two from here on
STEP: Final = 1 << 18  # bytes; the least by which the file grows: small blocks are cut from one step
LARGE: Final = 1 << 20  # bytes; free blocks of at least this size are returned to the system beyond SPARE
SPARE: Final = 1 << 26  # bytes of large free blocks that are kept
LIMIT: Final = 1 << 28  # bytes of one arena
_F_ADD_SEALS: Final = getattr(fcntl, "F_ADD_SEALS", None)
_F_GET_SEALS: Final = getattr(fcntl, "F_GET_SEALS", None)
_SEAL_SHRINK: Final = getattr(fcntl, "F_SEAL_SHRINK", 0)
_REMOVE: Final = getattr(mmap, "MADV_REMOVE", None)


class ArenaError(Exception):
    """The other side's memory is not as it was described."""


class Block:
    """A block of an arena: `offset` and `size` in bytes, `view` to write to it."""

    __slots__ = ("offset", "size", "view")

    def __init__(self, offset: int, size: int, view: memoryview) -> None:
        self.offset = offset
        self.size = size
        self.view = view


class Arena:
    """The writer's side. `limit`: its maximum size in bytes. Not thread-safe.

    A block is reserved from `take` to `give_back`, which must wait until the reader no longer uses it.
    """

    def __init__(self, limit: int = LIMIT) -> None:
        self.file = _unnamed_file()
        self.taken = 0  # blocks
        self._limit = limit
        self._size = 0
        self._free: dict[int, list[Block]] = {}
        self._removed: dict[int, list[Block]] = {}  # large blocks whose memory has been returned
        self._resident = 0
        self._spare = 0

    def take(self, size: int) -> Block | None:
        """A block of `size` bytes or more; None if there is no memory for it."""
        rounded = max(SMALLEST, 1 << max(size - 1, 0).bit_length())
        free = self._free.get(rounded)
        if free:
            block = free.pop()
            if rounded >= LARGE:
                self._spare -= rounded
        else:
            found = self._restored(rounded) or self._grown(rounded) or self._larger(rounded)
            if found is None:
                return None
            block = found
        self.taken += 1
        return block

    def give_back(self, block: Block) -> None:
        """Free the block."""
        self.taken -= 1
        size = block.size
        if size >= LARGE:
            if self._spare + size > SPARE and self._remove(block):
                self._removed.setdefault(size, []).append(block)
                return
            self._spare += size
        self._free.setdefault(size, []).append(block)

    def close(self) -> None:
        """Close the file. What is mapped of it stays as long as it is used."""
        if self.file >= 0:
            os.close(self.file)
            self.file = -1

    def _remove(self, block: Block) -> bool:
        if _REMOVE is None:
            return False
        with contextlib.suppress(OSError):
            whole = block.view.obj
            assert isinstance(whole, mmap.mmap)
            whole.madvise(_REMOVE, 0, block.size)
            self._resident -= block.size
            return True
        return False

    def _restored(self, size: int) -> Block | None:
        removed = self._removed.get(size)
        if not removed or self._resident + size > self._limit or not self._reserved(removed[-1].offset, size):
            return None
        self._resident += size
        return removed.pop()

    def _grown(self, size: int) -> Block | None:
        """Grow the file by one block of `size`, or as many as fit into STEP; returns one of them."""
        step = max(size, STEP)
        if self._resident + step > self._limit or not self._reserved(self._size, step):
            return None
        offset = self._size
        try:
            view = memoryview(mmap.mmap(self.file, step, offset=offset))
        except OSError:
            return None
        self._size += step
        self._resident += step
        blocks = [Block(offset + at, size, view[at : at + size]) for at in range(0, step, size)]
        self._free.setdefault(size, []).extend(reversed(blocks[1:]))
        return blocks[0]

    def _larger(self, size: int) -> Block | None:
        """A larger free block, for use if there is no memory for one of this size; None if there is none."""
        for larger in sorted(other for other, free in self._free.items() if other > size and free):
            if larger >= LARGE:
                self._spare -= larger
            return self._free[larger].pop()
        return None

    def _reserved(self, offset: int, size: int) -> bool:
        """Allocate memory for these bytes now: a later write without memory would kill the process."""
        try:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self.file, offset, size)
            elif os.fstat(self.file).st_size < offset + size:
                os.ftruncate(self.file, offset + size)
        except OSError:
            return False
        return True


class ArenaView:
    """The reader's side of a file passed by the writer. Raises ArenaError if the writer could shrink it."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._view = memoryview(b"")
        if _F_GET_SEALS is not None and hasattr(os, "memfd_create"):
            try:
                sealed = fcntl.fcntl(file, _F_GET_SEALS) & _SEAL_SHRINK
            except OSError:
                sealed = 0
            if not sealed:
                raise ArenaError("the memory passed by the other side is not sealed against shrinking")

    def read(self, offset: int, size: int) -> memoryview:
        """These bytes, not copied. Raises ArenaError if they are not within the file."""
        if offset < 0 or size < 0:
            raise ArenaError(f"there are no {size} bytes at {offset}")
        if offset + size > len(self._view):
            length = os.fstat(self._file).st_size
            if offset + size > length:
                raise ArenaError(f"{size} bytes at {offset} are beyond the end of the memory, {length} bytes")
            self._view = memoryview(mmap.mmap(self._file, length, prot=mmap.PROT_READ))
        return self._view[offset : offset + size]

    def close(self) -> None:
        """Close the file. What is mapped of it stays as long as it is used."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def _unnamed_file() -> int:
    if hasattr(os, "memfd_create"):
        file = os.memfd_create("canary-gateway", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        if _F_ADD_SEALS is not None:
            fcntl.fcntl(file, _F_ADD_SEALS, _SEAL_SHRINK)
        return file
    with tempfile.TemporaryFile() as unlinked:  # macOS, for development
        return os.dup(unlinked.fileno())
