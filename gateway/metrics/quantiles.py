"""Quantiles of a latency histogram, by interpolation within a bucket."""

from typing import Final

from gateway.shm.scoreboard import LATENCY_NS, Histogram

SHOWN: Final = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def quantile_ms(histogram: Histogram, share: float) -> float | None:
    """The latency that `share` of the requests stay below, in milliseconds; None where nothing was counted.

    Linear between a bucket's edges, as Prometheus's histogram_quantile does it; what lies beyond the last edge
    counts as that edge.
    """
    count = sum(histogram.counts)
    if not count:
        return None
    rank = share * count
    below = 0
    for index, inside in enumerate(histogram.counts[:-1]):
        if inside and below + inside >= rank:
            low = LATENCY_NS[index - 1] if index else 0
            return (low + (LATENCY_NS[index] - low) * (rank - below) / inside) / 1e6
        below += inside
    return LATENCY_NS[-1] / 1e6
