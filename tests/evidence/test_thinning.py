"""Of a version whose sticky customers give feedback more often, fewer outcomes count."""

import math
from collections import Counter

import orjson
import pytest

from gateway.evidence.thinning import Thinning, draw_of


def feed(thinning: Thinning, *, candidates: int, stable: int, times: int, chance: float = 0.5) -> Counter[bool]:
    """How many of the candidate's (True) and of stable's outcomes count, of so many of each in turn."""
    turn = [True] * candidates + [False] * stable
    drawn = ((number, one) for number, one in enumerate(turn * times))
    return Counter(one for number, one in drawn if thinning.counts("all", chance, one, draw_of(number, number * 1000)))


@pytest.mark.parametrize(("candidates", "stable", "chance"), [(1, 1, 0.5), (1, 9, 0.1)])
def test_at_equal_rates_all_count(candidates: int, stable: int, chance: float) -> None:
    counted = feed(Thinning(), candidates=candidates, stable=stable, times=200, chance=chance)
    assert counted == {True: 200 * candidates, False: 200 * stable}


@pytest.mark.parametrize(("candidates", "stable", "ratio"), [(2, 1, 2.0), (4, 1, 4.0), (1, 2, 0.5), (1, 4, 0.25)])
def test_of_the_version_with_more_feedback_as_many_count_as_of_the_other(
    candidates: int, stable: int, ratio: float
) -> None:
    thinning = Thinning()
    feed(thinning, candidates=candidates, stable=stable, times=1000)
    counted = feed(thinning, candidates=candidates, stable=stable, times=1000)
    more = ratio > 1
    assert counted[not more] == 1000
    assert counted[more] == pytest.approx(1000, rel=0.12)


def test_few_outcomes_say_nothing_of_the_rates() -> None:
    assert feed(Thinning(), candidates=1, stable=0, times=2) == {True: 2}
    assert feed(Thinning(), candidates=0, stable=1, times=2) == {False: 2}


def test_estimate_starts_from_equal_rates_and_is_trusted_up_to_half_an_error() -> None:
    thinning = Thinning()
    feed(thinning, candidates=1, stable=0, times=24)  # a sum of 12: (12 + 3) / 3
    excess = math.log(5) - 0.5 * math.sqrt(2 / 18)
    share = sum(_counts(thinning, key) for key in range(4000)) / 4000
    assert share == pytest.approx(math.exp(-excess), abs=0.02)


def _counts(thinning: Thinning, key: int) -> bool:
    again = Thinning()
    again.restore(thinning.to_json())
    return again.counts("all", 0.5, True, draw_of(key, 0))


def test_outcome_tells_of_the_rates_of_later_ones_whether_it_counts_or_not() -> None:
    thinning = Thinning()
    assert feed(thinning, candidates=1, stable=0, times=100)[True] < 60
    assert thinning.to_json() == [["all", 0.0, 50.0]]
    thinning.counts("all", 0.2, False, draw_of(1, 0))
    thinning.counts("all", 0.2, True, draw_of(1, 0))
    assert thinning.to_json() == [["all", 0.2, 50.8]]
    assert Thinning().counts("all", 1e-9, True, draw_of(1, 0)), "not by itself"


def test_each_route_has_a_ratio_of_its_own() -> None:
    thinning = Thinning()
    feed(thinning, candidates=4, stable=1, times=200)
    assert all(thinning.counts("other", 0.5, True, draw_of(key, 0)) for key in range(3))
    assert not all(thinning.counts("all", 0.5, True, draw_of(key, 0)) for key in range(10))


def test_what_counts_is_the_same_after_a_restore_and_depends_on_the_prediction_alone() -> None:
    first, second = Thinning(), Thinning()
    feed(first, candidates=4, stable=1, times=100)
    second.restore(orjson.loads(orjson.dumps(first.to_json())))
    found = [
        [one.counts("all", 0.5, True, draw_of(key, decided_ns)) for key in range(20) for decided_ns in (5, 6)]
        for one in (first, second)
    ]
    assert found[0] == found[1]
    assert len(set(found[0][::2])) == 2 and found[0][::2] != found[0][1::2]
