"""The time limit of a candidate: the request's timeout less the time that stable needs for a rescue."""

from typing import Final

from gateway.backends.recent_latency import Pace

# From the candidate's timeout to the start of stable: timers count in milliseconds, and a busy core fires them late.
MARGIN_NS: Final = 4_000_000
MARGIN_PART: Final = 8  # this part of the request's timeout, if it is more
LASTS_NS: Final = 20_000_000  # for which a budget holds


class TimeBudget:
    """The budget of the requests to one model. Every split request reads it, so it has attributes instead of calls.

    `patience_ns`: the candidate's time limit, for a request with a timeout of `given_ns`; 0 if it would be less than
    stable's 99th percentile: the timeout is too short for both. `fair`: it is at least the known 99th percentile of
    stable. Call `renew` before use if the request's timeout is not `given_ns` or it starts after `due_ns` (monotonic).
    """

    __slots__ = ("_pace", "_rescue_after_ns", "due_ns", "fair", "given_ns", "patience_ns")

    def __init__(self, pace: Pace, rescue_after_ns: int) -> None:
        self._pace = pace
        self._rescue_after_ns = rescue_after_ns
        self.due_ns = self.given_ns = self.patience_ns = 0
        self.fair = False

    def renew(self, given_ns: int, now_ns: int) -> None:
        """Compute the budget for requests with a timeout of `given_ns`. `now_ns`: monotonic."""
        if now_ns > self.due_ns:
            self._pace.renew()
            self.due_ns = now_ns + LASTS_NS
        p99_ns = self._pace.p99_ns
        left_ns = given_ns - p99_ns - max(MARGIN_NS, given_ns // MARGIN_PART)
        enough = left_ns > 0 and left_ns >= p99_ns
        self.given_ns = given_ns
        self.patience_ns = min(left_ns, self._rescue_after_ns) if enough else 0
        self.fair = 0 < p99_ns <= self.patience_ns
