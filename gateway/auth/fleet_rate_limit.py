"""Rate limits in a fleet: this host admits its share of each limit, which control writes into shared memory.

A share is a whole number of requests per window, so a window holds at least ten: a limit of 1/s is counted as ten
requests in ten seconds, and a host that has a tenth of it may admit one.

A limit below five a second is counted by the fleet's store, request by request: no host has a part of it then, and no
more is admitted at once than on one host. Above, its round trips would cost more than they are worth. Control says so
with a word below 0, and is asked for each request. Its share holds where control or the store does not answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Final, TypeVar

from gateway.auth.rate_limit import Quota, RateLimiter, attach_rate_counters, has_limits, quota_of
from gateway.errors import RateExceeded
from gateway.settings.gateway import RateSettings
from gateway.shm.rate_counters import ROW_PLACES, RateCounters
from gateway.shm.rate_shares import RateShares

LEAST: Final = 10
COUNTED_NS: Final = 2_000_000_000  # a longer window is that of a limit below five a second
WITHOUT_SHARE_NS: Final = 1_000_000_000  # a host that is asked gets a share within this time, if any is left
WAIT_PART: Final = 0.5  # of a request's timeout: the rest is for the answer
MOST_WAITING: Final = 4096  # customers of whom it is known that they must wait
BY_SHARE: Final = -1  # the answer for a request that is not counted in the store
T = TypeVar("T")


class MustCount(Exception):
    """The request has to be counted in the fleet's store first. `timeout_ns`: its own, 0 if that is not known."""

    timeout_ns = 0

    def __init__(self, quota: Quota) -> None:
        super().__init__("the request is to be counted in the fleet's store")
        self.quota = quota


class FleetRateLimiter(RateLimiter):
    """The limits as one worker of a host in a fleet applies them."""

    least = LEAST

    def __init__(
        self, settings: RateSettings, book: RateCounters, shares: RateShares, worker: int, head: "memoryview[int]"
    ) -> None:
        super().__init__(settings, book, worker, head)
        self._shares = shares.words
        self._refused = shares.refusals(worker)
        self._answers: dict[Quota, int] = {}  # of the store, for the request that is being admitted
        self._waits_until_ns: dict[Quota, int] = {}  # as the store has said, so that it need not be asked before
        self._asking: dict[Quota, asyncio.Future[int]] = {}  # what the store is being asked

    async def counted(
        self,
        act: Callable[[], T],
        count: Callable[[Quota], Awaitable[int]],
        waiting: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> tuple[T, float]:
        """What `act` returns, which admits requests, once they have been counted, and for how long that was waited for,
        in s. `count`: the time in ns until another request of the quota may be admitted; 0: this one is, BY_SHARE: the
        store has not answered. The share decides after WAIT_PART of the request's own timeout. It is waited for in the
        context `waiting()`.
        """
        answers: dict[Quota, int] = {}
        now_s = asyncio.get_running_loop().time
        began_s = 0.0
        while True:
            self._answers = answers
            try:
                return act(), now_s() - began_s if answers else 0.0
            except MustCount as must:
                quota, timeout_s = must.quota, must.timeout_ns / 1e9
            finally:
                self._answers = {}
            began_s = began_s or now_s()
            with waiting():
                try:
                    async with asyncio.timeout_at(began_s + timeout_s * WAIT_PART if timeout_s else None):
                        answers[quota] = await self._answer(quota, count)
                except TimeoutError:
                    answers[quota] = BY_SHARE

    async def _answer(self, quota: Quota, count: Callable[[Quota], Awaitable[int]]) -> int:
        """One question of a quota at a time. An answer that admits nobody is that of all who wait: else the requests of
        one customer, all at once, would take every place in the queue, and those beyond it the share in addition.
        """
        while (earlier := self._asking.get(quota)) is not None:
            if answer := await asyncio.shield(earlier):  # who gives up waiting must not cancel it for the others
                return answer
        asked = self._asking[quota] = asyncio.get_running_loop().create_future()
        answer = 0  # if this request is given up: the next one asks
        try:
            answer = await count(quota)
        finally:
            del self._asking[quota]
            asked.set_result(answer)
        return answer

    def _refuse(self, quota: Quota, limit: int, now_ns: int) -> None:
        answer = self._answers.get(quota)
        if answer == 0:
            return  # also if the shares hold again meanwhile
        if limit >= 0:
            super()._refuse(quota, limit, now_ns)
        if (until_ns := self._waits_until_ns.get(quota, 0)) > now_ns:
            raise self._rate_exceeded(quota, until_ns - now_ns)
        if answer is None:
            raise MustCount(quota)
        if answer == BY_SHARE:
            if wait := self._wait_ns(quota._replace(limit=share_of(limit)), now_ns):
                raise self._rate_exceeded(quota, wait)
        else:
            if len(self._waits_until_ns) >= MOST_WAITING:
                self._waits_until_ns.clear()
            self._waits_until_ns[quota] = now_ns + answer
            raise self._rate_exceeded(quota, answer)

    def _rate_exceeded(self, quota: Quota, wait_ns: int) -> RateExceeded:
        self._refused[quota.places[0]] += 1
        return super()._rate_exceeded(quota, wait_ns)

    def _wait_ns(self, quota: Quota, now_ns: int) -> int:
        return super()._wait_ns(quota, now_ns) if quota.limit else WITHOUT_SHARE_NS


def is_counted(quota: Quota) -> bool:
    """Whether the limit is so small that the fleet's store counts it."""
    return quota.limit == LEAST and quota.window_ns > COUNTED_NS


def share_of(word: int) -> int:
    """The share in a word; in one below 0 it is what holds if the store does not answer."""
    return word if word >= 0 else -1 - word


def quotas_of(settings: RateSettings) -> list[Quota]:
    """The quotas with shares, in the order of their words."""
    named = [
        quota_of(settings.customers[name], (place,), LEAST) for place, name in enumerate(sorted(settings.customers))
    ]
    if settings.default is None:
        return named
    first = len(named)
    return named + [quota_of(settings.default, (first + place,), LEAST) for place in range(ROW_PLACES)]


def create_rate_shares(settings: RateSettings, scoreboard: Path, workers: int) -> RateShares | None:
    """Control's, beside the scoreboard; None where no one's rate is limited."""
    return RateShares.create(_path(scoreboard), workers, _count(settings)) if has_limits(settings) else None


def attach_fleet_rate_limiter(
    settings: RateSettings, scoreboard: Path, workers: int, worker: int, head: "memoryview[int]"
) -> FleetRateLimiter | None:
    """A worker's, on control's books; None where no one's rate is limited."""
    if not has_limits(settings):
        return None
    book = attach_rate_counters(settings, scoreboard, workers)
    shares = RateShares.attach(_path(scoreboard), workers, _count(settings))
    return FleetRateLimiter(settings, book, shares, worker, head)


def _count(settings: RateSettings) -> int:
    return len(settings.customers) + (0 if settings.default is None else ROW_PLACES)


def _path(scoreboard: Path) -> Path:
    return scoreboard.with_suffix(".rateshares")
