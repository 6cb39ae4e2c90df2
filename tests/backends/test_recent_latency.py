"""The 99th percentile of a version's most recent answers."""

import math

import pytest

from gateway.backends.recent_latency import ENOUGH, KEPT, Pace


def p99_ns(pace: Pace) -> int:
    pace.renew()
    return pace.p99_ns


def test_p99_is_zero_without_warm_up_or_answers() -> None:
    assert p99_ns(Pace(math.nan)) == 0
    assert p99_ns(Pace(50.0)) == 50_000


def test_p99_is_never_below_the_warm_up() -> None:
    pace = Pace(50.0)
    pace.add(10_000)
    assert p99_ns(pace) == 50_000
    pace.add(80_000)
    assert p99_ns(pace) == 80_000


@pytest.mark.parametrize("count", [ENOUGH * 2, KEPT, KEPT * 3])
def test_p99_covers_only_the_most_recent_answers(count: int) -> None:
    pace = Pace(1e9)
    for number in range(1, count + 1):
        pace.add(number)
        assert p99_ns(pace)
    kept = min(count, KEPT)
    exact = count - kept + math.ceil(0.99 * kept)
    assert p99_ns(pace) == exact


def test_p99_forgets_answers_older_than_the_last_thousand() -> None:
    pace = Pace(math.nan)
    for ns in [10**9] * KEPT + [1000] * KEPT:
        pace.add(ns)
    pace.renew()
    assert pace.p99_ns == 1000
