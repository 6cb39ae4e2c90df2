"""Requests of small rate limits that this worker has counted in the fleet's store, by control."""

import asyncio
import itertools
import time
from collections.abc import Callable
from typing import Final

from gateway.auth.fleet_rate_limit import BY_SHARE
from gateway.auth.rate_limit import Quota
from gateway.messages import CountReply, CountRequest

WITHIN_S: Final = 0.5  # control's own deadline is shorter: then it hangs
MOST_UNANSWERED: Final = 64  # so that the pipe of a control that hangs never fills


class RateCounting:
    """Those under way. `send` passes one to control and says whether control may hear it. `clock_s`: monotonic."""

    def __init__(self, send: Callable[[CountRequest], bool], clock_s: Callable[[], float] = time.monotonic) -> None:
        self._send = send
        self._clock_s = clock_s
        self._waiting: dict[int, asyncio.Future[int]] = {}
        self._unanswered = 0
        self._gone = False
        self._owing_s = 0.0  # since when control has answered nothing, though it was asked
        self._next = itertools.count(1)

    async def count(self, quota: Quota) -> int:
        """The time in ns until another request of the quota may be admitted; 0: this one is, BY_SHARE: no one says."""
        if self._gone or self._hangs() or self._unanswered >= MOST_UNANSWERED:
            return BY_SHARE
        number = next(self._next)
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            if not self._send(CountRequest(number, quota.places)):
                return BY_SHARE
            if not self._unanswered:
                self._owing_s = self._clock_s()
            self._unanswered += 1
            async with asyncio.timeout(WITHIN_S):
                return await answer
        except TimeoutError:
            return BY_SHARE
        finally:
            self._waiting.pop(number, None)

    def _hangs(self) -> bool:
        """Also if those who have asked have waited for less, since their own timeouts are short."""
        return self._unanswered > 0 and self._clock_s() - self._owing_s >= WITHIN_S

    def answer(self, reply: CountReply) -> None:
        """Control has counted it, or cannot."""
        self._unanswered -= 1
        self._owing_s = self._clock_s()
        waiting = self._waiting.get(reply.number)
        if waiting is not None and not waiting.done():
            waiting.set_result(reply.wait_ns)

    def give_up(self) -> None:
        """Control is gone."""
        self._gone = True
        for answer in self._waiting.values():
            if not answer.done():
                answer.set_result(BY_SHARE)
