"""Counts failures by variant and by the chance of the candidate: the input of `log_harm` and `log_safety`.

A customer whose requests always fail is one piece of evidence, not one per request: with sticky traffic the customer
was assigned at random, once. So a failure counts with the chance that its key left open (see `KeyBounds`).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

from gateway.control.guards.evidence import FAILURE_RATIOS, Attributed, Ratios, log_harm, log_safety
from gateway.evidence.key_bounds import KeyBounds
from gateway.routing.buckets import BUCKETS


class FailureCounts:
    """Failures of one kind in one epoch, and their evidence, which may restart within the epoch.

    `ratios`: the increases that `log_harm` tests for. `once`: a sticky key counts once in an epoch, and not again after
    the ramp has risen: where the chance does not say where the key's bucket may be. Evidence is in natural logarithms.

    `of_epoch`: those that count since the epoch began; `repeated`: those of stable's and of the candidate's sticky keys
    that do not, since it was known already whose they would be.
    """

    def __init__(self, ratios: Ratios = FAILURE_RATIOS, *, once: bool = False) -> None:
        self._ratios = ratios
        self._once = once
        self._counts: Counter[tuple[float, bool]] = Counter()
        self.of_epoch: Counter[tuple[float, bool]] = Counter()
        self.repeated = [0, 0]
        self._known = KeyBounds()
        self._log_e: tuple[float, float] | None = (0.0, 0.0)

    @property
    def counts(self) -> Attributed:
        """The failures counted since the last restart."""
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
        """Count a failed request that was assigned by `weight_ppm`. `key`: the bucket of its sticky key, if any."""
        chance = weight_ppm / BUCKETS if key is None else self._chance(weight_ppm, candidate, key)
        if 0 < chance < 1:
            self._counts[chance, candidate] += 1
            self.of_epoch[chance, candidate] += 1
            self._log_e = None
        elif 0 < weight_ppm < BUCKETS:
            self.repeated[candidate] += 1

    def _chance(self, weight_ppm: int, candidate: bool, key: int) -> float:
        return 0.0 if self._once and key in self._known else self._known.learn(weight_ppm, candidate, key)

    def restart(self) -> None:
        """Reset the evidence; what is known of sticky keys is kept."""
        self._counts = Counter()
        self._log_e = (0.0, 0.0)

    def reset(self) -> None:
        """Reset the evidence and what is known of sticky keys, for a new epoch."""
        self.restart()
        self.of_epoch, self.repeated = Counter(), [0, 0]
        self._known.clear()

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {
            "counts": _listed(self._counts),
            "of_epoch": _listed(self.of_epoch),
            "repeated": self.repeated[:],
            "known": self._known.to_json(),
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore the output of `to_json`."""
        self._counts = _counter(kept["counts"])
        self.of_epoch = _counter(kept.get("of_epoch", kept["counts"]))  # earlier gateways did not keep them
        self.repeated = list(kept.get("repeated", (0, 0)))
        self._known.restore(kept["known"])
        self._log_e = None

    def _evidence(self) -> tuple[float, float]:
        if self._log_e is None:
            self._log_e = log_harm(self._counts, self._ratios), log_safety(self._counts)
        return self._log_e


def _listed(counts: Attributed) -> list[list[Any]]:
    return [[chance, candidate, count] for (chance, candidate), count in counts.items()]


def _counter(listed: Sequence[Sequence[Any]]) -> Counter[tuple[float, bool]]:
    return Counter({(chance, candidate): count for chance, candidate, count in listed})


def rows(counts: Attributed) -> Sequence[tuple[float, int, int]]:
    """Return the counts as rows (chance, candidate's, stable's), for records and people."""
    chances = sorted({chance for chance, _ in counts})
    return [(chance, counts.get((chance, True), 0), counts.get((chance, False), 0)) for chance in chances]


def attributed(rows: Sequence[Sequence[float]]) -> Attributed:
    """Convert back from the rows of `rows`."""
    return {
        (chance, candidate): int(count)
        for chance, *pair in rows
        for candidate, count in zip((True, False), pair, strict=True)
    }
