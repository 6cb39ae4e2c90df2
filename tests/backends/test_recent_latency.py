"""The 99th percentile of a version's last answers."""

import math

import pytest

from gateway.backends.recent_latency import ENOUGH, KEPT, Pace


def p99_ns(pace: Pace) -> int:
    pace.renew()
    return pace.p99_ns


def test_nothing_is_known_without_a_warm_up_and_answers() -> None:
    assert p99_ns(Pace(math.nan)) == 0
    assert p99_ns(Pace(50.0)) == 50_000


def test_the_first_answers_count_at_once_but_for_less_than_the_warm_up_nothing() -> None:
    pace = Pace(50.0)
    pace.add(10_000)
    assert p99_ns(pace) == 50_000
    pace.add(80_000)
    assert p99_ns(pace) == 80_000


@pytest.mark.parametrize("count", [ENOUGH * 2, KEPT, KEPT * 3])
def test_it_is_of_the_last_answers(count: int) -> None:
    pace = Pace(1e9)
    for number in range(1, count + 1):
        pace.add(number)
        assert p99_ns(pace)
    kept = min(count, KEPT)
    exact = count - kept + math.ceil(0.99 * kept)
    assert p99_ns(pace) == exact


def test_a_thousand_later_answers_are_all_that_is_left() -> None:
    pace = Pace(math.nan)
    for ns in [10**9] * KEPT + [1000] * KEPT:
        pace.add(ns)
    pace.renew()
    assert pace.p99_ns == 1000
