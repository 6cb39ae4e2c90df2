"""The difference of the two versions' means with an interval that holds at all times at once, however often it is read.

With a known range of outcomes: the empirical Bernstein interval of weighted differences (Waudby-Smith & Ramdas, arXiv
2010.09686, theorem 2; for differences, arXiv 2210.10768): exact where chances are known, simulated where the share of
what comes takes their place. Without one: the asymptotic confidence sequence of Waudby-Smith, Arbour, Sinha, Kennedy &
Ramdas, arXiv 2103.06476. Both weigh an outcome by what it tells at its chance,
so that the first steps of a ramp do not add their noise.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Final

import numpy as np

from gateway.evidence.differences import SCALED, UNSCALED, Baseline, Floats, Units, baselines, before, differences

ALPHA: Final = 0.05  # of all intervals: the chance that one ever misses the difference
TUNED: Final = math.log(2 / ALPHA)
LARGEST_STAKE: Final = 0.5
PRIOR_VARIANCE: Final = 0.25  # of outcomes from 0 to 1: the largest
LEAST_VARIANCE: Final = 1e-6
LEAST_RANGE: Final = 1e-3
FEWEST: Final = 100  # outcomes of each version for the asymptotic interval
TUNED_INFORMATION: Final = 100.0  # outcomes times p (1 - p), at which the asymptotic interval is narrowest


@dataclass(slots=True)
class EffectSums:
    """Sums over outcomes, of the same size however many there were. Without `scale`, the range is unknown.

    `scale`: the range's lower end and its width. `counts`, `sums`: (stable's, the candidate's) outcomes as they came.
    `clipped`: outcomes outside of the range. The rest is of outcomes scaled to 0..1.
    """

    scale: tuple[float, float] | None = None
    candidates: int = 0
    stables: int = 0
    candidate_sum: float = 0.0
    stable_sum: float = 0.0
    clipped: int = 0
    expected: dict[str, Baseline] = field(default_factory=dict)  # the baselines, by route
    spread: float = 0.0  # squares of what outcomes are apart from the baseline
    information: float = 0.0
    stakes: float = 0.0
    staked: float = 0.0  # stakes times differences
    cost_low: float = 0.0
    cost_high: float = 0.0
    weights: float = 0.0
    weighted: float = 0.0
    weights2: float = 0.0
    weighted2: float = 0.0
    squares2: float = 0.0

    @property
    def count(self) -> int:
        """Outcomes of both versions."""
        return self.candidates + self.stables

    @property
    def effect(self) -> float | None:
        """The candidate's mean minus stable's, in the outcome's unit; None before both have outcomes."""
        if not (self.candidates and self.stables and self.weights):
            return None
        return self.weighted / self.weights * self._width

    def add(self, units: Units) -> None:
        """Add outcomes in order of arrival."""
        if not len(units):
            return
        self._count(units)
        if self.scale is not None:
            units = replace(units, values=np.clip((units.values - self.scale[0]) / self.scale[1], 0, 1))
        first = self.count - len(units)
        counts = first + np.arange(1.0, len(units) + 1)
        known = self.scale is not None
        expected = baselines(units, self.expected, SCALED if known else UNSCALED)
        weights = units.chances * (1 - units.chances)
        if not known:  # a route's first one has nothing to be compared with
            first_ones = np.isnan(expected)
            weights, expected = np.where(first_ones, 0.0, weights), np.where(first_ones, units.values, expected)
        found = differences(units, expected)
        weighted = weights * found.values
        apart = np.square(units.values - expected)
        if known:
            centres = before(self.weighted, weighted) / np.maximum(before(self.weights, weights), 1e-12)
            variances = (PRIOR_VARIANCE + before(self.spread, apart)) / counts + LEAST_VARIANCE
            self._stake(counts, weights / variances, found.values, (found.low, found.high), np.clip(centres, -1, 1))
        self.spread += float(apart.sum())
        self.weights += float(weights.sum())
        self.weighted += float(weighted.sum())
        self.weights2 += float(np.square(weights).sum())
        self.weighted2 += float((weights * weighted).sum())
        self.squares2 += float(np.square(weighted).sum())

    def interval(self, alpha: float = ALPHA) -> tuple[float, float] | None:
        """Return the interval of the effect, in the outcome's unit; None if it is not known yet. `alpha`: the chance
        that the interval ever misses it.
        """
        if self.scale is None:
            return self._asymptotic(alpha)
        if not self.stakes or not (self.candidates and self.stables):
            return None
        enough = math.log(2 / alpha)
        low = (self.staked - self.cost_low - enough) / self.stakes
        high = (self.staked + self.cost_high + enough) / self.stakes
        return max(low, -1.0) * self._width, min(high, 1.0) * self._width

    def to_json(self) -> list[Any]:
        """Return the sums for a file, without the scale."""
        return [dict(self.expected) if name == "expected" else getattr(self, name) for name in _KEPT]

    @classmethod
    def from_json(cls, scale: tuple[float, float] | None, kept: Sequence[Any]) -> "EffectSums":
        """Rebuild them from the output of `to_json`."""
        sums = cls(scale, *kept)
        sums.expected = {route: (count, mean) for route, (count, mean) in sums.expected.items()}
        return sums

    @property
    def _width(self) -> float:
        return 1.0 if self.scale is None else self.scale[1]

    def _count(self, units: Units) -> None:
        candidates = int(units.candidate.sum())
        candidate_sum = float(units.values[units.candidate].sum())
        self.candidates += candidates
        self.stables += len(units) - candidates
        self.candidate_sum += candidate_sum
        self.stable_sum += float(units.values.sum()) - candidate_sum
        if self.scale is not None:
            low, width = self.scale
            self.clipped += int(((units.values < low) | (units.values > low + width)).sum())

    def _stake(
        self, counts: Floats, informed: Floats, values: Floats, bounds: tuple[Floats, Floats], centres: Floats
    ) -> None:
        """Stake on the differences; `centres`: what they are expected to be. Each cost is that of one direction."""
        information = self.information + np.cumsum(informed)
        stakes = informed * np.sqrt(2 * TUNED / (information * np.log1p(counts)))
        lows, highs = (np.maximum(bound, LEAST_RANGE) for bound in (bounds[0] + centres, bounds[1] - centres))
        stakes = np.minimum(stakes, LARGEST_STAKE / np.maximum(lows, highs))
        squares = np.square(values - centres)
        self.cost_low += _cost(stakes, lows, squares)
        self.cost_high += _cost(stakes, highs, squares)
        self.information = float(information[-1])
        self.stakes += float(stakes.sum())
        self.staked += float((stakes * values).sum())

    def _asymptotic(self, alpha: float) -> tuple[float, float] | None:
        if min(self.candidates, self.stables) < FEWEST:
            return None
        effect = self.weighted / self.weights
        variance = max(self.squares2 - 2 * effect * self.weighted2 + effect**2 * self.weights2, 0.0) / self.weights
        tuned = (math.log(1 / alpha**2) + math.log1p(math.log(1 / alpha**2))) / TUNED_INFORMATION
        grown = self.weights * tuned + 1
        radius = math.sqrt(2 * variance * grown / tuned * math.log(math.sqrt(grown) / alpha)) / self.weights
        return effect - radius, effect + radius


_KEPT: Final = tuple(one.name for one in fields(EffectSums))[1:]  # `astuple` takes twenty times as long


def _cost(stakes: Floats, most: Floats, squares: Floats) -> float:
    """What the differences' own spread costs; `most`: how far one can be from its centre, in one direction."""
    shares = stakes * most
    return float(((-np.log1p(-shares) - shares) * squares / np.square(most)).sum())
