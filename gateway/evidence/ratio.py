"""How many times as often something happens to the candidate as to stable, with an interval that holds at all times.

Only what has happened is counted, by whom it happened to and the chance p that this was the candidate. At a ratio r

    P(candidate | it happened) = p r / (1 + p (r - 1))

whatever the rates are and however they drift together. For each r, the likelihood averaged over a prior of ratios over
that of r is an e-process if r is true (Robbins, Ann. Math. Stat. 41, 1970; Lindon & Malek, arXiv 2011.03567); the
interval is of all r that it has not refuted.

Of a sticky key only the first event is evidence: it was drawn once. So those of a worse version run out sooner. With S
the part of a version's events that were first ones, the ratio of all is at most high/S of the candidate, and at least
low times S of stable. The upper end always says so: a candidate that fails few keys, but all that they send, is no
better. The lower one, if it is above 1, stays: one key of stable's that always fails must not hide that of the
candidate's more do.
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
POINTS: Final = 129  # of the integral over ratios
REACH: Final = 8.0  # standard deviations on either side of its peak
STEPS: Final = 50  # of a search: Newton's few, or bisections
PRECISION: Final = 1e-10  # of a logarithm
MOST_REMEMBERED: Final = 8192  # effects: of 200 releases, one metric on 20 routes and another one on all


class RatioLikelihood:
    """The log likelihood of ratios, given as natural logarithms. `rows`: (chance of the candidate, its events,
    stable's events).
    """

    def __init__(self, rows: Sequence[tuple[float, int, int]]) -> None:
        self._rows = [(chance, chance / (1 - chance), candidates + stables) for chance, candidates, stables in rows]
        self.candidates, self.stables = sum(row[1] for row in rows), sum(row[2] for row in rows)

    @property
    def count(self) -> int:
        """Events of both versions."""
        return self.candidates + self.stables

    def at(self, ratio: float) -> float:
        """The log likelihood of one ratio."""
        more = math.expm1(ratio)
        return self.candidates * ratio - sum(events * math.log1p(p * more) for p, _, events in self._rows)

    @property
    def likeliest(self) -> float:
        """The likeliest ratio, within LARGEST."""
        return _root(self._score, -LARGEST, LARGEST)

    def interval(self, alpha: float) -> tuple[float, float]:
        """The interval that ever misses the ratio with a chance of at most `alpha`."""
        enough, middle = self._averaged() + math.log(alpha), self.likeliest
        low = _root(lambda ratio: (enough - self.at(ratio), -self._score(ratio)[0]), -LARGEST, middle)
        high = _root(lambda ratio: (self.at(ratio) - enough, self._score(ratio)[0]), middle, LARGEST)
        return low, high

    def more_units(self, other: float, alpha: float) -> float:
        """Further events until `other` is refuted, if the ratio is as it seems."""
        each = (self.at(self.likeliest) - self.at(other)) / self.count
        enough = math.log(1 / alpha) + math.log(self.count) / 2 + 1  # the average is as much below the likeliest
        return math.inf if each <= 0 else max(enough / each - self.count, 1.0)

    def _averaged(self) -> float:
        """The log of the likelihood averaged over the prior; it has one peak, as it and the prior are log-concave."""
        peak = _root(self._score_with_prior, -LARGEST, LARGEST)
        width = REACH / math.sqrt(-self._score_with_prior(peak)[1])
        ratios = np.linspace(peak - width, peak + width, POINTS)
        logs = self._at(ratios) - np.square(ratios / PRIOR_DEVIATION) / 2
        largest = float(logs.max())
        density = float(np.exp(logs - largest).sum()) * (ratios[1] - ratios[0]) / PRIOR_DEVIATION
        return largest + math.log(density / math.sqrt(2 * math.pi))

    def _at(self, ratios: Floats) -> Floats:
        chances, _, events = (np.array(column, np.float64) for column in zip(*self._rows, strict=True))
        return self.candidates * ratios - events @ np.log1p(chances[:, None] * np.expm1(ratios))

    def _score(self, ratio: float) -> tuple[float, float]:
        """The first and the second derivative of the log likelihood. There are few rows: arrays would take longer."""
        first, second, times = float(self.candidates), 0.0, math.exp(ratio)
        for _, odds, events in self._rows:
            share = odds * times / (1 + odds * times)
            first -= events * share
            second -= events * share * (1 - share)
        return first, second

    def _score_with_prior(self, ratio: float) -> tuple[float, float]:
        first, second = self._score(ratio)
        return first - ratio / PRIOR_DEVIATION**2, second - PRIOR_DEVIATION**-2


@lru_cache(MOST_REMEMBERED)
def ratio_effect(
    rows: tuple[tuple[float, int, int], ...],
    outcome: str,
    counted: str,
    tolerance: float,
    repeated: tuple[int, int] = (0, 0),
    alpha: float = ALPHA,
    route: str | None = None,
) -> Effect:
    """Return what the rows of `RatioLikelihood` say. `counted`: what they are, for people. `tolerance`: the part more
    that is accepted. `repeated`: further events of stable's and of the candidate's sticky keys that had one before.
    `route`: which they are of; None for all.
    """
    likelihood = RatioLikelihood(rows)
    first = _FirstEvents(likelihood.stables, likelihood.candidates, repeated)
    drawn, ends = likelihood.likeliest, likelihood.interval(alpha)
    low, high = (_part_more(one) for one in first.widened(*ends))
    effect = _part_more(first.of_all(drawn, ends))
    verdict, more = verdict_of((low, high), "increase", tolerance), None
    unwidened = verdict_of((_part_more(ends[0]), _part_more(ends[1])), "increase", tolerance)
    if verdict is unwidened is EffectVerdict.UNKNOWN:
        found = min(likelihood.more_units(other, alpha) for other in (0.0, math.log1p(tolerance)))
        more = round(found) if found <= MOST_FORECAST else None
    return Effect(
        outcome=outcome,
        route=route,
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
        not_counted=first.words,
        counted=counted,
        is_ratio=True,
    )


class _FirstEvents:
    """What the first events of sticky keys say of all events. Ratios are natural logarithms."""

    def __init__(self, stables: int, candidates: int, repeated: tuple[int, int]) -> None:
        self._stable = math.log1p(repeated[0] / max(stables, 1))  # that many times as many events as counted
        self._candidate = math.log1p(repeated[1] / max(candidates, 1))
        self._repeated = sum(repeated)

    def widened(self, low: float, high: float) -> tuple[float, float]:
        """The interval of the ratio of all events."""
        return (
            low if low >= 0 else max(low - self._stable, -LARGEST),
            min(high + self._candidate, LARGEST),
        )

    def of_all(self, drawn: float, ends: tuple[float, float]) -> float:
        """The ratio of all events, from the likeliest of those that count."""
        low, high = self.widened(*ends)
        return min(max(drawn + self._candidate - self._stable, low), high)

    @property
    def words(self) -> str:
        """How many events do not count; empty if all do."""
        return f"{self._repeated:,} more of sticky keys that had one before do not count" if self._repeated else ""


def _part_more(ratio: float) -> float:
    """Such as 0.5 for one and a half times as often; -1, never, for ratios too small to be told apart from it."""
    return math.expm1(ratio) if ratio > -LARGEST + 1e-9 else -1.0


def _root(falls: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Where a decreasing function passes zero, from `low` to `high`: by Newton's method, by bisection where that would
    leave what is left. `falls`: its value and its slope.
    """
    at = (low + high) / 2
    for _ in range(STEPS):
        value, slope = falls(at)
        low, high = (at, high) if value > 0 else (low, at)
        before, at = at, at - value / slope if slope else math.inf
        if not low <= at <= high:
            at = (low + high) / 2
        if abs(at - before) < PRECISION:
            break
    return at
