"""Statistics, compared with published figures and SciPy."""

import math

import pytest
from scipy import stats

from gateway.offline.statistics import Fisher, Rate, q_values


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 10), (81, 263), (15, 148), (10, 10), (500, 100_000)])
def test_wilson_interval_equals_scipy(hits: int, count: int) -> None:
    expected = stats.binomtest(hits, count).proportion_ci(method="wilson")
    rate = Rate(hits, count)
    assert (rate.low, rate.high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_rate_of_nothing_is_nan() -> None:
    assert all(math.isnan(value) for value in (Rate(0, 0).value, Rate(0, 0).low, Rate(0, 0).high))


@pytest.mark.parametrize(
    ("group", "total"),
    [
        (Rate(8, 10), Rate(13, 30)),
        (Rate(0, 10), Rate(5, 30)),
        (Rate(10, 10), Rate(10, 30)),
        (Rate(10, 12), Rate(28, 30)),
        (Rate(300, 1000), Rate(2500, 10_000)),
    ],
)
def test_fisher_p_value_equals_scipy(group: Rate, total: Rate) -> None:
    rest_hits, rest_misses = total.hits - group.hits, total.count - total.hits - group.count + group.hits
    table = [[group.hits, group.count - group.hits], [rest_hits, rest_misses]]
    assert Fisher(total).p_value(group) == pytest.approx(stats.fisher_exact(table, "greater").pvalue, rel=1e-8)


@pytest.mark.parametrize("p_values", [[], [0.03], [0.01, 0.04, 0.03, 0.5, 0.005], [1.0, 1.0], [0.2, 0.001, 0.2]])
def test_q_values_equal_scipy(p_values: list[float]) -> None:
    expected = stats.false_discovery_control(p_values) if p_values else []
    assert q_values(p_values) == pytest.approx(list(expected))
