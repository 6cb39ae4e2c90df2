"""The time limit of a candidate: the request's timeout less the time that stable needs to answer instead."""

from typing import Final

from gateway.backends.recent_latency import RecentLatency

# From the candidate's timeout to the start of stable: timers count in milliseconds, and a busy core fires them late.
MARGIN_NS: Final = 4_000_000
MARGIN_DIVISOR: Final = 8  # or the timeout divided by this, if that is more
TTL_NS: Final = 20_000_000  # how long a budget is valid


class TimeBudget:
    """The budget of the requests to one model. Every split request reads it, so it has attributes instead of methods.

    `candidate_timeout_ns`: the candidate's time limit if the request's timeout is `request_timeout_ns`; 0 if that is
    too short for both: it leaves the candidate less than stable's 99th percentile. `timeout_is_fair`: the limit is at
    least stable's 99th percentile, which is known. Call `renew` before use if the request's timeout is not
    `request_timeout_ns` or the request starts after `expires_ns` (monotonic).
    """

    __slots__ = (
        "_latency", "_rescue_after_ns", "candidate_timeout_ns", "expires_ns", "request_timeout_ns", "timeout_is_fair",
    )  # fmt: skip

    def __init__(self, latency: RecentLatency, rescue_after_ns: int) -> None:
        self._latency = latency
        self._rescue_after_ns = rescue_after_ns
        self.expires_ns = self.request_timeout_ns = self.candidate_timeout_ns = 0
        self.timeout_is_fair = False

    def renew(self, request_timeout_ns: int, now_ns: int) -> None:
        """Compute the budget for requests with a timeout of `request_timeout_ns`. `now_ns`: monotonic."""
        if now_ns > self.expires_ns:
            self._latency.update_p99()
            self.expires_ns = now_ns + TTL_NS
        p99_ns = self._latency.p99_ns
        left_ns = request_timeout_ns - p99_ns - max(MARGIN_NS, request_timeout_ns // MARGIN_DIVISOR)
        enough = left_ns > 0 and left_ns >= p99_ns
        self.request_timeout_ns = request_timeout_ns
        self.candidate_timeout_ns = min(left_ns, self._rescue_after_ns) if enough else 0
        self.timeout_is_fair = 0 < p99_ns <= self.candidate_timeout_ns
