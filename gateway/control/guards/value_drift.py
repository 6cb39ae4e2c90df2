"""Tests whether the candidate predicts other numbers than stable: the drift of classes, on a few bins of the numbers.

The bins are quantiles of stable's first answers. They are fixed before the first row that is evidence.
"""

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.control.guards.drift import Drift
from gateway.control.guards.observation import ClassCounts

FIRST_ROWS: Final = 200  # answers of stable that the bins are fixed from
QUANTILES: Final = 8  # bins that stable fills about equally; with what lies below and above, at most 10


class ValueDrift(Drift):
    """The drift of all routes on the counters of a regression's numbers (gateway/records/value_bins.py)."""

    def __init__(self) -> None:
        super().__init__()
        self._starts: list[int] = []  # the first counter of each bin

    def observe(self, counts: ClassCounts) -> None:
        """Take in the present counters, once there are enough of stable's to fix the bins from."""
        if not self._starts:
            first = counts.stable.sum(axis=0)
            if first.sum() < FIRST_ROWS:
                return
            self._starts = _quantile_starts(first)
        candidate, stable = (np.add.reduceat(arm, self._starts, axis=1) for arm in (counts.candidate, counts.stable))
        super().observe(ClassCounts(candidate, stable))

    def to_json(self) -> dict[str, Any]:
        """Return the blocks and the bins for a file."""
        return {**super().to_json(), "starts": self._starts}

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore the output of `to_json`."""
        super().restore(kept)
        self._starts = list(kept["starts"])


def _quantile_starts(counts: npt.NDArray[np.int64]) -> list[int]:
    """The first counter of each bin: those below all that was counted, quantiles, and those above."""
    filled = np.flatnonzero(counts)
    below = np.cumsum(counts) - counts
    quantile = below * QUANTILES // counts.sum()
    starts = {0, int(filled[0]), int(filled[-1]) + 1}
    starts |= {int(at) for at in filled[1:] if quantile[at] > quantile[at - 1]}
    return sorted(start for start in starts if start < len(counts))
