"""The ways to split the judged rows into slices: by request, by category, by the range of a number."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from gateway.offline.analysis.table import ABSENT, Columns
from gateway.offline.unit_means import Floats, Integers

_QUARTILES: Final = (0.25, 0.5, 0.75)
MAX_DISTINCT: Final = 8  # a number with up to so many values is split into these, others at the quartiles
MAX_CATEGORIES: Final = 50  # of a feature; the rarer ones are one slice


@dataclass(frozen=True, slots=True)
class Dimension:
    """A way to split the rows. `codes` [rows]: the index of each row's slice in `values`, ABSENT if it is in none."""

    name: str
    codes: Integers
    values: Sequence[str]


def dimensions_of(columns: Columns) -> Iterator[Dimension]:
    """All ways to split the rows: by what the gateway knows of a request, by categories, by ranges of numbers."""
    for name, (codes, values) in columns.parts.items():
        yield Dimension(name, codes, values)
    for name, (codes, values) in columns.categories.items():
        yield _of_categories(name, codes, values)
    for name, numbers in columns.numbers.items():
        yield _of_numbers(name, numbers)


def _of_categories(name: str, codes: Integers, values: Sequence[str]) -> Dimension:
    """The most frequent categories; the others together. Where nearly each row has its own, there is none."""
    if len(values) <= MAX_CATEGORIES:
        return Dimension(name, codes, values)
    counts = np.bincount(codes[codes >= 0], minlength=len(values))
    frequent = np.argsort(counts)[::-1][:MAX_CATEGORIES]
    recoded = np.full(len(values), MAX_CATEGORIES)
    recoded[frequent] = np.arange(MAX_CATEGORIES)
    return Dimension(name, np.where(codes >= 0, recoded[codes], ABSENT), [*(values[i] for i in frequent), "(others)"])


def _of_numbers(name: str, numbers: Floats) -> Dimension:
    """Each value if there are few, else the quarters. Missing values (NaN) are a slice of their own."""
    known = numbers[np.isfinite(numbers)]
    distinct = np.unique(known)
    if len(distinct) <= MAX_DISTINCT:
        codes = np.searchsorted(distinct, numbers).clip(0, max(len(distinct) - 1, 0))
        values = [f"{value:.6g}" for value in distinct.tolist()]
    else:
        edges = np.unique(np.quantile(known, _QUARTILES))
        codes = np.searchsorted(edges, numbers, side="left")
        bounds = [-np.inf, *edges.tolist(), np.inf]
        values = [_range(low, high) for low, high in itertools.pairwise(bounds)]
    return Dimension(name, np.where(np.isnan(numbers), len(values), codes).astype(np.int64), [*values, "missing"])


def _range(low: float, high: float) -> str:
    if low == -np.inf:
        return f"up to {high:.4g}"
    return f"over {low:.4g}" if high == np.inf else f"{low:.4g} to {high:.4g}"
