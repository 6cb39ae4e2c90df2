"""How long a candidate may take: the request's time limit less the time that stable needs."""

from typing import Final

from gateway.backends.recent_latency import Pace

MARGIN_NS: Final = 4_000_000  # from a time-out to the start of stable: timers count in ms, and a busy core waits
MARGIN_PART: Final = 8  # of the whole, where that is more
LASTS_NS: Final = 20_000_000


class TimeBudget:
    """Of the requests to one model. This is on the way of every request that is split, and so without calls.

    `patience_ns`: what a candidate may take, or might have taken, of `given_ns`; 0 where that is less than stable
    takes: the time is too short for both. `fair`: it is no less than stable is known to take. Both are to be renewed
    where a request is given another time, or begins after `due_ns` on the monotonic clock.
    """

    __slots__ = ("_pace", "_rescue_after_ns", "due_ns", "fair", "given_ns", "patience_ns")

    def __init__(self, pace: Pace, rescue_after_ns: int) -> None:
        self._pace = pace
        self._rescue_after_ns = rescue_after_ns
        self.due_ns = self.given_ns = self.patience_ns = 0
        self.fair = False

    def renew(self, given_ns: int, now_ns: int) -> None:
        """Work them out for requests that are given so long."""
        if now_ns > self.due_ns:
            self._pace.renew()
            self.due_ns = now_ns + LASTS_NS
        p99_ns = self._pace.p99_ns
        left_ns = given_ns - p99_ns - max(MARGIN_NS, given_ns // MARGIN_PART)
        enough = left_ns > 0 and left_ns >= p99_ns
        self.given_ns = given_ns
        self.patience_ns = min(left_ns, self._rescue_after_ns) if enough else 0
        self.fair = 0 < p99_ns <= self.patience_ns
