"""Listens for hints that a member has changed something, and goes on when the connection is lost."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from gateway.control.fleet.store import StoreUnavailable

log: Final = logging.getLogger("gateway.control.fleet")
FIRST_PAUSE_S: Final = 0.1
LONGEST_PAUSE_S: Final = 2.0


class Hints:
    """Runs `listen` as long as it is open, from the first `wait` on; pauses between two runs grow to two seconds.

    `listen` calls `connected` once it would hear a hint, `notify` with each, and raises StoreUnavailable in the end.
    """

    def __init__(self, listen: Callable[["Hints"], Awaitable[None]]) -> None:
        self._listen = listen
        self._event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._pause_s = FIRST_PAUSE_S
        self._lost = ""
        self._was_connected = False

    async def wait(self) -> None:
        """Return after a hint, or if some may have been missed. May be cancelled at any time: no hint is lost then."""
        if self._task is None:
            self._task = asyncio.create_task(self._run())
        await self._event.wait()
        self._event.clear()

    def notify(self) -> None:
        """Let `wait` return."""
        self._event.set()

    def connected(self) -> None:
        """Let `wait` return unless this is the first connection: a hint may have been missed before it."""
        if self._lost:
            log.info("fleet: hears of other hosts' changes at once again")
        if self._was_connected:
            self._event.set()
        self._was_connected = True
        self._lost = ""
        self._pause_s = FIRST_PAUSE_S

    async def close(self) -> None:
        """Stop listening."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            try:
                await self._listen(self)
            except StoreUnavailable as error:
                self._note_lost(str(error))
            except Exception as error:  # a client library's: hints may fail, but must go on
                self._note_lost(f"{type(error).__name__}: {error}")
            await asyncio.sleep(self._pause_s)
            self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _note_lost(self, why: str) -> None:
        if why != self._lost:
            log.warning("fleet: hears of other hosts' changes only with the next beat: %s", why)
        self._lost = why
