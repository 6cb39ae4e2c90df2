"""The bins in which the numbers of a regression are counted: as many as there are counters of classes.

They follow from the output's range alone, so all workers and hosts and both versions count in the same ones. A guard
joins them to a few that stable fills about equally.
"""

from itertools import pairwise
from typing import Final

import numpy as np

from gateway.protocol.classification import NO_CLASS
from gateway.protocol.tensors import Array
from gateway.shm.tally import CLASSES

WITHIN: Final = CLASSES - 2  # bins of equal width in the range; the first and the last are for what is outside


def bin_of(value: float, bounds: tuple[float, float]) -> int:
    """The bin of a number. `bounds`: the range of the output."""
    lowest, highest = bounds
    if value < lowest:
        return 0
    return 1 + int((value - lowest) / (highest - lowest) * WITHIN) if value < highest else CLASSES - 1


def bins_of(values: Array, bounds: tuple[float, float]) -> list[int]:
    """The bins of many numbers, NO_CLASS for those that are not finite."""
    lowest, highest = bounds
    numbers = values.ravel().astype(np.float64)
    share = (np.clip(numbers, lowest, highest) - lowest) / (highest - lowest)
    within = 1 + np.nan_to_num(share * WITHIN).astype(np.int64)
    bins = np.where(numbers < lowest, 0, np.where(numbers < highest, within, CLASSES - 1))
    return list(np.where(np.isfinite(numbers), bins, NO_CLASS).tolist())


def bin_names(bounds: tuple[float, float]) -> tuple[str, ...]:
    """The names of all bins, for people and metrics."""
    lowest, highest = bounds
    edges = [lowest + (highest - lowest) * place / WITHIN for place in range(WITHIN + 1)]
    within = [f"{low:.4g} to {high:.4g}" for low, high in pairwise(edges)]
    return f"below {lowest:.4g}", *within, f"from {highest:.4g}"
