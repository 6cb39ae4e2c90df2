"""What stops a candidate at once, in one worker: failures in a row that are its fault, or no answer at all."""

from typing import Final

from gateway.shm.tally import TRIPS

UNANSWERED: Final = 10  # requests in a row without an answer, whoever is to blame for each
LASTING_NS: Final = 500_000_000  # a shorter silence may be the machine's: one pause makes all that is under way late


class Breaker:
    """Failures in a row of a release's candidate, in one epoch.

    `answers` counts the candidate's answers: failures are in a row while it stands still. A failure is weighed after
    stable has been asked, and by then the candidate may have answered others: so each brings along what `answers` was
    when it happened. Errors stop at `limit`. What came too late does so only if the candidate has been silent for
    LASTING_NS as well.
    """

    __slots__ = ("_epoch", "_failures", "_limit", "_row", "_since_ns", "_sudden", "_unanswered", "answers")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._epoch = 0
        self._row = -1
        self._since_ns = 0
        self._failures = self._sudden = self._unanswered = 0
        self.answers = 0

    def success(self) -> None:
        """The candidate has answered a request that was its own."""
        self.answers += 1

    def heard(self) -> None:
        """The candidate has answered a copy, or a request that asked for it by number: it does not hang."""
        self._unanswered = 0

    def failure(
        self, epoch: int, answers: int, began_ns: int, now_ns: int, *, late: bool, unanswered: bool, excused: bool
    ) -> str:
        """A failure has been weighed, of a request that was decided in `epoch` at `began_ns`: why it must stop, or "".

        `late`: it took too long; `unanswered`: and counts as no answer; `excused`: it is not the candidate's fault.
        """
        if answers != self.answers or epoch < self._epoch:
            return ""
        if epoch != self._epoch or answers != self._row:
            self._epoch, self._row, self._since_ns = epoch, answers, began_ns
            self._failures = self._sudden = self._unanswered = 0
        self._unanswered += unanswered
        self._failures += not excused
        self._sudden += not (excused or late)
        lasting = now_ns - self._since_ns >= LASTING_NS
        if self._sudden >= self._limit or (lasting and self._failures >= self._limit):
            return TRIPS[1]
        return TRIPS[2] if lasting and self._unanswered >= UNANSWERED else ""
