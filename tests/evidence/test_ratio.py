"""How many times as often: the interval against brute force, its coverage, verdicts, words and extremes."""

import math
import random

import pytest

from gateway.evidence.effect import EffectVerdict
from gateway.evidence.ratio import RatioLikelihood, ratio_effect

Rows = tuple[tuple[float, int, int], ...]


def log_likelihood(rows: Rows, ratio: float) -> float:
    """From the chance of each single event."""
    return sum(
        candidates * math.log(chance * ratio / (1 + chance * (ratio - 1)))
        + stables * math.log((1 - chance) / (1 + chance * (ratio - 1)))
        for chance, candidates, stables in rows
    )


def refuted(rows: Rows, ratio: float, alpha: float) -> bool:
    """By the likelihood averaged over a log-normal prior, on a fine grid from e^-9 to e^9."""
    step = 1 / 500
    averaged = math.fsum(
        step * math.exp(log_likelihood(rows, math.exp(x * step)) - (x * step) ** 2 / 2) / math.sqrt(2 * math.pi)
        for x in range(-4500, 4501)
    )
    return math.log(averaged) - log_likelihood(rows, ratio) > math.log(1 / alpha)


@pytest.mark.parametrize("rows", [((0.1, 3, 9),), ((0.5, 4, 30), (0.25, 1, 7)), ((0.05, 12, 40), (0.5, 30, 12))])
def test_the_interval_is_of_the_ratios_that_are_not_refuted(rows: Rows) -> None:
    ends = [math.exp(end) for end in RatioLikelihood(rows).interval(0.05)]
    for end, outwards in zip(ends, (0.99, 1.01), strict=True):
        assert refuted(rows, end * outwards, 0.05)
        assert not refuted(rows, end / outwards, 0.05)


@pytest.mark.parametrize("ratio", [0.4, 1.0, 3.0])
def test_the_interval_seldom_misses_the_ratio_at_any_look(ratio: float) -> None:
    missed, runs = 0, 150
    for run in range(runs):
        generator, counts = random.Random(run), {(p, of): 0 for p in (0.05, 0.5) for of in (False, True)}
        for number in range(1, 1025):
            chance = 0.05 if number < 200 else 0.5
            of = generator.random() < chance * ratio / (1 + chance * (ratio - 1))
            counts[chance, of] += 1
            if number.bit_count() > 1:
                continue
            rows = tuple((p, counts[p, True], counts[p, False]) for p in (0.05, 0.5))
            low, high = RatioLikelihood(rows).interval(0.05)
            if not low <= math.log(ratio) <= high:
                missed += 1
                break
    assert missed <= 0.05 * runs


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (((0.1, 10, 20),), "worse, 4.5 × (1.173 × to 14.54 ×, 0.95 at all times)"),
        (((0.5, 2, 60),), "better, 0.03333 × (0 × to 0.2552 ×, 0.95 at all times)"),
        (((0.5, 1000, 1000),), "no worse than 1.5 ×, 1 × (0.8553 × to 1.169 ×, 0.95 at all times)"),
        (((0.1, 2, 20),), "not known yet: about 425 failures more, 0.9 × (0.05822 × to 4.43 ×, 0.95 at all times)"),
    ],
)
def test_words(rows: Rows, words: str) -> None:
    found = ratio_effect(rows, "failures", "failures", 0.5)
    assert found.words == words
    assert (found.candidate_units, found.stable_units) == (rows[0][1], rows[0][2])


def test_events_of_one_version_alone_bound_the_ratio_on_one_side() -> None:
    worse = ratio_effect(((0.1, 50, 0),), "failures", "failures", 0.5)
    better = ratio_effect(((0.5, 0, 50),), "failures", "failures", 0.5)
    assert worse.low is not None and better.high is not None
    assert (worse.verdict, worse.low > 10, worse.high) == (EffectVerdict.WORSE, True, pytest.approx(999))
    assert (better.verdict, better.high < -0.7, better.low) == (EffectVerdict.BETTER, True, -1.0)


def test_the_forecast_is_about_right() -> None:
    """Failures that go on as they are tell after about as many more as it says."""
    found = ratio_effect(((0.2, 9, 20),), "failures", "failures", 0.5)
    assert found.verdict is EffectVerdict.UNKNOWN and found.more_units is not None
    times = (29 + found.more_units) / 29
    told = [
        ratio_effect(((0.2, round(9 * times * k), round(20 * times * k)),), "failures", "failures", 0.5).verdict
        for k in (0.5, 1.5)
    ]
    assert told == [EffectVerdict.UNKNOWN, EffectVerdict.WORSE]


def test_a_million_failures_are_as_exact_as_they_can_be() -> None:
    found = ratio_effect(((0.1, 100_000, 900_000),), "failures", "failures", 0.5)
    assert found.effect == pytest.approx(0, abs=1e-6)
    assert found.low is not None and found.high is not None
    assert -0.02 < found.low < 0 < found.high < 0.02


@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_sticky_keys_whose_first_failures_run_out_hide_no_ratio(ratio: float) -> None:
    """500 keys with two rates, on half of which the candidate's failures soon come from those that have failed."""
    missed, runs = 0, 40
    for run in range(runs):
        generator, failed = random.Random(run), set[int]()
        first, repeated = [0, 0], [0, 0]
        for _ in range(4000):
            key = generator.randrange(100 if generator.random() < 0.5 else 500)
            candidate = key % 4 == 0
            if generator.random() > 0.2 * (ratio if candidate else 1.0):
                continue
            (repeated if key in failed else first)[candidate] += 1
            failed.add(key)
            if (sum(first) + sum(repeated)) % 50:
                continue
            again = repeated[0], repeated[1]
            found = ratio_effect(((0.25, first[1], first[0]),), "failures", "failures", 0.5, again)
            assert found.low is not None and found.high is not None
            if not found.low <= ratio - 1 <= found.high:
                missed += 1
                break
    assert missed <= 0.05 * runs


def test_words_on_sticky_keys_that_have_failed_before() -> None:
    rows = ((0.5, 1000, 1000),)
    assert ratio_effect(rows, "failures", "failures", 0.5, (100, 100)).verdict is EffectVerdict.NO_WORSE
    found = ratio_effect(rows, "failures", "failures", 0.5, (1000, 3000))
    assert found.words == (
        "not known yet: no end in sight, 2 × (0.4276 × to 4.677 ×, 0.95 at all times),"
        " 4,000 more of sticky keys that had one before do not count"
    )
    assert ratio_effect(((0.1, 10, 20),), "failures", "failures", 0.5, (900, 10)).verdict is EffectVerdict.WORSE


def test_a_candidate_that_fails_few_keys_always_is_not_called_better() -> None:
    """Of 1,000 keys of each with 20 requests: stable fails 200 of 180 keys, the candidate 1,000 of 50 keys."""
    rows = ((0.5, 50, 180),)
    assert ratio_effect(rows, "failures", "failures", 0.5).verdict is EffectVerdict.BETTER
    found = ratio_effect(rows, "failures", "failures", 0.5, (20, 950))
    assert found.verdict is EffectVerdict.UNKNOWN
    assert found.low is not None and found.high is not None
    assert found.effect == pytest.approx(4.0) and found.low < 4 < found.high
