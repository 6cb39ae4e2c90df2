"""For which share of the predictions that were assigned at random feedback has come, of each version, by its part.

Counted on both sides are the predictions of the epoch whose assignment was counted: since the first count that was read
of it, but for gaps in which counts were lost, as when a gateway is killed between two saves of its state.
"""

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from typing import Any, Final

from gateway.control.guards.observation import Randomised
from gateway.evidence.effect import FeedbackShare

MOST_GAPS: Final = 20  # with more the counts begin anew
MOST_SOURCES: Final = 500  # that are remembered beyond those that count now: processes of all hosts in one epoch
SET_BACK_NS: Final = 10**9  # by less, the clocks of a fleet's hosts may differ
MARKS: Final = 100  # moments of the last `feedback_delay` at which it is known how many predictions there had been
MOST_AHEAD: Final = 1.05  # times as many predictions with feedback as there are known to be: hosts tell a little late


class FeedbackShares:
    """The shares in one epoch. `delays_ns`: how old predictions are to be, of each part of the feedback that waits."""

    def __init__(self, delays_ns: Iterable[int]) -> None:
        self._delays_ns = sorted({delay_ns for delay_ns in delays_ns if delay_ns})
        self.reset()

    def reset(self, since_ns: int = 0) -> None:
        """Start over, at the next counts that are read, from `since_ns` on."""
        self._begun = False
        self._since_ns, self._until_ns = since_ns, 0  # of the predictions counted, by the time of their answers
        self._gaps: list[tuple[int, int]] = []
        self._seen: dict[str, tuple[int, int]] = {}
        self._totals = (0, 0)  # stable's, the candidate's
        self._heard: Counter[tuple[str, bool]] = Counter()  # by part, whether the candidate's
        self._marks: dict[int, deque[tuple[int, int, int]]] = {}  # by delay: time, stable's, the candidate's, by then

    def observe(self, counts: Randomised | None, time_ns: int) -> None:
        """Take in the present counts, before the feedback that has come meanwhile. None: they are not known, and begin
        anew once they are, since predictions are not counted meanwhile.
        """
        if time_ns < self._until_ns - SET_BACK_NS:  # the times of earlier predictions come again
            self.reset(self._until_ns)
        if counts is None:
            self.reset(0 if self._begun else self._since_ns)
            return
        if not self._begun and time_ns < self._since_ns:
            return
        restarted = bool(self._seen and counts) and not counts.keys() & self._seen.keys()
        if not self._begun or len(self._gaps) + restarted > MOST_GAPS:
            self.reset()
            self._begun, self._since_ns, self._seen = True, time_ns, dict(counts)
        elif restarted:
            self._gaps.append((self._until_ns, time_ns))
            self._seen.update(counts)
        self._add(counts)
        self._until_ns = time_ns
        for delay_ns in self._delays_ns:
            self._mark(delay_ns, time_ns)

    def hear(self, part: str, decided_ns: int, candidate: bool) -> None:
        """Count a prediction for which this part of the feedback has come. `decided_ns`: when it was answered."""
        if self._covers(decided_ns):
            self._heard[part, candidate] += 1

    def read(self, part: str, delay_ns: int) -> FeedbackShare | None:
        """The shares for this part of the feedback, which waits so long; None if they cannot be known."""
        heard = self._heard[part, False], self._heard[part, True]
        totals = self._older(delay_ns) if delay_ns else self._totals
        if not min(totals) >= 1 or any(one > MOST_AHEAD * total for one, total in zip(heard, totals, strict=True)):
            return None
        stable, candidate = (min(one / total, 1.0) for one, total in zip(heard, totals, strict=True))
        return FeedbackShare(candidate, stable, delay_ns / 1e9)

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {
            "begun": self._begun,
            "since_ns": self._since_ns,
            "until_ns": self._until_ns,
            "gaps": self._gaps,
            "seen": self._seen,
            "totals": self._totals,
            "heard": [[*key, count] for key, count in self._heard.items()],
            "marks": [[delay_ns, [*marks]] for delay_ns, marks in self._marks.items()],
        }

    def restore(self, kept: Mapping[str, Any] | None) -> None:
        """Restore the output of `to_json`; None: an earlier gateway kept none, so it begins with the next counts."""
        self.reset()
        if kept is not None:
            self._begun, self._since_ns, self._until_ns = kept["begun"], kept["since_ns"], kept["until_ns"]
            self._gaps = [(begin_ns, end_ns) for begin_ns, end_ns in kept["gaps"]]
            self._seen = {source: (stable, candidate) for source, (stable, candidate) in kept["seen"].items()}
            stable, candidate = kept["totals"]
            self._totals = stable, candidate
            self._heard = Counter({(part, candidate): count for part, candidate, count in kept["heard"]})
            self._marks = {
                delay_ns: deque((time_ns, stable, candidate) for time_ns, stable, candidate in marks)
                for delay_ns, marks in kept["marks"]
                if delay_ns in self._delays_ns
            }

    @property
    def until_ns(self) -> int:
        """Up to when it has counted."""
        return self._until_ns

    def _covers(self, decided_ns: int) -> bool:
        return (
            self._begun
            and decided_ns >= self._since_ns
            and not any(begin_ns < decided_ns < end_ns for begin_ns, end_ns in self._gaps)
        )

    def _add(self, counts: Randomised) -> None:
        stables, candidates = self._totals
        for source, (stable, candidate) in counts.items():
            before = self._seen.pop(source, (0, 0))
            if stable < before[0] or candidate < before[1]:  # its counts have begun anew
                before = 0, 0
            stables += stable - before[0]
            candidates += candidate - before[1]
            self._seen[source] = stable, candidate
        self._totals = stables, candidates
        for source in [*self._seen][: -MOST_SOURCES - len(counts)]:  # forgotten, one that still counts would count anew
            del self._seen[source]

    def _mark(self, delay_ns: int, time_ns: int) -> None:
        """Keep the counts of this moment, and those that are needed to tell how many there were a delay ago."""
        marks = self._marks.setdefault(delay_ns, deque([(time_ns, *self._totals)]))
        if time_ns - marks[-1][0] >= delay_ns / MARKS:
            marks.append((time_ns, *self._totals))
        while len(marks) > 1 and marks[1][0] <= time_ns - delay_ns:
            marks.popleft()

    def _older(self, delay_ns: int) -> tuple[float, float]:
        """How many predictions were at least so old at the last count; none if that is not known."""
        marks, cut_ns = [*self._marks.get(delay_ns, ())], self._until_ns - delay_ns
        if not marks or marks[0][0] > cut_ns:
            return 0.0, 0.0
        begin_ns, *before = marks[0]
        end_ns, *after = marks[1] if len(marks) > 1 else (self._until_ns, *self._totals)
        passed = (cut_ns - begin_ns) / max(end_ns - begin_ns, 1)
        stable, candidate = (low + passed * (high - low) for low, high in zip(before, after, strict=True))
        return stable, candidate
