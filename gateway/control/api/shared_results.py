"""What many ask for at about the same time and is dear to make: made once for all of them, and never too old."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
REST_S: Final = 0.2  # between the end of one making and the beginning of the next, unless it took less


class Fresh(Generic[T]):
    """`make` is called once at a time. Who asks while it is at work gets what it makes next: nothing is older than the
    question.
    """

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._next: asyncio.Task[T] | None = None
        self._last: asyncio.Task[T] | None = None
        self._rested_s = 0.0

    async def get(self) -> T:
        """What has been begun since this was called; raises what `make` raises."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._made(self._last))
        return await asyncio.shield(self._next)

    async def _made(self, before: "asyncio.Task[T] | None") -> T:
        if before is not None:
            await asyncio.wait([before])
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._rested_s - loop.time()))
        self._last, self._next = self._next, None
        began_s = loop.time()
        try:
            return await self._make()
        finally:
            now_s = loop.time()
            self._rested_s = now_s + min(REST_S, now_s - began_s)
