"""The 99th percentile of a version's most recent answers."""

import math

import pytest

from gateway.backends.recent_latency import MAX_SAMPLES, MIN_SAMPLES, RecentLatency


def p99_ns(pace: RecentLatency) -> int:
    pace.update_p99()
    return pace.p99_ns


def test_p99_is_zero_without_warm_up_or_answers() -> None:
    assert p99_ns(RecentLatency(math.nan)) == 0
    assert p99_ns(RecentLatency(50.0)) == 50_000


def test_p99_is_never_below_the_warm_up() -> None:
    pace = RecentLatency(50.0)
    pace.add(10_000)
    assert p99_ns(pace) == 50_000
    pace.add(80_000)
    assert p99_ns(pace) == 80_000


@pytest.mark.parametrize("count", [MIN_SAMPLES * 2, MAX_SAMPLES, MAX_SAMPLES * 3])
def test_p99_covers_only_the_most_recent_answers(count: int) -> None:
    pace = RecentLatency(1e9)
    for number in range(1, count + 1):
        pace.add(number)
        assert p99_ns(pace)
    kept = min(count, MAX_SAMPLES)
    exact = count - kept + math.ceil(0.99 * kept)
    assert p99_ns(pace) == exact


def test_p99_forgets_answers_older_than_the_last_thousand() -> None:
    pace = RecentLatency(math.nan)
    for ns in [10**9] * MAX_SAMPLES + [1000] * MAX_SAMPLES:
        pace.add(ns)
    pace.update_p99()
    assert pace.p99_ns == 1000
