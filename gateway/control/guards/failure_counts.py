"""Which variant failures came from, and by what chance: all that `log_harm` and `log_safety` ask for.

A customer who always fails is one piece of evidence, not one for each request: with sticky traffic it was the customer
who was drawn, once. A ledger therefore keeps, for each sticky key that has failed, between which bounds its bucket is
known to lie. A failure counts by the chance that it still had under them, and no longer when it had none: at a constant
weight only the first failure of a key counts, and after a ramp has risen it counts once more, where the key might have
changed sides.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any, Final

from gateway.control.guards.evidence import FAILURE_RATIOS, Attributed, Ratios, log_harm, log_safety
from gateway.routing.buckets import BUCKETS

UNKNOWN: Final = (0, BUCKETS)


class FailureCounts:
    """Failures of one kind in one epoch; the evidence may start anew in it."""

    def __init__(self, ratios: Ratios = FAILURE_RATIOS) -> None:
        self._ratios = ratios
        self._counts: Counter[tuple[float, bool]] = Counter()
        self._known: dict[int, tuple[int, int]] = {}
        self._log_e: tuple[float, float] | None = (0.0, 0.0)

    @property
    def counts(self) -> Attributed:
        """Since the last restart."""
        return self._counts

    @property
    def log_e(self) -> float:
        """The evidence of harm."""
        return self._evidence()[0]

    @property
    def log_safe(self) -> float:
        """The evidence of safety."""
        return self._evidence()[1]

    def add(self, weight_ppm: int, candidate: bool, key: int | None) -> None:
        """One failure of a request that was decided by `weight_ppm`."""
        chance = weight_ppm / BUCKETS if key is None else self._learn(weight_ppm, candidate, key)
        if 0 < chance < 1:
            self._counts[chance, candidate] += 1
            self._log_e = None

    def restart(self) -> None:
        """The evidence starts anew; what is known of the keys stays known."""
        self._counts = Counter()
        self._log_e = (0.0, 0.0)

    def forget(self) -> None:
        """A new epoch."""
        self.restart()
        self._known = {}

    def to_json(self) -> dict[str, Any]:
        """For a file. Many keys are known to lie between the same few bounds, so they are listed by these."""
        known: defaultdict[tuple[int, int], list[int]] = defaultdict(list)
        for key, bounds in self._known.items():
            known[bounds].append(key)
        return {
            "counts": [[chance, candidate, count] for (chance, candidate), count in self._counts.items()],
            "known": [[*bounds, keys] for bounds, keys in known.items()],
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """What `to_json` gave."""
        self._counts = Counter({(chance, candidate): count for chance, candidate, count in kept["counts"]})
        self._known = {key: (low, high) for low, high, keys in kept["known"] for key in keys}
        self._log_e = None

    def _learn(self, weight_ppm: int, candidate: bool, key: int) -> float:
        """The chance that the key had of being the candidate's, after what was known of it; then more is known."""
        low, high = self._known.get(key, UNKNOWN)
        if not low < weight_ppm < high:
            return 0.0
        self._known[key] = (low, weight_ppm) if candidate else (weight_ppm, high)
        return (weight_ppm - low) / (high - low)

    def _evidence(self) -> tuple[float, float]:
        if self._log_e is None:
            self._log_e = log_harm(self._counts, self._ratios), log_safety(self._counts)
        return self._log_e


def rows(counts: Attributed) -> Sequence[tuple[float, int, int]]:
    """The counts as rows for a person and a record: chance, candidate's, stable's."""
    chances = sorted({chance for chance, _ in counts})
    return [(chance, counts.get((chance, True), 0), counts.get((chance, False), 0)) for chance in chances]


def attributed(rows: Sequence[Sequence[float]]) -> Attributed:
    """The counts out of such rows."""
    return {
        (chance, candidate): int(count)
        for chance, *pair in rows
        for candidate, count in zip((True, False), pair, strict=True)
    }
