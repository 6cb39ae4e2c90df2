"""Rate limits in a fleet: this host admits its share of each limit, which control writes into shared memory.

A share is a whole number of requests per window, so a window holds at least ten: a limit of 1/s is counted as ten
requests in ten seconds, and a host that has a tenth of it may admit one.
"""

from pathlib import Path
from typing import Final

from gateway.auth.rate_limit import Quota, RateLimiter, attach_rate_counters, has_limits, quota_of
from gateway.errors import RateExceeded
from gateway.settings.gateway import RateSettings
from gateway.shm.rate_counters import ROW_PLACES, RateCounters
from gateway.shm.rate_shares import RateShares

LEAST: Final = 10
WITHOUT_SHARE_NS: Final = 1_000_000_000  # a host that is asked gets a share within this time, if any is left


class FleetRateLimiter(RateLimiter):
    """The limits as one worker of a host in a fleet applies them."""

    least = LEAST

    def __init__(
        self, settings: RateSettings, book: RateCounters, shares: RateShares, worker: int, head: "memoryview[int]"
    ) -> None:
        super().__init__(settings, book, worker, head)
        self._shares = shares.words
        self._refused = shares.refusals(worker)

    def _rate_exceeded(self, quota: Quota, limit: int, window: int, elapsed_ns: int) -> RateExceeded:
        self._refused[quota.places[0]] += 1
        return super()._rate_exceeded(quota, limit, window, elapsed_ns)

    def _wait_ns(self, quota: Quota, window: int, elapsed_ns: int) -> int:
        return super()._wait_ns(quota, window, elapsed_ns) if quota.limit else WITHOUT_SHARE_NS


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
) -> RateLimiter | None:
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
