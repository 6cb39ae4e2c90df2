"""The bucket edges of duration histograms: fine ones for quantiles, and the coarser ones exported to Prometheus."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LATENCY_US: Final = (  # edges for export, and for queueing times
    100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000,
    75_000, 100_000, 150_000, 200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
)  # fmt: skip
EXPORTED_NS: Final = tuple(edge * 1000 for edge in LATENCY_US)
BUCKET_RATIO: Final = 1.05**2  # ratio of a bucket's edges: its geometric middle is within 5% of all its values


def _refined(edges: Sequence[int]) -> tuple[int, ...]:
    """Add edges at equal ratios between any two of these, so that no bucket is wider than NARROW."""
    refined = [edges[0]]
    for low, high in itertools.pairwise(edges):
        steps = math.ceil(math.log(high / low) / math.log(BUCKET_RATIO))
        refined += [round(low * (high / low) ** (step / steps)) for step in range(1, steps + 1)]
    return tuple(refined)


LATENCY_NS: Final = _refined((20_000, 50_000, *EXPORTED_NS, 20_000_000_000, 60_000_000_000))


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts per bucket: values up to its edge; the last bucket is for values beyond all edges. `sum_ns`: of all."""

    edges_ns: Sequence[int]
    counts: list[int]
    sum_ns: int
