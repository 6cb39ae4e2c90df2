"""Finds slices of the traffic in which the model is significantly worse than in the rest."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np

from gateway.offline.analysis.dimensions import Dimension, dimensions_of
from gateway.offline.analysis.metrics import Metric, metrics_of
from gateway.offline.analysis.table import Columns
from gateway.offline.statistics import Fisher, Rate, percent, q_values
from gateway.offline.unit_means import Floats, Integers, Mean, Sums, difference, shrunk, smoothed
from gateway.records.prediction import Prediction

MIN_ROWS: Final = 10  # rows, and units of them; smaller slices are not tested
FALSE_DISCOVERY_RATE: Final = 0.05  # expected share of the reported slices that are due to chance
TRUE_CLASS: Final = "true class"  # a dimension to compare versions by; the confusion matrix shows what is hard
Part = tuple[str, str]  # a dimension and a value of it


class Measure(StrEnum):
    """What is counted: wrong answers among those with a truth; rescues among the candidate's requests."""

    WRONG = "wrong"
    RESCUED = "rescued"


class Than(StrEnum):
    """How a slice differs from the rest; `HIGHER` and `LOWER` where it is not known which is better."""

    WORSE = "worse"
    HIGHER = "higher"
    LOWER = "lower"


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """A part of the rows: `measure` in it and in the rest, and the p-value of the difference.

    `q_value`: the false discovery rate at which the slice is significant, given all tests. `metric`: what the means
    are of; None where they are rates.
    """

    measure: str
    dimension: str
    value: str
    rate: Rate | Mean
    rest: Rate | Mean
    p_value: float
    q_value: float = 1.0
    metric: Metric | None = None
    than: Than = Than.WORSE

    @property
    def label(self) -> str:
        """What is measured, for a reader."""
        return self.metric.label if self.metric else self.measure

    def shown(self, one: Rate | Mean) -> str:
        """The rate or the mean with its interval, for a reader."""
        if isinstance(one, Rate):
            return percent(one)
        return self.metric.shown(one) if self.metric else f"{one.value:.4g}"


class RescueCounts:
    """Counts requests that were to be the candidate's, and those that stable answered instead, by slice."""

    def __init__(self) -> None:
        self._total = [0, 0]
        self._counts: dict[Part, list[int]] = {}

    def add(self, prediction: Prediction, parts: Sequence[Part]) -> None:
        """Count one request; `parts`: the slices that it is in."""
        rescued = prediction.rescued_from is not None
        if rescued or prediction.variant == "candidate":
            mine = [part for part in parts if part[0] not in ("version", "variant", "predicted class")]
            for counts in (self._total, *(self._counts.setdefault(part, [0, 0]) for part in mine)):
                counts[0] += rescued
                counts[1] += 1

    @property
    def total(self) -> Rate:
        """The rate over all requests that were to be the candidate's."""
        return Rate(*self._total)

    def tested(self) -> Iterator[Slice]:
        """Test each slice."""
        test = Fisher(self.total)
        for (dimension, value), counts in self._counts.items():
            rate = Rate(*counts)
            rest = Rate(self.total.hits - rate.hits, self.total.count - rate.count)
            if rate.count >= MIN_ROWS <= rest.count:
                yield Slice(
                    measure=Measure.RESCUED, dimension=dimension, value=value, rate=rate, rest=rest,
                    p_value=test.p_value(rate),
                )  # fmt: skip


def worse(columns: Columns, rescues: RescueCounts) -> tuple[list[Slice], int]:
    """Return the slices that are significantly worse than the rest, lowest q-value first, and the number tested."""
    dimensions = [one for one in dimensions_of(columns) if one.name not in _left_out(columns)] if len(columns) else []
    metrics = [metric for metric in metrics_of(columns.outcomes) if metric.tested]
    tested = list(rescues.tested())
    for metric in metrics:
        for dimension in dimensions:
            tested += _tested(columns, dimension, metric)
    adjusted = q_values([test.p_value for test in tested])
    found = [replace(test, q_value=q) for test, q in zip(tested, adjusted, strict=True) if q <= FALSE_DISCOVERY_RATE]
    return sorted(found, key=lambda one: (one.than is not Than.WORSE, one.q_value, one.p_value)), len(tested)


def _left_out(columns: Columns) -> set[str]:
    """The dimensions that are not tested: the variant too, if there is one version of each."""
    codes = [columns.parts[name][0] for name in ("variant", "version") if name in columns.parts]
    pairs = len(np.unique(np.stack(codes), axis=1)[0]) if len(codes) == 2 else 0
    same = bool(pairs) and all(len(np.unique(each)) == pairs for each in codes)
    return {TRUE_CLASS, "variant"} if same else {TRUE_CLASS}


def _tested(columns: Columns, dimension: Dimension, metric: Metric) -> Iterator[Slice]:
    """Rates of wrong classes by Fisher's exact test where each request has one row; all else by Welch's t-test."""
    values = columns.outcomes[metric.outcome]
    known = ~np.isnan(values) & (dimension.codes >= 0)
    if metric.outcome == Measure.WRONG and metric.share and len(np.unique(columns.unit[known])) == known.sum():
        yield from _rates(values[known], dimension, dimension.codes[known])
        return
    size = len(dimension.values)
    sums = Sums(dimension.codes, columns.unit, values, np.ones(len(values)), size)
    everything = sums.all()
    for code in range(size):
        if min(sums.units[code], everything.units - sums.units[code]) < MIN_ROWS:
            continue
        mean, rest = sums.mean(code), sums.rest(code)
        if metric.share:
            apart = difference(smoothed(mean), smoothed(rest))
        else:
            apart = difference(shrunk(mean, everything), shrunk(rest, everything))
        than = Than.WORSE if metric.harm else Than.HIGHER if apart.value > 0 else Than.LOWER
        p_value = apart.p_two_sided() if not metric.harm else apart.p_greater(metric.harm)
        yield Slice(
            measure=metric.name, dimension=dimension.name, value=dimension.values[code], rate=mean, rest=rest,
            p_value=p_value, metric=metric, than=than,
        )  # fmt: skip


def _rates(values: Floats, dimension: Dimension, codes: Integers) -> Iterator[Slice]:
    size = len(dimension.values)
    counts = np.bincount(codes, minlength=size)
    hits = np.bincount(codes, values, minlength=size).round().astype(int)
    total = Rate(int(hits.sum()), int(counts.sum()))
    test = Fisher(total)
    for code in range(size):
        rate = Rate(int(hits[code]), int(counts[code]))
        rest = Rate(total.hits - rate.hits, total.count - rate.count)
        if rate.count >= MIN_ROWS <= rest.count:
            yield Slice(
                measure=Measure.WRONG, dimension=dimension.name, value=dimension.values[code], rate=rate, rest=rest,
                p_value=test.p_value(rate),
            )  # fmt: skip
