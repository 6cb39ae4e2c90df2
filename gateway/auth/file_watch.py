"""Files that may be replaced while they are used: keys and certificates."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

EVERY_S: Final = 1.0
log: Final = logging.getLogger("gateway.auth")
Fingerprint = tuple[tuple[int, int, int] | None, ...]


class FileWatcher:
    """What was made of some files, and is made anew when they change.

    Where that fails, what was made before stays in use and the reason is logged once; it is tried again every time,
    since two files that belong together are rarely replaced at one moment. `aside`: `load` takes long, and may run on a
    thread of its own while what it made before is used.
    """

    def __init__(self, paths: Sequence[Path], load: Callable[[], None], *, aside: bool = False) -> None:
        self._paths = paths
        self._load = load
        self._aside = aside
        self._used = self._complained = self._fingerprint()
        load()

    def refresh(self) -> None:
        """Load the files again if they have changed."""
        now = self._fingerprint()
        if now == self._used:
            return
        try:
            self._load()
        except Exception as error:  # whatever is in a file: who follows it must live on, to read the next one
            if now != self._complained:
                self._complained = now
                log.error("%s cannot be loaded; its last valid content stays in force: %s", self, error)
            return
        self._used = now
        log.info("%s has changed and is reloaded", self)

    async def follow(self) -> None:
        """Refresh every second, for ever."""
        while True:
            await asyncio.sleep(EVERY_S)
            if not self._aside:
                self.refresh()
                continue
            try:
                await asyncio.to_thread(self.refresh)
            except RuntimeError as error:  # no thread is to be had: what follows the file must live on
                log.error(
                    "%s cannot be checked for changes, which is tried again in a second: %s",
                    " and ".join(map(str, self._paths)),
                    error,
                )

    def __str__(self) -> str:
        return " and ".join(map(str, self._paths))

    def _fingerprint(self) -> Fingerprint:
        return tuple(map(_state, self._paths))


def _state(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_ino, status.st_size
