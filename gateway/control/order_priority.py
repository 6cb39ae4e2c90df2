"""Priority for orders (stop, resume, edits) on control's event loop: while one is in progress, other work pauses.

A stop takes several iterations of the loop. Without this, each could contain half a millisecond of other work, which
the stop would have to wait for.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

MOST_S: Final = 0.005  # for each piece of work: an edit takes seconds, and orders may come without a pause
POLL_S: Final = 0.001


class Pressing:
    """Counts the orders in progress on one event loop; other work awaits `give_way` between its pieces."""

    def __init__(self) -> None:
        self._orders = 0

    @contextlib.contextmanager
    def order(self) -> Iterator[None]:
        """Mark an order as in progress for the duration of the block: `give_way` then pauses its callers."""
        self._orders += 1
        try:
            yield
        finally:
            self._orders -= 1

    async def give_way(self) -> None:
        """Yield to the event loop once; if an order is in progress, wait until it ends, for at most MOST_S."""
        await asyncio.sleep(0)
        if self._orders:
            loop = asyncio.get_running_loop()
            end_s = loop.time() + MOST_S
            while self._orders and loop.time() < end_s:
                await asyncio.sleep(POLL_S)
