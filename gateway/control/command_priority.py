"""Priority for orders (stop, resume, edits) on control's event loop: while one is in progress, other work pauses.

A stop takes several iterations of the loop. Without this, each could contain half a millisecond of other work, which
the stop would have to wait for.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

MAX_PAUSE_S: Final = 0.005  # for each piece of work: an edit takes seconds, and orders may come without a pause
POLL_S: Final = 0.001


class CommandPriority:
    """Counts the orders in progress on one event loop; other work awaits `yield_to_commands` between its pieces."""

    def __init__(self) -> None:
        self._commands = 0

    @contextlib.contextmanager
    def command(self) -> Iterator[None]:
        """Mark an order as in progress for the duration of the block: `yield_to_commands` then pauses its callers."""
        self._commands += 1
        try:
            yield
        finally:
            self._commands -= 1

    async def yield_to_commands(self) -> None:
        """Yield to the event loop once; if an order is in progress, wait until it ends, for at most MAX_PAUSE_S."""
        await asyncio.sleep(0)
        if self._commands:
            loop = asyncio.get_running_loop()
            end_s = loop.time() + MAX_PAUSE_S
            while self._commands and loop.time() < end_s:
                await asyncio.sleep(POLL_S)
