"""Student's t distribution, against published tables."""

import math

import pytest

from gateway.offline.student import quantile_975, two_sided, upper_tail


@pytest.mark.parametrize(
    ("t", "freedom", "tail"),
    [
        (0.0, 5, 0.5),
        (12.7062, 1, 0.025),
        (2.22814, 10, 0.025),
        (3.16927, 10, 0.005),
        (1.65765, 120, 0.05),
        (-2.22814, 10, 0.975),
        (1.959964, 1e9, 0.025),
        (math.inf, 3, 0.0),
    ],
)
def test_upper_tail_is_that_of_the_tables(t: float, freedom: float, tail: float) -> None:
    assert upper_tail(t, freedom) == pytest.approx(tail, rel=2e-5, abs=1e-12)


def test_tail_of_one_degree_of_freedom_is_cauchys() -> None:
    for t in (0.1, 1.0, 30.0, 1e6):
        assert upper_tail(t, 1) == pytest.approx(math.atan2(1, t) / math.pi, rel=1e-9)
        assert two_sided(-t, 1) == pytest.approx(2 * math.atan2(1, t) / math.pi, rel=1e-9)


@pytest.mark.parametrize(("freedom", "quantile"), [(1, 12.7062), (2, 4.30265), (30, 2.04227), (10_000, 1.96020)])
def test_quantile_is_that_of_the_tables(freedom: int, quantile: float) -> None:
    assert quantile_975(freedom) == pytest.approx(quantile, abs=1e-4)
    assert math.isinf(quantile_975(0))
