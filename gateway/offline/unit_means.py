"""Means of rows that come in units: rows of one request, or requests of one key, are no independent evidence."""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.offline import student

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
SHRINKAGE: Final = 2.0  # units' worth of the variance of all rows: ten equal values are no certainty


@dataclass(frozen=True, slots=True)
class Mean:
    """A mean of `count` rows in `units` independent units, with its standard error; NaN if the count is 0."""

    value: float
    error: float
    count: int
    units: int

    @property
    def low(self) -> float:
        """The lower end of the 95% interval (Student's t)."""
        return self._end(-1)

    @property
    def high(self) -> float:
        """The upper end of the 95% interval."""
        return self._end(1)

    def _end(self, sign: int) -> float:
        if self.units < 2 or not math.isfinite(self.error):
            return math.nan if not self.count else sign * math.inf
        return self.value + sign * student.quantile_975(self.units - 1) * self.error


NO_MEAN: Final = Mean(math.nan, math.nan, 0, 0)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference of two means: its standard error, its 95% interval, and the degrees of freedom (Welch)."""

    value: float
    error: float
    freedom: float

    @property
    def low(self) -> float:
        return self.value - self._half_width()

    @property
    def high(self) -> float:
        return self.value + self._half_width()

    def p_greater(self, sign: int = 1) -> float:
        """The p-value of a difference, times `sign`, of 0 or less."""
        return student.upper_tail(sign * self._t(), self.freedom)

    def p_two_sided(self) -> float:
        """The p-value of a difference of 0."""
        return student.two_sided(self._t(), self.freedom)

    def _half_width(self) -> float:
        return student.quantile_975(max(1, int(self.freedom))) * self.error

    def _t(self) -> float:
        if self.error > 0:
            return self.value / self.error
        return 0.0 if not self.value else math.copysign(math.inf, self.value)


def difference(one: Mean, other: Mean) -> Difference:
    """`one` minus `other`, with Welch's degrees of freedom."""
    a, b = one.error**2, other.error**2
    spread = a**2 / max(one.units - 1, 1) + b**2 / max(other.units - 1, 1)
    return Difference(one.value - other.value, math.sqrt(a + b), (a + b) ** 2 / spread if spread else 1.0)


class Sums:
    """Sums over the rows of each of some groups, from which the groups' means follow. All arrays are [groups].

    The variance is that of a ratio of sums over units, Σ_u w y / Σ_u w, linearised (Cochran 1977, 6.3).
    """

    def __init__(self, groups: Integers, units: Integers, values: Floats, weights: Floats, size: int) -> None:
        """`groups`: of each row, from 0 to `size` - 1, or -1 for none; `units`: of each row; values: NaN if unknown."""
        known = ~np.isnan(values) & (groups >= 0)
        groups, units, values, weights = groups[known], units[known], values[known], weights[known]
        self.count = np.bincount(groups, minlength=size)
        cells, place = np.unique(groups * (int(units.max(initial=0)) + 1) + units, return_inverse=True)
        owner = np.zeros(len(cells), np.int64)
        owner[place] = groups
        heavy = np.bincount(place, weights, minlength=len(cells))
        total = np.bincount(place, weights * values, minlength=len(cells))
        self.units = np.bincount(owner, minlength=size)
        self.weight = np.bincount(owner, heavy, minlength=size)
        self.sum = np.bincount(owner, total, minlength=size)
        self._squares = np.bincount(owner, total**2, minlength=size)
        self._products = np.bincount(owner, total * heavy, minlength=size)
        self._weights = np.bincount(owner, heavy**2, minlength=size)

    def mean(self, group: int) -> Mean:
        """The mean of one group."""
        return self._mean(*(column[group] for column in self._columns()))

    def rest(self, group: int) -> Mean:
        """The mean of all groups but one."""
        return self._mean(*(column.sum() - column[group] for column in self._columns()))

    def all(self) -> Mean:
        """The mean of all groups together."""
        return self._mean(*(column.sum() for column in self._columns()))

    def _columns(self) -> tuple[Any, ...]:
        return self.count, self.units, self.weight, self.sum, self._squares, self._products, self._weights

    def _mean(self, count: Any, units: Any, weight: Any, total: Any, squares: Any, products: Any, weights: Any) -> Mean:
        if not count or weight <= 0:
            return NO_MEAN
        value = float(total / weight)
        spread = max(0.0, float(squares - 2 * value * products + value**2 * weights))
        variance = spread / weight**2 * units / (units - 1) if units > 1 else math.inf
        return Mean(value, math.sqrt(variance) if math.isfinite(variance) else math.inf, int(count), int(units))


def shrunk(mean: Mean, everything: Mean) -> Mean:
    """`mean` with the variance of its units drawn a little towards that of `everything`, which it is a part of."""
    if mean.units < 2 or not math.isfinite(everything.error):
        return mean
    own, of_all = mean.error**2 * mean.units, everything.error**2 * everything.units
    variance = ((mean.units - 1) * own + SHRINKAGE * of_all) / (mean.units - 1 + SHRINKAGE)
    return Mean(mean.value, math.sqrt(variance / mean.units), mean.count, mean.units)


def smoothed(share: Mean) -> Mean:
    """A mean of values from 0 to 1 with one unit of 0 and one of 1 more: twenty right answers are no certainty.

    Source: Agresti & Caffo, The American Statistician 54(4), 2000, for the difference of two shares.
    """
    if not share.units or not math.isfinite(share.error):
        return share
    value = (share.units * share.value + 1) / (share.units + 2)
    own = share.error**2 * share.units + (share.value - value) ** 2
    variance = (share.units * own + value**2 + (1 - value) ** 2) / (share.units + 2)
    return Mean(value, math.sqrt(variance / (share.units + 2)), share.count, share.units)
