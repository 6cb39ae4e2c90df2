"""Student's t distribution: tails and quantiles, by the continued fraction of the incomplete beta function."""

import math
from functools import lru_cache
from typing import Final

_TINY: Final = 1e-300
_PRECISION: Final = 1e-13
_STEPS: Final = 500


def upper_tail(t: float, freedom: float) -> float:
    """P(T > t) for `freedom` degrees of freedom; 0 for t = infinity."""
    if math.isnan(t) or freedom <= 0:
        return 1.0
    both = 0.0 if math.isinf(t) else _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))
    return both / 2 if t > 0 else 1 - both / 2


def two_sided(t: float, freedom: float) -> float:
    """P(|T| > |t|)."""
    return min(1.0, 2 * upper_tail(abs(t), freedom))


@lru_cache(4096)
def quantile_975(freedom: int) -> float:
    """The 97.5% quantile, which a two-sided 95% interval needs; infinite without a degree of freedom."""
    if freedom < 1:
        return math.inf
    low, high = 1.9, 13.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if upper_tail(middle, freedom) > 0.025 else (low, middle)
    return (low + high) / 2


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b) (Press et al., Numerical Recipes, 6.4)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x < (a + 1) / (a + b + 2):
        return front * _fraction(a, b, x) / a
    return 1 - front * _fraction(b, a, 1 - x) / b


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1))
    result = d
    for m in range(1, _STEPS):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d)
            c = _away_from_zero(1 + term / c)
            result *= c * d
        if abs(c * d - 1) < _PRECISION:
            break
    return result


def _away_from_zero(value: float) -> float:
    return value if abs(value) > _TINY else _TINY
