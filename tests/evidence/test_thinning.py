"""Of a version whose sticky customers give feedback more often, fewer outcomes count."""

from collections import Counter

import orjson
import pytest

from gateway.evidence.thinning import PRIOR, Thinning, draw_of


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
    assert feed(Thinning(), candidates=1, stable=0, times=int(PRIOR)) == {True: int(PRIOR)}


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
