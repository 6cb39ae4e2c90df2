"""Writes small files in background threads, so that control waits for the disk only if and as long as it chooses to.

"Written" means passed to the kernel, which survives the death of this process. A second thread syncs to disk, to
survive the death of the machine: that takes as long as a journal commit of the file system.
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
from gateway.system.scheduling import set_realtime, set_realtime_helper

RETRY_S: Final = 1.0
SYNC_DELAY_S: Final = 0.01
log: Final = logging.getLogger("gateway.control.release")


class FileWriter:
    """Appends immediately and in order in one thread; replaces and syncs files in another. Methods do not block."""

    def __init__(self) -> None:
        self._append_thread = ThreadPoolExecutor(1, "append", initializer=set_realtime)
        # a thread of its own: a rename may stall behind a journal commit and must not delay appends
        self._sync_thread = ThreadPoolExecutor(1, "sync", initializer=set_realtime_helper)
        for threads in (self._append_thread, self._sync_thread):
            threads.submit(int)  # start the thread now: a stop must not fail because no thread can be created
        self._appended: Future[bool] | None = None
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._replacing: dict[Path, tuple[Callable[[], bytes], bool]] = {}  # content that waits; whether to retry
        self._unsynced: set[Path] = set()  # appended to since the last sync began

    def append(self, path: Path, line: bytes) -> None:
        """Append a line to the file, soon and in the order of calls. Errors are logged, see `wait_appended`."""
        self._appended = appended = self._append_thread.submit(self._append, path, line)
        appended.add_done_callback(lambda done: self._sync_soon(path, done.result()))  # whoever waits goes first

    def run_after_appends(self, act: Callable[[], None], path: Path) -> None:
        """Call `act` in the append thread, after all earlier appends. Its OSErrors are logged under `path`."""
        self._append_thread.submit(self._do, act, path)

    def replace(self, path: Path, content: Callable[[], bytes], *, retried: bool = True) -> None:
        """Replace the file atomically; `retried` every RETRY_S until the disk accepts it or the writer closes.
        Meanwhile no other file is replaced.

        `content` is called just before the write. If several replacements of one file wait, only the last is written.
        """
        with self._lock:
            waits, self._replacing[path] = path in self._replacing, (content, retried)
        if not waits:
            self._sync_thread.submit(self._delayed, self._replace, path)

    def run_after_sync(self, act: Callable[[], None]) -> None:
        """Call `act` in the sync thread once the last append so far is on disk; never if that append failed."""
        self._append_thread.submit(self._queue_after_sync, self._appended, act)

    async def wait_appended(self, within_s: float) -> bool:
        """Wait until the last append so far is written; False if it failed or takes longer than `within_s`."""
        last = self._appended
        if last is None:
            return True
        await asyncio.wait([asyncio.wrap_future(last)], timeout=within_s)
        return last.done() and last.result()

    @property
    def has_appended(self) -> bool:
        """Whether the last append so far has been written."""
        return self._appended is None or (self._appended.done() and self._appended.result())

    def close(self) -> None:
        """Write and sync everything that waits, without retries, and end both threads."""
        self._closing.set()
        self._append_thread.shutdown()
        self._sync_thread.shutdown()

    def _append(self, path: Path, line: bytes) -> bool:
        try:
            append(path, line)
        except OSError as error:
            log.error("%s cannot be written: %s", path, error.strerror)
            return False
        return True

    def _sync_soon(self, path: Path, appended: bool) -> None:
        with self._lock:
            waits = path in self._unsynced or not appended
            if appended:
                self._unsynced.add(path)
        if not waits:
            self._sync_thread.submit(self._delayed, self._sync, path)

    def _do(self, act: Callable[[], None], path: Path) -> None:
        try:
            act()
        except OSError as error:
            log.error("%s: %s", path, error)

    def _queue_after_sync(self, last: "Future[bool] | None", act: Callable[[], None]) -> None:
        if last is None or last.result():
            self._sync_thread.submit(act)  # queued after the sync of the append

    def _delayed(self, act: Callable[[Path], None], path: Path) -> None:
        """Delay `act` by SYNC_DELAY_S, so that it does not compete for the GIL with a caller that waits for an
        append.
        """
        self._closing.wait(SYNC_DELAY_S)
        act(path)

    def _replace(self, path: Path) -> None:
        with self._lock:
            make, retried = self._replacing.pop(path)
        content = make()
        last = ""
        while True:
            try:
                replace_durably(path, content)
                return
            except OSError as error:
                if str(error) != last:
                    again = "; trying again" if retried else ""
                    log.error("%s cannot be written%s: %s", path, again, error.strerror)
                last = str(error)
            if not retried or self._closing.wait(RETRY_S):
                return

    def _sync(self, path: Path) -> None:
        with self._lock:
            self._unsynced.discard(path)
        try:
            with path.open("rb") as file:
                os.fsync(file.fileno())
        except OSError as error:
            log.error("%s cannot be flushed to disk; a crash of the machine may lose it: %s", path, error.strerror)
