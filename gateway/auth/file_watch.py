"""Watches files that may be replaced while they are in use: keys and certificates."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

CHECK_INTERVAL_S: Final = 1.0
log: Final = logging.getLogger("gateway.auth")
Fingerprint = tuple[tuple[int, int, int] | None, ...]


class FileWatcher:
    """Calls `load` at the start, and again whenever one of the files has changed.

    If it fails at a change, what was loaded before stays in use and the reason is logged once. It is tried again every
    second, since two files that belong together are rarely replaced at one moment. `in_thread`: `load` takes long, and may
    run on a thread while what it loaded before is in use.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], None], *, in_thread: bool = False) -> None:
        self._paths = paths
        self._load = load
        self._in_thread = in_thread
        self._loaded = self._failed = self._fingerprint()
        load()

    def refresh(self) -> None:
        """Load the files again if they have changed. Never raises."""
        now = self._fingerprint()
        if now == self._loaded:
            return
        try:
            self._load()
        except Exception as error:  # whatever is in a file: who follows it must live on, to read the next one
            if now != self._failed:
                self._failed = now
                log.error("%s not loaded, what was read before stays in force: %s", self, error)
            return
        self._loaded = now
        log.info("%s loaded again", self)

    async def watch(self) -> None:
        """Refresh every second, for ever."""
        while True:
            await asyncio.sleep(CHECK_INTERVAL_S)
            if not self._in_thread:
                self.refresh()
                continue
            try:
                await asyncio.to_thread(self.refresh)
            except RuntimeError as error:  # no thread is to be had: what follows the file must live on
                log.error("%s not looked at: %s", " and ".join(map(str, self._paths)), error)

    def __str__(self) -> str:
        return " and ".join(map(str, self._paths))

    def _fingerprint(self) -> Fingerprint:
        return tuple(map(_stat, self._paths))


def _stat(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
