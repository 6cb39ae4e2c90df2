"""Compares the candidate with stable: over all rows that were drawn at random, and slice by slice."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np

from gateway.evidence.differences import Units
from gateway.evidence.effect import EffectVerdict
from gateway.evidence.key_bounds import KeyBounds
from gateway.evidence.thinning import Thinning
from gateway.offline.analysis.dimensions import Dimension, dimensions_of
from gateway.offline.analysis.effect import Range, effect
from gateway.offline.analysis.metrics import Metric, metrics_of
from gateway.offline.analysis.slices import FALSE_DISCOVERY_RATE, MIN_ROWS
from gateway.offline.analysis.table import Columns
from gateway.offline.statistics import q_values
from gateway.offline.unit_means import Mean, Sums, difference, shrunk, smoothed
from gateway.routing.buckets import BUCKETS

OF_THE_DRAW: Final = frozenset({"variant", "version"})  # dimensions that tell the versions apart
OF_THE_ANSWER: Final = frozenset({"predicted class"})  # a version chooses it: rows of it are no equal rows


@dataclass(frozen=True, slots=True)
class VersionMetric:
    """One metric of one version, over all its judged rows."""

    version: int
    metric: Metric
    mean: Mean


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Candidate minus stable, by one metric. `low` and `high`: the ends of the interval.

    `dimension` and `slice`: empty for all rows. `p_value` and `q_value`: of a slice. `more_units`: about how many more
    outcomes would tell, None if that is known or cannot be said; `asymptotic`: the interval is good for many outcomes
    only, since their range is not known.
    """

    metric: Metric
    stable: Mean
    candidate: Mean
    value: float
    low: float
    high: float
    verdict: EffectVerdict
    dimension: str = ""
    slice: str = ""
    p_value: float = math.nan
    q_value: float = math.nan
    more_units: int | None = None
    asymptotic: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The candidate beside stable. `rows`: judged rows drawn at random between them; `units`: independent ones.

    `effects`: over all of them, with intervals that hold whenever one looks; `slices`: those in which the versions
    differ, of `tested`.
    """

    stable: int
    candidate: int
    rows: int
    units: int
    effects: Sequence[Effect]
    slices: Sequence[Effect]
    tested: int


@dataclass(frozen=True, slots=True)
class Pair:
    """The versions of a release."""

    stable: int
    candidate: int


def by_version(columns: Columns) -> list[VersionMetric]:
    """Each metric of each version, over all judged rows."""
    if not len(columns):
        return []
    versions, codes = np.unique(columns.version, return_inverse=True)
    ones = np.ones(len(codes))
    found = []
    for metric in metrics_of(columns.outcomes):
        sums = Sums(codes, columns.unit, columns.outcomes[metric.outcome], ones, len(versions))
        means = [sums.mean(code) for code in range(len(versions))]
        found += [
            VersionMetric(int(version), metric, mean)
            for version, mean in zip(versions.tolist(), means, strict=True)
            if mean.count
        ]
    return found


def compare(columns: Columns, pair: Pair | None, ranges: Mapping[str, Range]) -> Comparison | None:
    """Compare the versions of `pair` on the rows drawn at random between them; None if there are none of one.

    `ranges`: lowest and highest value of rewards and business metrics, by outcome.
    """
    if pair is None or not len(columns):
        return None
    mine = np.where(columns.candidate, columns.version == pair.candidate, columns.version == pair.stable)
    drawn = mine & (columns.chance > 0) & (columns.chance < 1)
    if not (drawn & columns.candidate).any() or not (drawn & ~columns.candidate).any():
        return None
    metrics = [metric for metric in metrics_of(columns.outcomes) if metric.tested]
    counted: dict[bytes, tuple[Any, Any, list[str]]] = {}
    effects = [one for metric in metrics for one in _effect(columns, drawn, metric, ranges, counted)]
    tested = list(_tested(columns, drawn, metrics))
    adjusted = q_values([one.p_value for one in tested])
    found = [replace(one, q_value=q) for one, q in zip(tested, adjusted, strict=True) if q <= FALSE_DISCOVERY_RATE]
    return Comparison(
        stable=pair.stable,
        candidate=pair.candidate,
        rows=int(drawn.sum()),
        units=len(np.unique(columns.key[drawn])),
        effects=effects,
        slices=sorted(found, key=lambda one: (not one.metric.harm, one.q_value, one.p_value)),
        tested=len(tested),
    )


def verdict_of(metric: Metric, low: float, high: float) -> EffectVerdict:
    """The verdict of an interval of the outcome's difference."""
    if not (low > 0 or high < 0):
        return EffectVerdict.UNKNOWN
    rises = low > 0
    if not metric.harm:
        return EffectVerdict.HIGHER if rises else EffectVerdict.LOWER
    return EffectVerdict.WORSE if rises == (metric.harm > 0) else EffectVerdict.BETTER


def _effect(
    columns: Columns,
    drawn: Any,
    metric: Metric,
    ranges: Mapping[str, Range],
    counted: dict[bytes, tuple[Any, Any, list[str]]],
) -> Iterator[Effect]:
    """The effect over all rows. A request is one outcome, the mean of its rows, and a key its first request, or the
    first that `Thinning` leaves; and one more once another weight has opened its draw again. `counted`: what `_chances`
    has returned, by the rows, which many metrics share: going through a million takes seconds.
    """
    values = columns.outcomes[metric.outcome]
    chosen = drawn & ~np.isnan(values)
    rows = np.flatnonzero(chosen)
    candidate = columns.candidate[rows]
    if candidate.all() or not candidate.any():
        return
    units, start, place = np.unique(columns.unit[rows], return_index=True, return_inverse=True)
    means = np.bincount(place, values[rows]) / np.bincount(place)
    same = np.packbits(chosen).tobytes()
    if same not in counted:
        counted[same] = _chances(columns, rows[start])
    chances, thinned, routes = counted[same]
    counts, candidate = chances > 0, columns.candidate[rows[start]]
    if candidate[counts].all() or not candidate[counts].any():
        return
    first, left = (Units(means, candidate, one, np.array(routes, np.str_)).part(one > 0) for one in (chances, thinned))
    units, means, candidate = units[counts], means[counts], candidate[counts]
    found = effect(metric, first, left, ranges)
    sums = Sums(candidate.astype(np.int64), units, means, np.ones(len(means)), 2)
    ends = (-math.inf if found.low is None else found.low, math.inf if found.high is None else found.high)
    made = _made(metric, sums.mean(0), sums.mean(1), math.nan if found.effect is None else found.effect, *ends)
    yield replace(made, verdict=found.verdict, more_units=found.more_units, asymptotic=found.asymptotic)


def _chances(columns: Columns, rows: Any) -> tuple[Any, Any, list[str]]:
    """The candidate's chances at these rows, one a request, where they count as in the comparisons under way in either
    way of counting (see `Outcomes`), else 0; and their routes.
    """
    drawn, candidate = columns.chance[rows], columns.candidate[rows]
    weights_ppm = np.rint(BUCKETS * np.where(candidate, drawn, 1 - drawn)).astype(np.int64)  # the same of both versions
    chances = weights_ppm / BUCKETS
    thinned = chances.copy()
    routes = columns.parts["route"][0][rows].astype(np.str_).tolist() if "route" in columns.parts else [""] * len(rows)
    heard, left, known, thinning = KeyBounds(), KeyBounds(), set[int](), Thinning()
    requests = zip(
        columns.key[rows].tolist(),
        candidate.tolist(),
        columns.draw[rows].tolist(),
        weights_ppm.tolist(),
        routes,
        strict=True,
    )
    for place, (key, is_candidate, draw, weight_ppm, route) in enumerate(requests):
        if math.isnan(draw):
            if key in known:
                chances[place] = thinned[place] = 0.0
            known.add(key)
            continue
        chances[place] = heard.learn(weight_ppm, is_candidate, key)
        thinned[place] = chance = left.chance(weight_ppm, key)
        if chance and not thinning.counts(route, chance, is_candidate, draw):
            thinned[place] = 0.0
        elif chance:
            left.narrow(weight_ppm, is_candidate, key)
    return chances, thinned, routes


def _tested(columns: Columns, drawn: Any, metrics: Sequence[Metric]) -> Iterator[Effect]:
    """Each slice, by Welch's t-test with keys as units and each row weighted by how unlikely its version was."""
    weights = 1 / columns.chance.clip(1e-6)
    for dimension in dimensions_of(columns):
        if dimension.name not in OF_THE_DRAW | OF_THE_ANSWER:
            codes = np.where(drawn, dimension.codes, -1)
            for metric in metrics:
                yield from _of_dimension(columns, Dimension(dimension.name, codes, dimension.values), metric, weights)


def _of_dimension(columns: Columns, dimension: Dimension, metric: Metric, weights: Any) -> Iterator[Effect]:
    values, size = columns.outcomes[metric.outcome], len(dimension.values)
    codes = [np.where(columns.candidate == variant, dimension.codes, -1) for variant in (False, True)]
    sides = [Sums(groups, columns.key, values, weights, size) for groups in codes]
    everything = [side.all() for side in sides]
    for code in range(size):
        is_all = all(side.count[code] == side.count.sum() for side in sides)
        if is_all or min(side.units[code] for side in sides) < MIN_ROWS:
            continue
        stable, candidate = (side.mean(code) for side in sides)
        if metric.share:
            apart = difference(smoothed(candidate), smoothed(stable))
        else:
            apart = difference(shrunk(candidate, everything[1]), shrunk(stable, everything[0]))
        made = _made(metric, stable, candidate, apart.value, apart.low, apart.high)
        yield replace(made, dimension=dimension.name, slice=dimension.values[code], p_value=apart.p_two_sided())


def _made(metric: Metric, stable: Mean, candidate: Mean, value: float, low: float, high: float) -> Effect:
    ends = sorted((metric.sign * low, metric.sign * high))
    return Effect(
        metric=metric,
        stable=stable,
        candidate=candidate,
        value=metric.sign * value,
        low=ends[0],
        high=ends[1],
        verdict=verdict_of(metric, low, high),
    )
