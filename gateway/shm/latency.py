"""The edges between which durations are counted: finely, and at those that are exported."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LATENCY_US: Final = (  # what is exported, and what waiting in a queue is counted by
    100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000,
    75_000, 100_000, 150_000, 200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
)  # fmt: skip
EXPORTED_NS: Final = tuple(edge * 1000 for edge in LATENCY_US)
NARROW: Final = 1.05**2  # a bucket's geometric middle is within 5% of all that falls into it


def _refined(edges: Sequence[int]) -> tuple[int, ...]:
    """The edges, and between any two of them as many at equal ratios as make them narrow."""
    refined = [edges[0]]
    for low, high in itertools.pairwise(edges):
        steps = math.ceil(math.log(high / low) / math.log(NARROW))
        refined += [round(low * (high / low) ** (step / steps)) for step in range(1, steps + 1)]
    return tuple(refined)


LATENCY_NS: Final = _refined((20_000, 50_000, *EXPORTED_NS, 20_000_000_000, 60_000_000_000))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts for each bucket up to its edge, the last one for what is beyond all; `sum_ns` of all of it."""

    edges_ns: Sequence[int]
    counts: list[int]
    sum_ns: int
