"""Writes small files in a thread of its own, so that control waits for a disk only where and as long as it wants to.

Written means handed to the system, which is enough to survive the death of this process. That it reaches the disk, for
the death of the machine, is seen to by a second thread: a journal commit takes a disk's time.
"""

import asyncio
import logging
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Final

from gateway.control.release.append import append
from gateway.system.durable_files import replace_durably
from gateway.system.scheduling import go_along, set_realtime

RETRY_S: Final = 1.0
LATER_S: Final = 0.01
log: Final = logging.getLogger("gateway.control.release")


class FileWriter:
    """Appends at once and in order; replaces and syncs when the disk lets it."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(1, "append", initializer=set_realtime)
        self._slow = ThreadPoolExecutor(
            1, "sync", initializer=go_along
        )  # a rename may stall behind a journal commit: no append behind it
        for threads in (self._quick, self._slow):
            threads.submit(int)  # starts the thread: a stop must not fail for want of one
        self._appended: Future[bool] | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._replacing: dict[Path, Callable[[], bytes]] = {}  # what waits to be written
        self._unsynced: set[Path] = set()  # what has been added to since its last sync began

    def append(self, path: Path, line: bytes) -> None:
        """Add a line to the end of the file."""
        self._appended = self._quick.submit(self._append, path, line)

    def then(self, act: Callable[[], None], path: Path) -> None:
        """Do this once all is written that was appended so far; it may raise OSError. `path`: what it is about."""
        self._quick.submit(self._do, act, path)

    def replace(self, path: Path, content: Callable[[], bytes]) -> None:
        """Put this in the file's place, whole or not at all; again and again until the disk takes it.

        Of several for one file that wait, the last is written.
        """
        with self._lock:
            waits, self._replacing[path] = path in self._replacing, content
        if not waits:
            self._slow.submit(self._later, self._replace, path)

    def after(self, act: Callable[[], None]) -> None:
        """Have `act` called once what was appended so far is on the disk; never, where the disk has not taken it."""
        self._quick.submit(self._after, self._appended, act)

    async def wait_appended(self, within_s: float) -> bool:
        """Wait until what was appended so far is written; False where that takes too long or failed."""
        last = self._appended
        if last is None:
            return True
        await asyncio.wait([asyncio.wrap_future(last)], timeout=within_s)
        return last.done() and last.result()

    @property
    def has_appended(self) -> bool:
        """Whether everything appended so far is written."""
        return self._appended is None or (self._appended.done() and self._appended.result())

    def close(self) -> None:
        """Write and sync everything that the disk takes."""
        self._closing.set()
        self._quick.shutdown()
        self._slow.shutdown()

    def _append(self, path: Path, line: bytes) -> bool:
        try:
            append(path, line)
        except OSError as error:
            log.error("%s cannot be written: %s", path, error.strerror)
            return False
        with self._lock:
            waits = path in self._unsynced
            self._unsynced.add(path)
        if not waits:
            self._slow.submit(self._later, self._sync, path)
        return True

    def _do(self, act: Callable[[], None], path: Path) -> None:
        try:
            act()
        except OSError as error:
            log.error("%s: %s", path, error)

    def _after(self, last: "Future[bool] | None", act: Callable[[], None]) -> None:
        if last is None or last.result():
            self._slow.submit(act)  # behind the sync of what was appended

    def _later(self, act: Callable[[Path], None], path: Path) -> None:
        """Once whoever waits for an append is served: both want the interpreter, and this one is not waited for."""
        self._closing.wait(LATER_S)
        act(path)

    def _replace(self, path: Path) -> None:
        with self._lock:
            make = self._replacing.pop(path)
        content = make()
        last = ""
        while True:
            try:
                replace_durably(path, content)
                return
            except OSError as error:
                if str(error) != last:
                    log.error("%s cannot be written, which is tried again: %s", path, error.strerror)
                last = str(error)
            if self._closing.wait(RETRY_S):
                return

    def _sync(self, path: Path) -> None:
        with self._lock:
            self._unsynced.discard(path)
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            log.error("%s may be lost with the machine: %s", path, error.strerror)
