"""Inverse-propensity differences: one number for each outcome, whose mean is the difference of the two versions' means.

With y the outcome, p the candidate's chance and m a baseline known before the outcome came,

    D = (y - m)/p if the candidate made it, -(y - m)/(1 - p) if stable did           E[D | past] = mean difference

whatever m is, under any schedule of chances. Source: Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro, arXiv
2210.10768.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]  # one for each outcome
Flags = npt.NDArray[np.bool_]  # whether it is the candidate's
PRIOR: Final = 50  # outcomes' worth of trust in the weight, against the share of the outcomes that have come


@dataclass(frozen=True, slots=True)
class Units:
    """Outcomes in order of arrival, one for each request or sticky key: values, whose they are, the chances."""

    values: Floats
    candidate: Flags
    chances: Floats

    def __len__(self) -> int:
        return len(self.values)

    def part(self, chosen: Flags | slice) -> "Units":
        """Those that are `chosen`."""
        return Units(self.values[chosen], self.candidate[chosen], self.chances[chosen])


def units(values: Sequence[float], candidate: Sequence[bool], chances: Sequence[float]) -> Units:
    """Return them as arrays, all of the same length."""
    return Units(np.array(values, np.float64), np.array(candidate, np.bool_), np.array(chances, np.float64))


class OutcomeShares:
    """The candidate's share of the outcomes that come, by stratum (such as a route and a chance).

    It differs from the chance of the request if feedback comes more often, or sooner, for one version. Taking the one
    for the other stopped up to all harmless candidates, simulated, while the level of the outcomes drifted.
    """

    def __init__(self) -> None:
        self._counts: dict[Any, tuple[int, int]] = {}  # all outcomes, the candidate's

    def next(self, stratum: Any, chance: float, candidate: bool) -> float:
        """Return the chance that this outcome is the candidate's, from those before it; then count it."""
        count, candidates = self._counts.get(stratum, (0, 0))
        self._counts[stratum] = count + 1, candidates + candidate
        return (PRIOR * chance + candidates) / (PRIOR + count)

    def clear(self) -> None:
        """Start over, at a new step of the ramp."""
        self._counts = {}

    def to_json(self) -> list[list[Any]]:
        """Return rows of strata (as lists) and counts."""
        return [[list(stratum), *counts] for stratum, counts in self._counts.items()]

    def restore(self, rows: Sequence[Sequence[Any]]) -> None:
        """Restore the output of `to_json`."""
        self._counts = {tuple(stratum): (count, candidates) for stratum, count, candidates in rows}


@dataclass(frozen=True, slots=True)
class Differences:
    """One for each outcome. `low`, `high`: no D is below -`low` or above `high`, as known before the outcome came."""

    values: Floats
    low: Floats
    high: Floats


def differences(units: Units, baselines: Floats) -> Differences:
    """Return the differences of outcomes from 0 to 1. `baselines`: m, from 0 to 1, one for each outcome."""
    p, m = units.chances, baselines
    apart = units.values - m
    return Differences(
        np.where(units.candidate, apart / p, -apart / (1 - p)),
        np.maximum(m / p, (1 - m) / (1 - p)),
        np.maximum((1 - m) / p, m / (1 - p)),
    )


def before(total: float, values: Floats) -> Floats:
    """Return the sum of all values before each of these; `total` is that of the values before the first."""
    sums: Floats = total + np.concatenate(([0.0], np.cumsum(values)[:-1]))
    return sums
