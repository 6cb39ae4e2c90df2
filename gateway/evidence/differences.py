"""Inverse-propensity differences: one number for each outcome, whose mean is the difference of the two versions' means.

With y the outcome, p the candidate's chance and m a baseline known before the outcome came,

    D = (y - m)/p if the candidate made it, -(y - m)/(1 - p) if stable did           E[D | past] = mean difference

whatever m is, under any schedule of chances. Source: Waudby-Smith, Wu, Ramdas, Karampatziakis & Mineiro, arXiv
2210.10768.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]  # one for each outcome
Flags = npt.NDArray[np.bool_]  # whether it is the candidate's
Names = npt.NDArray[np.str_]
Baseline = tuple[int, float]  # of one route: outcomes so far, what they are expected to be
PRIOR: Final = 50  # outcomes' worth of trust in the weight, against the share of the outcomes that have come
LATEST: Final = 200  # outcomes that a baseline goes back: the level of the outcomes may change
SCALED: Final[Baseline] = (1, 0.5)  # what a baseline of outcomes from 0 to 1 starts from
UNSCALED: Final[Baseline] = (0, math.nan)


@dataclass(frozen=True, slots=True)
class Units:
    """Outcomes in order of arrival, one for each request or sticky key: values, whose they are, the chances.

    `routes`: by which each prediction was drawn; None if by the same.
    """

    values: Floats
    candidate: Flags
    chances: Floats
    routes: Names | None = None

    def __len__(self) -> int:
        return len(self.values)

    def route_names(self) -> list[str]:
        """The route of each; empty texts if it is the same."""
        return [""] * len(self) if self.routes is None else self.routes.tolist()

    def part(self, chosen: Flags | slice) -> "Units":
        """Those that are `chosen`."""
        routes = None if self.routes is None else self.routes[chosen]
        return Units(self.values[chosen], self.candidate[chosen], self.chances[chosen], routes)


def units(
    values: Sequence[float],
    candidate: Sequence[bool],
    chances: Sequence[float],
    routes: Sequence[str] | None = None,
) -> Units:
    """Return them as arrays, all of the same length."""
    return Units(
        np.array(values, np.float64),
        np.array(candidate, np.bool_),
        np.array(chances, np.float64),
        None if routes is None else np.array(routes, np.str_),
    )


def baselines(units: Units, known: dict[str, Baseline], start: Baseline) -> Floats:
    """Return what each outcome was expected to be before it came: about the mean of the route's latest LATEST. NaN
    where nothing was known. `known`: by route, brought up to date. `start`: of a route.

    One baseline for all routes, or all the past, stopped up to 65% of harmless candidates, simulated, where routes
    differ in level and in how often feedback comes, and 14% where the level and that change together.
    """
    found = []
    for route, value in zip(units.route_names(), units.values.tolist(), strict=True):
        count, mean = known.get(route, start)
        found.append(mean)
        known[route] = count + 1, mean + (value - mean) / min(count + 1, LATEST) if count else value
    return np.array(found)


class OutcomeShares:
    """The candidate's share of the outcomes that come, by stratum (such as a route and a chance).

    It differs from the chance of the request if feedback comes more often, or sooner, for one version. Taking the one
    for the other makes a difference where there is none as soon as the baseline is off, too.
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
