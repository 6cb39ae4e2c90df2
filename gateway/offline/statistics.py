"""Statistics of the error analysis: intervals of rates, Fisher's exact test, and a correction for multiple tests."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

Z_95: Final = 1.959963984540054


@dataclass(frozen=True, slots=True)
class Rate:
    """`hits` of `count`, with Wilson's 95% interval (Wilson 1927); NaN if the count is 0."""

    hits: int
    count: int

    @property
    def value(self) -> float:
        return self.hits / self.count if self.count else math.nan

    @property
    def low(self) -> float:
        return self._ends()[0]

    @property
    def high(self) -> float:
        return self._ends()[1]

    def _ends(self) -> tuple[float, float]:
        if not self.count:
            return math.nan, math.nan
        share, stretch = self.hits / self.count, 1 + Z_95**2 / self.count
        centre = (self.hits + Z_95**2 / 2) / (self.count + Z_95**2)
        half_width = Z_95 * math.sqrt(share * (1 - share) / self.count + Z_95**2 / (4 * self.count**2)) / stretch
        return max(0.0, centre - half_width), min(1.0, centre + half_width)


class Fisher:
    """Fisher's exact test for groups out of `total`, one-sided: does a group have more hits than expected by chance?"""

    def __init__(self, total: Rate) -> None:
        self._total = total
        self._log_factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, total.count + 1)))])

    def p_value(self, group: Rate) -> float:
        """The probability of `group.hits` or more if the total's hits were distributed at random."""
        most = min(group.count, self._total.hits)
        hits = np.arange(group.hits, most + 1)
        others, misses = self._total.count - group.count, self._total.count - self._total.hits
        hits = hits[group.count - hits <= misses]
        logs = (
            self._log_choose(self._total.hits, hits)
            + self._log_choose(misses, group.count - hits)
            - self._log_choose(others + group.count, np.array([group.count]))
        )
        return min(1.0, float(np.exp(logs).sum()))

    def _log_choose(
        self, of: int, chosen: "np.ndarray[tuple[int], np.dtype[np.int64]]"
    ) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
        factorials = self._log_factorials
        result: np.ndarray[tuple[int], np.dtype[np.float64]] = (
            factorials[of] - factorials[chosen] - factorials[of - chosen]
        )
        return result


def percent(rate: Rate) -> str:
    """Format the rate with its interval: 12.3% [10.1, 14.9]."""
    if not rate.count:
        return "-"
    return f"{100 * rate.value:.1f}% [{100 * rate.low:.1f}, {100 * rate.high:.1f}]"


def q_values(p_values: Sequence[float]) -> list[float]:
    """The lowest false discovery rate at which each test is significant (Benjamini and Hochberg 1995)."""
    count = len(p_values)
    adjusted = [1.0] * count
    smallest = 1.0
    for rank, index in zip(
        range(count, 0, -1), sorted(range(count), key=lambda i: p_values[i], reverse=True), strict=True
    ):
        smallest = min(smallest, p_values[index] * count / rank)
        adjusted[index] = smallest
    return adjusted
