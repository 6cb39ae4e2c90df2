"""Workers left behind by a killed control process, found by the memory files that they have mapped.

No list of them is kept: it would have to be on disk before the first of them serves, and a full or slow disk would hide
that worker for good from the next control, which then served beside it.
"""

import asyncio
import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Final

from gateway.control.pool.shutdown import shut_down
from gateway.shm.process_identity import status
from gateway.shm.segment import memory_folder

PROCESSES: Final = Path("/proc")
WORKER: Final = b"gateway.worker"  # in the command line; others, such as commands, map the memory for a moment
_MAPPED: Final = re.compile(rb"^\S+ \S+ \S+ ([0-9a-f]+):([0-9a-f]+) \d+ +(.*)$", re.MULTILINE)
_GONE: Final = (FileNotFoundError, ProcessLookupError)
log: Final = logging.getLogger("gateway.control.pool")


class OrphanedWorker:
    """A process that is not a child of this one, with what `shut_down` needs of a subprocess."""

    def __init__(self, pid: int, started: int) -> None:
        self.pid = pid
        self._started = started

    def poll(self) -> int | None:
        """None while it runs, else 0: the exit code of another's child is not known."""
        try:
            now = status(self.pid)
        except _GONE:
            return 0
        except OSError:  # no descriptors to look with
            return None
        return 0 if now.ended or now.started != self._started else None

    def send_signal(self, number: int) -> None:
        """Send the signal, unless it has ended."""
        with contextlib.suppress(OSError):
            os.kill(self.pid, number)

    def wait(self) -> int:
        """Not waited for: it cannot be reaped here."""
        return 0


class OrphanedWorkers:
    """The surviving workers of a killed control process on the memory files called `memory`, which this process has
    claimed. They serve stable until the new workers are ready.
    """

    def __init__(self, memory: str) -> None:
        self._prefix = f"{memory_folder()}/{memory}.".encode()
        self._found = workers_on(self._prefix)
        self.skip_drain = asyncio.Event()
        if self._found:
            log.warning("%d workers of a killed run serve stable until those of this one are ready", len(self._found))

    def __len__(self) -> int:
        return len(self._found)

    async def end(self, drain_s: float) -> None:
        """Have them drain for `drain_s` seconds and end; kill those still alive 2 s later, or 2 s after `skip_drain` is
        set. Looks again before: one may only have been starting when they were looked for.
        """
        self._found = await asyncio.to_thread(workers_on, self._prefix)
        await shut_down(self._found, drain_s, self.skip_drain)


def workers_on(prefix: bytes) -> list[OrphanedWorker]:
    """The worker processes, other than children of this one, that have mapped files whose paths begin so, on this
    container's memory. None where there is no /proc.
    """
    if not PROCESSES.is_dir():
        return []
    where = memory_folder().stat().st_dev
    pids = [int(name) for name in os.listdir(PROCESSES) if name.isdigit()]
    return [orphan for pid in pids if (orphan := _worker_on(pid, prefix, where)) is not None]


def _worker_on(pid: int, prefix: bytes, device: int) -> OrphanedWorker | None:
    try:
        if WORKER not in (PROCESSES / f"{pid}/cmdline").read_bytes():
            return None
        now = status(pid)
        if now.ended or now.parent == os.getpid():
            return None
        mapped = _MAPPED.findall((PROCESSES / f"{pid}/maps").read_bytes())
    except (*_GONE, PermissionError):  # it has ended, or is another user's
        return None
    places = ((os.makedev(int(major, 16), int(minor, 16)), path) for major, minor, path in mapped)
    return (
        OrphanedWorker(pid, now.started)
        if any(at == device and path.startswith(prefix) for at, path in places)
        else None
    )
