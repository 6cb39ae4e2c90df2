"""Fetches an archive into a file that has no name, so that no proposal has to wait for a slow registry."""

import asyncio
import contextlib
import os
import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from gateway.control.command_priority import CommandPriority
from gateway.control.proposals.pace import Pace
from gateway.control.proposals.staged_version import MIN_FREE_BYTES, SYNC_BYTES, OutOfSpace
from gateway.control.release.disk import DiskThread
from gateway.errors import Conflict

PIECE_BYTES: Final = 1 << 20  # written at a time
CHECK_S: Final = 0.5  # between two looks at whether it is still wanted, and fast enough
PATIENCE_S: Final = 600.0  # in which nothing needs to arrive; from then on SLOWEST_BYTES_PER_S on average
SLOWEST_BYTES_PER_S: Final = 1 << 20


class ArchiveFile:
    """A file in `folder` that is gone with this process. For one thread at a time; raises OSError."""

    def __init__(self, folder: Path) -> None:
        self.size = 0
        self._file = tempfile.TemporaryFile(dir=folder, prefix=".")  # noqa: SIM115  it outlives this call
        self._unsynced = 0

    def write(self, piece: bytes) -> None:
        disk = os.fstatvfs(self._file.fileno())
        free = disk.f_bavail * disk.f_frsize
        if free - len(piece) < MIN_FREE_BYTES:
            raise OutOfSpace(free, len(piece))
        self._file.write(piece)
        self.size += len(piece)
        self._unsynced += len(piece)
        if self._unsynced >= SYNC_BYTES:
            self._file.flush()
            os.fdatasync(self._file.fileno())
            self._unsynced = 0

    def read_at(self, position: int) -> bytes:
        """The piece that begins there; empty at the end."""
        self._file.seek(position)
        return self._file.read(PIECE_BYTES)

    def close(self) -> None:
        self._file.close()


@contextlib.asynccontextmanager
async def fetched(
    chunks: AsyncGenerator[bytes, None],
    folder: Path,
    disk: DiskThread,
    priority: CommandPriority,
    unwanted: Callable[[], str],
    *,
    patience_s: float = PATIENCE_S,
) -> AsyncIterator[AsyncIterator[bytes]]:
    """All of them in a file in `folder`, in pieces of PIECE_BYTES, to be read while the context lasts. `unwanted`: why
    they are not wanted any more, empty as long as they are. Raises Conflict, also if they arrive too slowly; OSError.
    """
    loop = asyncio.get_running_loop()
    file, began_s = await disk.run(ArchiveFile, folder), loop.time()

    def given_up() -> str:
        taken_s = loop.time() - began_s
        if taken_s > patience_s + file.size / SLOWEST_BYTES_PER_S:
            return f"it arrives too slowly: {file.size >> 10} KiB within {taken_s:.0f} s"
        return unwanted()

    try:
        async with contextlib.aclosing(chunks):
            await _unless(given_up, _write(chunks, file, disk, priority))
        yield _read(file, disk, priority)
    finally:
        with contextlib.suppress(OSError):
            await disk.run(file.close)


async def _unless(given_up: Callable[[], str], work: Coroutine[Any, Any, None]) -> None:
    """Do the work, unless it is given up meanwhile. Raises Conflict with the reason."""
    task = asyncio.get_running_loop().create_task(work)
    try:
        while not task.done():
            await asyncio.wait((task,), timeout=CHECK_S)
            if why := given_up():
                raise Conflict(why)
        task.result()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _write(
    chunks: AsyncGenerator[bytes, None], file: ArchiveFile, disk: DiskThread, priority: CommandPriority
) -> None:
    pace, piece = Pace(), bytearray()
    async for chunk in chunks:
        piece += chunk
        await pace.after(len(chunk))
        if len(piece) >= PIECE_BYTES:
            await priority.yield_to_commands()
            await disk.run(file.write, bytes(piece))
            piece.clear()
    await disk.run(file.write, bytes(piece))


async def _read(file: ArchiveFile, disk: DiskThread, priority: CommandPriority) -> AsyncIterator[bytes]:
    pace, position = Pace(), 0
    while piece := await disk.run(file.read_at, position):
        position += len(piece)
        await pace.after(len(piece))
        await priority.yield_to_commands()
        yield piece
