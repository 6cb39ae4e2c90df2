"""The circuit breaker of one worker: stops a candidate after a row of failures that are its fault, or no answers."""

from typing import Final

from gateway.shm.tally import TRIPS, UNANSWERED

MIN_STREAK_NS: Final = 500_000_000  # timeouts within less time may be due to one pause of the machine
SILENCE_NS: Final = 3_000_000_000  # without any answer, whoever is at fault


class Breaker:
    """Counts failures in a row of a release's candidate, within one epoch of the release.

    `answers` counts the candidate's answers: failures are in a row while it does not change. A failure is reported only
    after stable has run the request, when the candidate may have answered others, so each is reported with the value
    that `answers` had when it happened. The breaker trips on
    - `limit` errors in a row that are the candidate's fault;
    - `limit` failures in a row, timeouts included, if the row lasts MIN_STREAK_NS and stable succeeds on most of the
      requests that timed out. One pause of the machine makes all requests in flight late at once; overload makes stable
      late as well;
    - UNANSWERED timeouts during SILENCE_NS without any answer, whoever is at fault: for overload, and for requests that
      do not show whose fault it is.
    """

    __slots__ = (
        "_epoch", "_errors", "_failures", "_limit", "_streak_answers", "_streak_started_ns", "_timeouts",
        "_unanswered", "_unanswered_since_ns", "answers",
    )  # fmt: skip

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._epoch = 0
        self._streak_answers = -1
        self._streak_started_ns = self._unanswered_since_ns = 0
        self._failures = self._timeouts = self._errors = self._unanswered = 0
        self.answers = 0

    def success(self) -> None:
        """Count an answer of the candidate to a request assigned to it: this ends the row of failures."""
        self.answers += 1

    def answered(self) -> None:
        """Note an answer of the candidate to a mirrored or pinned request: it does not hang."""
        self._unanswered = 0

    def failure(
        self, epoch: int, answers: int, failed_ns: int, *, timed_out: bool, unanswered: bool, guilty: bool
    ) -> str:
        """Count a failure; returns why the candidate must be stopped, one of TRIPS, or "".

        `epoch`: of the release when the request was decided. `answers`: the value when it failed, at `failed_ns`
        (monotonic). `timed_out`: it is a timeout; `unanswered`: a timeout that counts as no answer; `guilty`: it is
        known to be the candidate's fault.
        """
        if answers != self.answers or epoch < self._epoch:
            return ""
        if epoch != self._epoch or answers != self._streak_answers:
            self._epoch, self._streak_answers, self._streak_started_ns = epoch, answers, failed_ns
            self._failures = self._timeouts = self._errors = self._unanswered = 0
        if not timed_out:  # an error is an answer too
            self._unanswered = 0
        elif unanswered and not self._unanswered:
            self._unanswered_since_ns = failed_ns
        self._unanswered += unanswered
        self._timeouts += timed_out
        self._failures += guilty
        self._errors += guilty and not timed_out
        lasting = failed_ns - self._streak_started_ns >= MIN_STREAK_NS and 2 * self._failures > self._timeouts
        if self._errors >= self._limit or (lasting and self._failures >= self._limit):
            return TRIPS[1]
        silent = self._unanswered >= UNANSWERED and failed_ns - self._unanswered_since_ns >= SILENCE_NS
        return TRIPS[2] if silent else ""
