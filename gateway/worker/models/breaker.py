"""What stops a candidate at once, in one worker: failures in a row that are its fault, or no answer at all."""

from typing import Final

from gateway.shm.tally import TRIPS, UNANSWERED

LASTING_NS: Final = 500_000_000  # a shorter row may be the machine's: one pause makes all that is under way late
SILENCE_NS: Final = 3_000_000_000  # the same where stable does not show that it does better


class Breaker:
    """Failures in a row of a release's candidate, in one epoch.

    `answers` counts the candidate's answers: failures are in a row while it stands still. A failure is weighed after
    stable has been asked, and by then the candidate may have answered others: so each brings along what `answers` was
    when it happened. Errors stop at `limit`. What came too late does so only if LASTING_NS after the first of the row
    there is still no answer (all that one pause makes late is known at once, when it is over), and if stable has done
    well on most of it: where there is too much to do for both, it does not. There, and where no request tells whose
    fault it is, SILENCE_NS without any answer stop it.
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
        """The candidate has answered a request that was its own."""
        self.answers += 1

    def answered(self) -> None:
        """The candidate has answered a mirrored request, or one that pinned its version: it does not hang."""
        self._unanswered = 0

    def failure(self, epoch: int, answers: int, failed_ns: int, *, late: bool, unanswered: bool, guilty: bool) -> str:
        """A failure of `failed_ns`, on a request decided in `epoch`, has been weighed: why it must stop, or "".

        `late`: it took too long; `unanswered`: and counts as no answer; `guilty`: it is known to be the candidate's
        fault.
        """
        if answers != self.answers or epoch < self._epoch:
            return ""
        if epoch != self._epoch or answers != self._row:
            self._epoch, self._row, self._row_ns = epoch, answers, failed_ns
            self._failures = self._late = self._sudden = self._unanswered = 0
        if not late:  # an answer, if a bad one
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
