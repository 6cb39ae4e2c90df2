"""Shares one expensive result among the clients that request it at about the same time,
without serving stale results.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

T = TypeVar("T")
MAX_PAUSE_S: Final = 0.2  # pause between two calls of `make`, unless the first took less


class SharedResult(Generic[T]):
    """Calls `make` for its callers, never twice at once. A caller who comes during a call gets the result of the next
    one, so no result is older than its request.
    """

    def __init__(self, make: Callable[[], Awaitable[T]]) -> None:
        self._make = make
        self._next: asyncio.Task[T] | None = None
        self._last: asyncio.Task[T] | None = None
        self._pause_end_s = 0.0

    async def get(self) -> T:
        """The result of a call of `make` that began after this call; raises what `make` raises."""
        if self._next is None:
            self._next = asyncio.get_running_loop().create_task(self._call(self._last))
        return await asyncio.shield(self._next)

    async def _call(self, before: "asyncio.Task[T] | None") -> T:
        if before is not None:
            await asyncio.wait([before])
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._pause_end_s - loop.time()))
        self._last, self._next = self._next, None
        began_s = loop.time()
        try:
            return await self._make()
        finally:
            now_s = loop.time()
            self._pause_end_s = now_s + min(MAX_PAUSE_S, now_s - began_s)
