"""One timer for the earliest deadline of many requests, of which hardly any reaches its deadline."""

import asyncio
import time
import weakref
from typing import Final, Protocol

NEVER_NS: Final = 2**63 - 1
FINEST_NS: Final = 1_000_000  # uvloop's clock counts milliseconds: an earlier timer would fire at once, too early


class Expiring(Protocol):
    """An owner of requests with deadlines."""

    def expire(self, now_ns: int) -> int:
        """Fail the requests due at `now_ns` (monotonic clock); returns the next deadline, NEVER_NS if there is none."""


class DeadlineAlarm:
    """Calls `owner.expire` at the earliest deadline. It does not keep its owner alive."""

    def __init__(self, loop: asyncio.AbstractEventLoop, owner: Expiring) -> None:
        self._loop = loop
        self._owner = weakref.ref(owner)
        self._timer: asyncio.TimerHandle | None = None
        self._deadline_ns = 0

    def set(self, deadline_ns: int) -> None:
        """Add a request's deadline, in ns on the monotonic clock."""
        if self._timer is not None:
            if deadline_ns >= self._deadline_ns:
                return
            self._timer.cancel()
        self._deadline_ns = deadline_ns
        self._timer = self._loop.call_later((deadline_ns - time.monotonic_ns()) / 1e9, self._fire)

    def _fire(self) -> None:
        self._timer = None
        owner = self._owner()
        if owner is None:
            return
        now_ns = time.monotonic_ns()
        next_ns = owner.expire(now_ns)
        if next_ns < NEVER_NS:
            self.set(max(next_ns, now_ns + FINEST_NS))
