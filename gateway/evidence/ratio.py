"""How many times as often something happens to the candidate as to stable, with an interval that holds at all times.

Only what has happened is counted, by whom it happened to and the chance p that this was the candidate. At a ratio r

    P(candidate | it happened) = p r / (1 + p (r - 1))

whatever the rates are and however they drift together. For each r, the likelihood averaged over a prior of ratios over
that of r is an e-process if r is true (Robbins, Ann. Math. Stat. 41, 1970; Lindon & Malek, arXiv 2011.03567); the
interval is of all r that it has not refuted.
"""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from gateway.evidence.differences import Floats
from gateway.evidence.effect import MOST_FORECAST, Effect, EffectVerdict, verdict_of
from gateway.evidence.intervals import ALPHA

LARGEST: Final = math.log(1000)  # ratio, and the inverse of the smallest: what is beyond is not told apart
PRIOR_DEVIATION: Final = 1.0  # of the logarithm of the ratio
POINTS: Final = 257  # of the integral over ratios
REACH: Final = 8.0  # standard deviations on either side of its peak
STEPS: Final = 60  # of a bisection


class RatioLikelihood:
    """The log likelihood of ratios, given as natural logarithms. `rows`: (chance of the candidate, its events,
    stable's events).
    """

    def __init__(self, rows: Sequence[tuple[float, int, int]]) -> None:
        chances, candidates, stables = (np.array(column, np.float64) for column in zip(*rows, strict=True))
        self._chances, self._events = chances[:, None], candidates + stables
        self.candidates, self.stables = int(candidates.sum()), int(stables.sum())

    @property
    def count(self) -> int:
        """Events of both versions."""
        return self.candidates + self.stables

    def at(self, ratio: float) -> float:
        """The log likelihood of one ratio."""
        return float(self._at(np.array([ratio]))[0])

    @property
    def likeliest(self) -> float:
        """The likeliest ratio, within LARGEST."""
        return _root(lambda ratio: self.candidates - self._expected(ratio))

    def interval(self, alpha: float) -> tuple[float, float]:
        """The interval that ever misses the ratio with a chance of at most `alpha`."""
        enough, middle = self._averaged() + math.log(alpha), self.likeliest
        low = _root(lambda ratio: enough - self.at(min(ratio, middle)))
        high = _root(lambda ratio: self.at(max(ratio, middle)) - enough)
        return min(low, middle), max(high, middle)

    def more_units(self, other: float, alpha: float) -> float:
        """Further events until `other` is refuted, if the ratio is as it seems."""
        each = (self.at(self.likeliest) - self.at(other)) / self.count
        enough = math.log(1 / alpha) + math.log(self.count) / 2 + 1  # the average is as much below the likeliest
        return math.inf if each <= 0 else max(enough / each - self.count, 1.0)

    def _averaged(self) -> float:
        """The log of the likelihood averaged over the prior; it has one peak, as it and the prior are log-concave."""
        peak = _root(lambda ratio: self.candidates - self._expected(ratio) - ratio / PRIOR_DEVIATION**2)
        width = REACH / math.sqrt(self._information(peak) + PRIOR_DEVIATION**-2)
        ratios = np.linspace(peak - width, peak + width, POINTS)
        logs = self._at(ratios) - np.square(ratios / PRIOR_DEVIATION) / 2
        largest = float(logs.max())
        density = float(np.exp(logs - largest).sum()) * (ratios[1] - ratios[0]) / PRIOR_DEVIATION
        return largest + math.log(density / math.sqrt(2 * math.pi))

    def _at(self, ratios: Floats) -> Floats:
        return self.candidates * ratios - self._events @ np.log1p(self._chances * np.expm1(ratios))

    def _expected(self, ratio: float) -> float:
        """The candidate's events to be expected, of as many as there are."""
        return float(self._events @ self._shares(ratio))

    def _information(self, ratio: float) -> float:
        shares = self._shares(ratio)
        return float(self._events @ (shares * (1 - shares)))

    def _shares(self, ratio: float) -> Floats:
        odds = self._chances[:, 0] * math.exp(ratio)
        return odds / (1 - self._chances[:, 0] + odds)


@lru_cache(1024)
def ratio_effect(
    rows: tuple[tuple[float, int, int], ...], outcome: str, counted: str, tolerance: float, alpha: float = ALPHA
) -> Effect:
    """Return what the rows of `RatioLikelihood` say. `counted`: what they are, for people. `tolerance`: the part more
    that is accepted.
    """
    likelihood = RatioLikelihood(rows)
    effect, low, high = (_part_more(one) for one in (likelihood.likeliest, *likelihood.interval(alpha)))
    verdict = verdict_of((low, high), "increase", tolerance)
    more = None
    if verdict is EffectVerdict.UNKNOWN:
        found = min(likelihood.more_units(other, alpha) for other in (0.0, math.log1p(tolerance)))
        more = round(found) if found <= MOST_FORECAST else None
    return Effect(
        outcome=outcome,
        route=None,
        verdict=verdict,
        effect=effect,
        low=low,
        high=high,
        alpha=alpha,
        asymptotic=False,
        candidate_units=likelihood.candidates,
        stable_units=likelihood.stables,
        candidate_mean=None,
        stable_mean=None,
        clipped=0,
        harm="increase",
        tolerance=tolerance,
        more_units=more,
        counted=counted,
        is_ratio=True,
    )


def _part_more(ratio: float) -> float:
    """Such as 0.5 for one and a half times as often; -1, never, for ratios too small to be told apart from it."""
    return math.expm1(ratio) if ratio > -LARGEST + 1e-9 else -1.0


def _root(falls: Callable[[float], float]) -> float:
    """Where a decreasing function passes zero, within LARGEST."""
    low, high = -LARGEST, LARGEST
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if falls(middle) > 0 else (low, middle)
    return (low + high) / 2
