"""Means of rows in units: their standard errors are those of the units, however many rows these have."""

import math
from typing import Any

import numpy as np
import pytest

from gateway.offline.unit_means import NO_MEAN, Mean, Sums, difference, shrunk, smoothed


def sums(values: Any, units: Any = None, groups: Any = None, weights: Any = None, size: int = 1) -> Sums:
    count = len(values)
    return Sums(
        np.zeros(count, np.int64) if groups is None else np.array(groups),
        np.arange(count) if units is None else np.array(units),
        np.array(values, float),
        np.ones(count) if weights is None else np.array(weights, float),
        size,
    )


def test_mean_of_single_rows_is_the_textbooks() -> None:
    values = np.random.default_rng(1).normal(3, 2, 50)
    mean = sums(values).mean(0)
    assert mean.value == pytest.approx(values.mean())
    assert mean.error == pytest.approx(values.std(ddof=1) / math.sqrt(50))
    assert (mean.count, mean.units) == (50, 50)
    assert mean.low == pytest.approx(mean.value - 2.00958 * mean.error, rel=1e-5)


def test_copies_of_a_row_in_its_request_are_no_evidence() -> None:
    values = np.random.default_rng(2).normal(0, 1, 40)
    once = sums(values).mean(0)
    copied = sums(np.repeat(values, 7), units=np.repeat(np.arange(40), 7)).mean(0)
    assert (copied.value, copied.error) == (pytest.approx(once.value), pytest.approx(once.error))
    assert (copied.count, copied.units) == (280, 40)


def test_groups_and_their_rest_are_those_of_their_rows() -> None:
    values, groups = [1.0, 2.0, math.nan, 4.0, 8.0, 16.0], [0, 0, 0, 1, 1, -1]
    found = sums(values, groups=groups, size=3)
    assert (found.mean(0).value, found.rest(0).value, found.all().value) == (1.5, 6.0, 3.75)
    assert (found.mean(0).count, found.mean(2)) == (2, NO_MEAN)


def test_weights_undo_a_ramp_during_which_the_level_rose() -> None:
    """Losses are 1 while 10% go to the candidate and 2 while 50% do, for either version."""
    levels, shares = np.repeat([1.0, 2.0], 1000), np.repeat([0.1, 0.5], 1000)
    candidate = np.tile([True, *[False] * 9], 200) & (shares < 0.2) | np.tile([True, False], 1000) & (shares > 0.2)
    weights = 1 / np.where(candidate, shares, 1 - shares)
    found = sums(levels, groups=candidate.astype(np.int64), weights=weights, size=2)
    assert found.mean(0).value == pytest.approx(1.5)
    assert found.mean(1).value == pytest.approx(1.5)
    plain = sums(levels, groups=candidate.astype(np.int64), size=2)
    assert plain.mean(1).value > plain.mean(0).value + 0.2


def test_difference_has_welchs_degrees_of_freedom() -> None:
    found = difference(Mean(5.0, 1.0, 10, 10), Mean(2.0, 2.0, 20, 20))
    assert (found.value, found.error) == (3.0, pytest.approx(math.sqrt(5)))
    assert found.freedom == pytest.approx(25 / (1 / 9 + 16 / 19))
    assert found.p_greater() == pytest.approx(1 - found.p_greater(-1))
    assert found.p_two_sided() == pytest.approx(2 * found.p_greater())
    assert found.low < 0 < found.high


def test_ten_equal_values_are_no_certainty() -> None:
    everything = sums(np.random.default_rng(3).normal(0, 1, 1000)).all()
    equal = sums([0.3] * 10).mean(0)
    assert equal.error == pytest.approx(0, abs=1e-6)
    assert shrunk(equal, everything).error > 0.1
    assert difference(shrunk(equal, everything), everything).p_two_sided() > 0.01


def test_false_discoveries_of_heavy_tails_are_as_few_as_announced() -> None:
    """Slices of 15 of 3,000 log-normal losses: at most about 5% have p < 0.05."""
    generator = np.random.default_rng(4)
    hits = tested = 0
    for _ in range(20):
        found = sums(generator.lognormal(0, 1, 3000), groups=generator.integers(200, size=3000), size=200)
        everything = found.all()
        for group in range(200):
            if found.units[group] >= 10:
                apart = difference(shrunk(found.mean(group), everything), shrunk(found.rest(group), everything))
                hits += apart.p_greater() < 0.05
                tested += 1
    assert tested > 3000
    assert hits / tested < 0.06


def test_fifteen_right_answers_are_no_certainty() -> None:
    right = smoothed(sums([1.0] * 15).mean(0))
    assert right.value == pytest.approx(16 / 17) and right.low < 0.83 and (right.count, right.units) == (15, 15)
    assert smoothed(NO_MEAN) is NO_MEAN


def test_false_discoveries_of_shares_are_as_few_as_announced() -> None:
    """Fifteen units of one version beside 300 of the other, equally often wrong: at most about 5% have p < 0.05."""
    generator = np.random.default_rng(5)
    for rate in (0.1, 0.3):
        means = [[sums(generator.binomial(1, rate, size)).mean(0) for size in (15, 300)] for _ in range(2000)]
        hits = [difference(smoothed(few), smoothed(many)).p_two_sided() < 0.05 for few, many in means]
        assert np.mean(hits) < 0.06
        naive = [difference(few, many).p_two_sided() < 0.05 for few, many in means]
        assert rate > 0.1 or np.mean(naive) > 0.15
