"""The circuit breaker of one worker: stops a candidate after failures in a row that are its fault, or no answers."""

from typing import Final

from gateway.shm.tally import TRIPS, UNANSWERED

LASTING_NS: Final = 500_000_000  # timeouts of a shorter row may be due to one pause of the machine
SILENCE_NS: Final = 3_000_000_000  # without any answer, whoever is at fault


class Breaker:
    """Counts failures in a row of a release's candidate, within one epoch of the release.

    `answers` counts the candidate's answers: failures are in a row while it does not change. A failure is reported only
    after stable has run the request, when the candidate may have answered others, so each is reported with the value
    that `answers` had when it happened. The breaker trips on
    - `limit` errors in a row that are the candidate's fault;
    - `limit` failures in a row, timeouts included, if the row lasts LASTING_NS and stable does well on most of the late
      requests. One pause of the machine makes all requests in flight late at once; overload makes stable late as well;
    - UNANSWERED timeouts during SILENCE_NS without any answer, whoever is at fault: for overload, and for requests that
      do not show whose fault it is.
    """

    __slots__ = (
        "_epoch", "_failures", "_late", "_limit", "_row", "_row_ns", "_silent_ns", "_sudden", "_unanswered", "answers",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._epoch = 0
        self._row = -1
        self._row_ns = self._silent_ns = 0
        self._failures = self._late = self._sudden = self._unanswered = 0
        self.answers = 0

    def success(self) -> None:
        """Count an answer of the candidate to a request that was assigned to it: the row ends."""
        self.answers += 1

    def answered(self) -> None:
        """Note an answer of the candidate to a mirrored or pinned request: it does not hang."""
        self._unanswered = 0

    def failure(self, epoch: int, answers: int, failed_ns: int, *, late: bool, unanswered: bool, guilty: bool) -> str:
        """Count a failure; returns why the candidate must be stopped, one of TRIPS, or "".

        `epoch`: in which the request was decided. `answers`: the value when it failed, at `failed_ns` (monotonic).
        `late`: it was a timeout; `unanswered`: and counts as no answer; `guilty`: it is known to be the candidate's
        fault.
        """
        if answers != self.answers or epoch < self._epoch:
            return ""
        if epoch != self._epoch or answers != self._row:
            self._epoch, self._row, self._row_ns = epoch, answers, failed_ns
            self._failures = self._late = self._sudden = self._unanswered = 0
        if not late:  # an error is an answer too
            self._unanswered = 0
        elif unanswered and not self._unanswered:
            self._silent_ns = failed_ns
        self._unanswered += unanswered
        self._late += late
        self._failures += guilty
        self._sudden += guilty and not late
        lasting = failed_ns - self._row_ns >= LASTING_NS and 2 * self._failures > self._late
        if self._sudden >= self._limit or (lasting and self._failures >= self._limit):
            return TRIPS[1]
        silent = self._unanswered >= UNANSWERED and failed_ns - self._silent_ns >= SILENCE_NS
        return TRIPS[2] if silent else ""
