"""The bins in which the numbers of a regression are counted: as many as there are counters of classes.

They follow from the output's range alone, so all workers and hosts and both versions count in the same ones. A guard
joins them to a few that stable fills about equally.
"""

from itertools import pairwise
from typing import Final

from gateway.shm.tally import CLASSES

WITHIN: Final = CLASSES - 2  # bins of equal width in the range; the first and the last are for what is outside


def bin_of(value: float, bounds: tuple[float, float]) -> int:
    """The bin of a number. `bounds`: the range of the output."""
    lowest, highest = bounds
    if value < lowest:
        return 0
    return 1 + int((value - lowest) / (highest - lowest) * WITHIN) if value < highest else CLASSES - 1


def bin_names(bounds: tuple[float, float]) -> tuple[str, ...]:
    """The names of all bins, for people and metrics."""
    lowest, highest = bounds
    edges = [lowest + (highest - lowest) * place / WITHIN for place in range(WITHIN + 1)]
    within = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return f"below {lowest:.4g}", *within, f"from {highest:.4g}"
