"""Rate limits of customers (`limits.rate`), over all workers together.

A sliding window counter: requests admitted in the previous window count in proportion to the part of it that the last
`window_ns` still cover. All workers take the fixed borders of windows from the machine's monotonic clock, so no worker
keeps state that others would need. Never more than `limit` requests are admitted between two borders, whichever workers
they reach, except for those that several workers admit at the same instant.
"""

import math
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from gateway.errors import RateExceeded
from gateway.settings.gateway import RateSettings
from gateway.shm.rate_counters import RateCounters
from gateway.shm.scoreboard import SHED_RATE

WINDOW_S: Final = 1.0  # about; a whole number of requests must fit into a window
CACHED_CUSTOMERS: Final = 4096  # customers whose places need not be looked up again


class Quota(NamedTuple):
    """`limit` requests in `window_ns`, counted at these `places` of the RateCounters."""

    limit: int
    window_ns: int
    places: tuple[int, ...]


def quota_of(rate: float, places: tuple[int, ...], least: int = 1) -> Quota:
    """The quota of a customer that may send `rate` requests per second. `least`: so many fit into a window."""
    limit = max(least, round(rate * WINDOW_S))
    return Quota(limit, round(limit / rate * 1e9), places)


def wait_ns(quota: Quota, before: int, now: int, elapsed_ns: int) -> int:
    """The time until another request may be admitted, in ns; 0: at once.

    `before`, `now`: the requests admitted in the previous window, and in the present one, `elapsed_ns` after it began.
    """
    window_ns, limit = quota.window_ns, quota.limit
    left_ns = window_ns - elapsed_ns
    if now < limit:
        return max(0, math.floor(left_ns - window_ns * (limit - now) / before) + 1) if before else 0
    return left_ns + math.floor(window_ns * (1 - limit / now)) + 1


class RateLimiter:
    """The limits as one worker applies them. `head`: its words on the scoreboard."""

    least = 1  # requests in a window

    def __init__(self, settings: RateSettings, book: RateCounters, worker: int, head: "memoryview[int]") -> None:
        self._default = settings.default
        self._own_quotas = {
            customer: quota_of(settings.customers[customer], (place,), self.least)
            for place, customer in enumerate(sorted(settings.customers))
        }
        self._counters = book
        self._worker = worker
        self._head = head
        self._shares: memoryview[int] | None = None  # in a fleet: what is admitted here of the quota at each place
        self._quota = lru_cache(CACHED_CUSTOMERS)(self._quota_of)

    def admit(self, customer: str | None, now_ns: int) -> None:
        """Count a request in; raises RateExceeded. Those that name no customer count as one together."""
        quota = self._quota(customer or "")
        if quota is None:
            return
        limit, window_ns, places = quota
        if self._shares is not None:
            limit = self._shares[places[0]]
        window = now_ns // window_ns
        left = 1 - (now_ns - window * window_ns) / window_ns
        book = self._counters
        for place in places:
            before, now = book.counts(place, window)
            if now + before * left < limit:
                break
        else:
            self._refuse(quota, limit, now_ns)
        book.add(places, self._worker, window)

    def withdraw(self, customer: str | None, now_ns: int) -> None:
        """Undo `admit` of this time, which has admitted a request."""
        quota = self._quota(customer or "")
        if quota is not None:
            self._counters.remove(quota.places, self._worker, now_ns // quota.window_ns)

    def names(self, customer: str) -> bool:
        """Whether the settings give this customer a limit of its own."""
        return customer in self._own_quotas

    def _refuse(self, quota: Quota, limit: int, now_ns: int) -> None:
        """Raise RateExceeded. `limit`: what is admitted here, at most the quota's."""
        raise self._rate_exceeded(quota, self._wait_ns(quota._replace(limit=limit), now_ns))

    def _rate_exceeded(self, quota: Quota, wait_ns: int) -> RateExceeded:
        """Count the refusal. `wait_ns`: until another request may be admitted."""
        self._head[SHED_RATE] += 1
        return RateExceeded(quota.limit / quota.window_ns * 1e9, max(1, math.ceil(wait_ns / 1e9)))

    def _wait_ns(self, quota: Quota, now_ns: int) -> int:
        window, elapsed_ns = divmod(now_ns, quota.window_ns)
        return min(wait_ns(quota, *self._counters.counts(place, window), elapsed_ns) for place in quota.places)

    def _quota_of(self, customer: str) -> Quota | None:
        own = self._own_quotas.get(customer)
        if own is not None or self._default is None:
            return own
        return quota_of(self._default, self._counters.hashed(customer), self.least)


def create_rate_counters(settings: RateSettings, scoreboard: Path, workers: int) -> RateCounters | None:
    """Control's, beside the scoreboard; None where no one's rate is limited."""
    if not has_limits(settings):
        return None
    return RateCounters.create(_counters_path(scoreboard), workers, len(settings.customers))


def attach_rate_limiter(
    settings: RateSettings, scoreboard: Path, workers: int, worker: int, head: "memoryview[int]"
) -> RateLimiter | None:
    """A worker's, on control's book; None where no one's rate is limited."""
    if not has_limits(settings):
        return None
    return RateLimiter(settings, attach_rate_counters(settings, scoreboard, workers), worker, head)


def attach_rate_counters(settings: RateSettings, scoreboard: Path, workers: int) -> RateCounters:
    """Control's book as a worker maps it. Raises SettingsError."""
    return RateCounters.attach(_counters_path(scoreboard), workers, len(settings.customers))


def has_limits(settings: RateSettings) -> bool:
    """Whether anyone's rate is limited."""
    return settings.default is not None or bool(settings.customers)


def _counters_path(scoreboard: Path) -> Path:
    return scoreboard.with_suffix(".ratecounters")
