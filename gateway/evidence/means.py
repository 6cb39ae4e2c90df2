"""The betting e-process on means: whether the candidate's outcomes are worse than stable's by more than a tolerance.

For outcomes from 0 to 1, higher is worse. It starts at 1 and stakes a share of what it has on the next difference being
larger than the tolerance; while the harm is within it, the chance that it ever reaches 1/alpha is at most alpha.
Source: Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro, arXiv 2210.10768.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from gateway.evidence.differences import Floats, Units, before, differences

LARGEST_STAKE: Final = 0.5  # of what the worst outcome could lose
PRIOR_VARIANCE: Final = 0.05
LEAST_VARIANCE: Final = 1e-6
LEAST_RANGE: Final = 1e-3  # against division by 0 where no outcome could lose anything


@dataclass(slots=True)
class MeanDifference:
    """The evidence of harm and of safety, as natural logarithms of e-values, and the sums it goes on from.

    `tolerance`: the harm that is accepted, as a difference of means, from -1 to 1. `log_e` is against "harm <=
    tolerance", `log_safe` against "harm >= tolerance". `count`: outcomes; `total`: their sum; `drift`, `squares`: the
    sums of the differences and of their squares.
    """

    tolerance: float = 0.0
    log_e: float = 0.0
    log_safe: float = 0.0
    count: int = 0
    total: float = 0.0
    drift: float = 0.0
    squares: float = 0.0

    def add(self, units: Units) -> Floats:
        """Add outcomes from 0 to 1 in order of arrival; return the evidence of harm after each of them. Costs the same
        however many there were.
        """
        if not len(units):
            return np.empty(0)
        counts = self.count + np.arange(1.0, len(units) + 1)
        found = differences(units, (0.5 + before(self.total, units.values)) / counts)
        values, d = found.values, self.tolerance
        squares = np.square(values)
        means = before(self.drift, values) / counts
        spread = PRIOR_VARIANCE / (counts * np.minimum(units.chances, 1 - units.chances)) + LEAST_VARIANCE
        variances = np.maximum(before(self.squares, squares) / counts - np.square(means), 0) + spread
        path: Floats = self.log_e + np.cumsum(_growth(values - d, means - d, variances, found.low + d))
        self.log_e = float(path[-1])
        self.log_safe += float(_growth(d - values, d - means, variances, found.high - d).sum())
        self.count += len(units)
        self.total += float(units.values.sum())
        self.drift += float(values.sum())
        self.squares += float(squares.sum())
        return path

    def restart(self) -> None:
        """Start over."""
        self.log_e = self.log_safe = self.total = self.drift = self.squares = 0.0
        self.count = 0

    def to_json(self) -> dict[str, float]:
        """Return the state for a file or a record."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> "MeanDifference":
        """Rebuild it from the output of `to_json`."""
        return cls(**kept)


def _growth(excess: Floats, expected: Floats, variances: Floats, most_lost: Floats) -> Floats:
    """What each outcome adds to the log evidence that the mean `excess` is above 0. None is below -`most_lost`.
    `expected`, `variances`: of the excess, from the past.
    """
    stakes = expected / (variances + np.square(expected))
    stakes = np.clip(stakes, 0, LARGEST_STAKE / np.maximum(most_lost, LEAST_RANGE))
    grown: Floats = np.log1p(stakes * excess)
    return grown
