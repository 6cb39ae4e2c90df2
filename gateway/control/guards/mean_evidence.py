"""A comparison of means: an outcome scaled by its range, so that higher is worse, and the betting process on it."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from gateway.control.guards.outcomes import NewUnits
from gateway.evidence.differences import Units, units
from gateway.evidence.means import MeanDifference
from gateway.settings.guards import ComparisonSettings

MOST_LISTED: Final = 300  # outcomes that a record of evidence holds one by one, the latest


class MeanEvidence:
    """The evidence since the last restart, in natural logarithms.

    `counts`, `sums`: of stable's and the candidate's outcomes as they came. `clipped`: outcomes outside of the range.
    `checkpoint`, `listed`: from a state of the process and the outcomes after it the evidence can be recomputed.
    """

    def __init__(self, settings: ComparisonSettings) -> None:
        self._lowest, highest = settings.bounds
        self._width = highest - self._lowest
        self._rises = settings.harm == "increase"
        self._tolerance = (settings.tolerance or 0.0) / self._width
        self.restart()

    @property
    def log_e(self) -> float:
        """The evidence that the candidate is worse than tolerated."""
        return self.process.log_e

    @property
    def log_safe(self) -> float:
        """The evidence that it is not."""
        return self.process.log_safe

    def add(self, new: NewUnits) -> None:
        """Take in new units of the outcome, in order."""
        values = np.array(new.values)
        scaled = (values - self._lowest) / self._width
        inside = np.clip(scaled if self._rises else 1 - scaled, 0, 1)
        added = Units(inside, np.array(new.candidate), np.array(new.chances))
        self._list(added)
        self.clipped += int(((scaled < 0) | (scaled > 1)).sum())
        for number in (False, True):
            self.counts[number] += int((added.candidate == number).sum())
            self.sums[number] += float(values[added.candidate == number].sum())

    def restart(self) -> None:
        """Start over."""
        self.process = MeanDifference(self._tolerance)
        self.counts, self.sums, self.clipped = [0, 0], [0.0, 0.0], 0
        self.checkpoint: Mapping[str, float] = self.process.to_json()
        self.listed: list[Units] = []

    reset = restart

    def more_units(self, enough: float) -> int | None:
        """Further outcomes of both versions until the evidence reaches `enough` (a natural logarithm) if the harm is as
        it seems; None if it seems tolerable, or if the evidence is there.
        """
        process = self.process
        if not process.count or process.log_e >= enough:
            return None
        mean = process.drift / process.count
        excess = mean - process.tolerance
        spread = max(process.squares / process.count - mean * mean, 0.0)
        if excess <= 0 or not min(self.counts):
            return None
        return max(round(2 * (enough - process.log_e) * (spread + excess**2) / excess**2), 1)

    def record(self) -> dict[str, Any]:
        """Return what a record of evidence holds, for `recomputed`."""
        return {
            "range": [self._lowest, self._lowest + self._width],
            "outcomes": self.counts[:],
            "means": [total / number if number else None for total, number in zip(self.sums, self.counts, strict=True)],
            "clipped": self.clipped,
            "checkpoint": dict(self.checkpoint),
            "since": self._rows(),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {
            "process": self.process.to_json(),
            "counts": self.counts[:],
            "sums": self.sums[:],
            "clipped": self.clipped,
            "checkpoint": self.checkpoint,
            "listed": self._rows(),
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`; evidence of another kind, as earlier gateways kept it, is dropped."""
        self.restart()
        if "process" in kept:
            self.process = MeanDifference.from_json({**kept["process"], "tolerance": self._tolerance})
            self.counts, self.sums, self.clipped = list(kept["counts"]), list(kept["sums"]), kept["clipped"]
            self.checkpoint, self.listed = kept["checkpoint"], [_units(kept["listed"])]

    def _list(self, added: Units) -> None:
        """Add outcomes to the process, of which the latest are listed."""
        listed = sum(map(len, self.listed)) + len(added)
        if listed > MOST_LISTED:
            self.process.add(added.part(slice(0, -MOST_LISTED)))
            added = added.part(slice(-MOST_LISTED, None))
            self.checkpoint, self.listed = self.process.to_json(), []
        self.listed.append(added)
        self.process.add(added)

    def _rows(self) -> list[list[Any]]:
        """The listed outcomes as (chance, whether the candidate's, value from 0 to 1)."""
        return [
            [*row]
            for one in self.listed
            for row in zip(one.chances.tolist(), one.candidate.tolist(), one.values.tolist(), strict=True)
        ]


def _units(rows: Sequence[Sequence[Any]]) -> Units:
    chances, candidate, values = zip(*rows, strict=True) if rows else ((), (), ())
    return units(values, candidate, chances)


def recomputed(record: Mapping[str, Any]) -> MeanDifference:
    """Return the process as it was when `MeanEvidence.record` was written, from its checkpoint and what came since."""
    process = MeanDifference.from_json(record["checkpoint"])
    process.add(_units(record["since"]))
    return process
