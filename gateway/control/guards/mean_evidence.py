"""A comparison of means: an outcome scaled by its range, so that higher is worse, and the betting processes on it."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np

from gateway.control.guards.outcomes import NewUnits
from gateway.evidence.differences import Units, units
from gateway.evidence.means import MeanDifference
from gateway.settings.guards import ComparisonSettings

MOST_LISTED: Final = 300  # outcomes that a record of evidence holds one by one, the latest


class RecordedProcess:
    """The betting process on some units: from `checkpoint`, a state of it, and `listed`, the units since, it can be
    recomputed.
    """

    def __init__(self, process: MeanDifference, checkpoint: Mapping[str, Any], listed: list[Units]) -> None:
        self.process, self.checkpoint, self.listed = process, checkpoint, listed

    @classmethod
    def begin(cls, tolerance: float) -> "RecordedProcess":
        """Return one without any outcomes."""
        process = MeanDifference(tolerance)
        return cls(process, process.to_json(), [])

    def copy(self) -> "RecordedProcess":
        """Return one that goes on from the same outcomes."""
        process = replace(self.process, expected=dict(self.process.expected))
        return RecordedProcess(process, self.checkpoint, self.listed[:])

    def add(self, added: Units) -> None:
        """Add outcomes to the process, of which the latest are listed."""
        listed = sum(map(len, self.listed)) + len(added)
        if listed > MOST_LISTED:
            self.process.add(added.part(slice(0, -MOST_LISTED)))
            added = added.part(slice(-MOST_LISTED, None))
            self.checkpoint, self.listed = self.process.to_json(), []
        self.listed.append(added)
        self.process.add(added)

    def more_units(self, enough: float) -> int | None:
        """Further outcomes until the evidence reaches `enough` if the harm is as it seems; 0 if it has, None if it
        seems tolerable.
        """
        process = self.process
        if process.log_e >= enough:
            return 0
        if not process.count:
            return None
        mean = process.drift / process.count
        excess = mean - process.tolerance
        spread = max(process.squares / process.count - mean * mean, 0.0)
        if excess <= 0:
            return None
        return max(round(2 * (enough - process.log_e) * (spread + excess**2) / excess**2), 1)

    def record(self) -> dict[str, Any]:
        """Return what a record of evidence holds, for `recomputed`."""
        return {"checkpoint": dict(self.checkpoint), "since": self._rows()}

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {"process": self.process.to_json(), "checkpoint": self.checkpoint, "listed": self._rows()}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], tolerance: float) -> "RecordedProcess":
        """Rebuild it from the output of `to_json`."""
        process = MeanDifference.from_json({**kept["process"], "tolerance": tolerance})
        return cls(process, kept["checkpoint"], [_units(kept["listed"])])

    def _rows(self) -> list[list[Any]]:
        """The listed outcomes as (chance, whether the candidate's, value from 0 to 1, route)."""
        return [
            [*row]
            for one in self.listed
            for row in zip(
                one.chances.tolist(), one.candidate.tolist(), one.values.tolist(), one.route_names(), strict=True
            )
        ]


class MeanEvidence:
    """The evidence since the last restart, in natural logarithms: what holds both for each sticky key's first outcome
    and for those that thinning leaves (see `Outcomes`), the lesser of the two.

    `counts`, `sums`: of stable's and the candidate's first outcomes as they came. `clipped`: of them, those outside of
    the range. `first`, `thinned`: the two processes; None as long as the same outcomes have counted in both.
    """

    first: RecordedProcess
    thinned: RecordedProcess | None
    counts: list[int]
    sums: list[float]
    clipped: int

    def __init__(self, settings: ComparisonSettings) -> None:
        self._lowest, highest = settings.bounds
        self._width = highest - self._lowest
        self._rises = settings.harm == "increase"
        self._tolerance = (settings.tolerance or 0.0) / self._width
        self.restart()

    @property
    def log_e(self) -> float:
        """The evidence that the candidate is worse than tolerated."""
        return min(one.process.log_e for one in self._processes)

    @property
    def log_safe(self) -> float:
        """The evidence that it is not."""
        return min(one.process.log_safe for one in self._processes)

    def add(self, new: NewUnits) -> None:
        """Take in new units of the outcome, in order."""
        if self.thinned is None and new.thinned != new.chances:
            self.thinned = self.first.copy()
        if self.thinned is not None:
            self.thinned.add(self._scaled(new.thinned_units))
        added = new.first_units
        self.first.add(self._scaled(added))
        self.clipped += int(((added.values < self._lowest) | (added.values > self._lowest + self._width)).sum())
        for number in (False, True):
            self.counts[number] += int((added.candidate == number).sum())
            self.sums[number] += float(added.values[added.candidate == number].sum())

    def restart(self) -> None:
        """Start over."""
        self.first = RecordedProcess.begin(self._tolerance)
        self.thinned = None
        self.counts, self.sums, self.clipped = [0, 0], [0.0, 0.0], 0

    reset = restart

    def more_units(self, enough: float) -> int | None:
        """Further outcomes, as `counts` has them, until the evidence reaches `enough` (a natural logarithm) if the harm
        is as it seems; None if it seems tolerable, or if the evidence is there.
        """
        most = 0
        for one in self._processes:
            more = one.more_units(enough) if min(self.counts) else None
            if more is None:
                return None
            most = max(most, round(more * sum(self.counts) / max(one.process.count, 1)))
        return most or None

    def record(self) -> dict[str, Any]:
        """Return what a record of evidence holds, for `recomputed`."""
        return {
            "range": [self._lowest, self._lowest + self._width],
            "outcomes": self.counts[:],
            "means": [total / number if number else None for total, number in zip(self.sums, self.counts, strict=True)],
            "clipped": self.clipped,
            **self.first.record(),
            "thinned": None if self.thinned is None else self.thinned.record(),
        }

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {
            **self.first.to_json(),
            "thinned": None if self.thinned is None else self.thinned.to_json(),
            "counts": self.counts[:],
            "sums": self.sums[:],
            "clipped": self.clipped,
        }

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`; evidence of another kind, as earlier gateways kept it, is dropped."""
        self.restart()
        if "process" in kept:
            self.first = RecordedProcess.from_json(kept, self._tolerance)
            thinned = kept.get("thinned")
            self.thinned = None if thinned is None else RecordedProcess.from_json(thinned, self._tolerance)
            self.counts, self.sums, self.clipped = list(kept["counts"]), list(kept["sums"]), kept["clipped"]

    @property
    def _processes(self) -> tuple[RecordedProcess, ...]:
        return (self.first,) if self.thinned is None else (self.first, self.thinned)

    def _scaled(self, added: Units) -> Units:
        """The same outcomes from 0 to 1, higher worse."""
        values = np.clip((added.values - self._lowest) / self._width, 0, 1)
        return replace(added, values=values if self._rises else 1 - values)


def _units(rows: Sequence[Sequence[Any]]) -> Units:
    chances, candidate, values, routes = zip(*rows, strict=True) if rows else ((), (), (), ())
    return units(values, candidate, chances, routes)


def recomputed(record: Mapping[str, Any]) -> tuple[float, float]:
    """Return the evidence of harm and of safety as it was when `MeanEvidence.record` was written, from the checkpoints
    and what came since. Earlier gateways recorded one process.
    """
    found = []
    for kept in filter(None, (record, record.get("thinned"))):
        process = MeanDifference.from_json(kept["checkpoint"])
        process.add(_units(kept["since"]))
        found.append((process.log_e, process.log_safe))
    return min(log_e for log_e, _ in found), min(log_safe for _, log_safe in found)
