"""Orders under way, to which all other work on control's loop gives way: a stop takes several of the loop's turns.

Else each of these turns might hold a piece of other work, half a millisecond that the stop waits for.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import Final

MOST_S: Final = 0.005  # for a piece of work: an edit takes seconds, and orders may come without a pause
POLL_S: Final = 0.001


class Pressing:
    """For one event loop."""

    def __init__(self) -> None:
        self._orders = 0

    @contextlib.contextmanager
    def order(self) -> Iterator[None]:
        """Meanwhile others give way."""
        self._orders += 1
        try:
            yield
        finally:
            self._orders -= 1

    async def give_way(self) -> None:
        """Let the loop take a turn; where an order is under way, wait for its end, for MOST_S at most."""
        await asyncio.sleep(0)
        if self._orders:
            loop = asyncio.get_running_loop()
            end_s = loop.time() + MOST_S
            while self._orders and loop.time() < end_s:
                await asyncio.sleep(POLL_S)
