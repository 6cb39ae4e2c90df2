"""Quantiles by interpolation, checked against the latencies that were put in."""

import pytest

from gateway.metrics.quantiles import quantile_ms
from gateway.shm.scoreboard import BUCKETS, LATENCY_NS, Histogram, Tally


def test_nothing_counted_is_no_latency() -> None:
    assert quantile_ms(Histogram([0] * BUCKETS, 0), 0.5) is None


def test_it_lies_in_the_bucket_of_the_true_quantile() -> None:
    """Evenly spread latencies, of which interpolation is exact."""
    tally = Tally()
    for us in range(1, 10_001):
        tally.success("stable", 0, us * 1000)
    histogram = tally.read().latency("stable")
    for share in (0.5, 0.95, 0.99):
        assert quantile_ms(histogram, share) == pytest.approx(10 * share, rel=0.01)


def test_what_lies_beyond_the_edges_counts_as_the_last_one() -> None:
    counts = [0] * (BUCKETS - 1) + [7]
    assert quantile_ms(Histogram(counts, 0), 0.5) == LATENCY_NS[-1] / 1e6
