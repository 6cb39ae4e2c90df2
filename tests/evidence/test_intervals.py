"""The interval of a difference of means: its formula step by step, and what makes it hold at all times."""

import math

import numpy as np
import orjson
import pytest

from gateway.evidence.differences import LATEST, Units, units
from gateway.evidence.intervals import FEWEST, EffectSums

UNIT = (0.0, 1.0)


def drawn(count: int, seed: int = 1) -> Units:
    generator = np.random.default_rng(seed)
    chances = np.repeat([0.05, 0.3], [count // 2, count - count // 2])
    candidate = generator.random(count) < chances
    return Units(generator.beta(1, 2, count) * (0.8 + 0.2 * candidate), candidate, chances)


def one_by_one(units: Units, alpha: float) -> tuple[float, float]:
    """The empirical Bernstein interval as it is written down."""
    m = 0.5
    spread = information = staked = stakes = low_cost = high_cost = weighted = weights = 0.0
    for i, (y, candidate, p) in enumerate(
        zip(units.values.tolist(), units.candidate.tolist(), units.chances.tolist(), strict=True), 1
    ):
        variance = (0.25 + spread) / i + 1e-6
        centre = min(max(weighted / weights, -1), 1) if weights else 0.0
        difference = (y - m) / p if candidate else -(y - m) / (1 - p)
        low = max(max(m / p, (1 - m) / (1 - p)) + centre, 1e-3)
        high = max(max((1 - m) / p, m / (1 - p)) - centre, 1e-3)
        information += p * (1 - p) / variance
        stake = p * (1 - p) / variance * math.sqrt(2 * math.log(2 / 0.05) / (information * math.log(1 + i)))
        stake = min(stake, 0.5 / max(low, high))
        low_cost += (-math.log(1 - stake * low) - stake * low) * (difference - centre) ** 2 / low**2
        high_cost += (-math.log(1 - stake * high) - stake * high) * (difference - centre) ** 2 / high**2
        stakes, staked = stakes + stake, staked + stake * difference
        weights, weighted = weights + p * (1 - p), weighted + p * (1 - p) * difference
        spread += (y - m) ** 2
        m += (y - m) / min(i + 1, LATEST)
    enough = math.log(2 / alpha)
    return (staked - low_cost - enough) / stakes, (staked + high_cost + enough) / stakes


@pytest.mark.parametrize("alpha", [0.05, 0.01])
@pytest.mark.parametrize("cuts", [(), (1, 2, 700)])
def test_interval_is_that_of_the_formula_however_outcomes_come_together(alpha: float, cuts: tuple[int, ...]) -> None:
    all_units, sums = drawn(2000), EffectSums(UNIT)
    for begin, end in zip((0, *cuts), (*cuts, 2000), strict=True):
        sums.add(all_units.part(slice(begin, end)))
        sums = EffectSums.from_json(UNIT, orjson.loads(orjson.dumps(sums.to_json())))
    assert sums.interval(alpha) == pytest.approx(one_by_one(all_units, alpha), rel=1e-9)


@pytest.mark.parametrize("chance", [0.01, 0.5, 0.9])
@pytest.mark.parametrize("past", [[], [0.0] * 20, [1.0] * 20, [0.2, 0.9] * 10])
@pytest.mark.parametrize("harm", [-0.3, 0.0, 0.4])
def test_no_stake_gains_on_average(chance: float, past: list[float], harm: float) -> None:
    """Why the interval holds: exp(stakes * (D - harm) - cost) has a mean of at most 1, for both directions."""
    sums = EffectSums(UNIT)
    sums.add(units(past, [index % 4 == 0 for index in range(len(past))], [chance] * len(past)))
    means = {True: 0.4 + harm, False: 0.4}
    gained = {"low": 0.0, "high": 0.0}
    for candidate, share in ((True, chance), (False, 1 - chance)):
        for value, odds in ((1.0, means[candidate]), (0.0, 1 - means[candidate])):
            later = EffectSums.from_json(UNIT, sums.to_json())
            later.add(units([value], [candidate], [chance]))
            gain = later.staked - sums.staked - (later.stakes - sums.stakes) * harm
            gained["low"] += share * odds * math.exp(gain - (later.cost_low - sums.cost_low))
            gained["high"] += share * odds * math.exp(-gain - (later.cost_high - sums.cost_high))
    assert 0.5 < gained["low"] <= 1 + 1e-12 and 0.5 < gained["high"] <= 1 + 1e-12


def test_range_only_changes_the_unit() -> None:
    plain, euros, all_units = EffectSums(UNIT), EffectSums((-50.0, 200.0)), drawn(500)
    plain.add(all_units)
    euros.add(Units(all_units.values * 200 - 50, all_units.candidate, all_units.chances))
    expected = plain.interval()
    assert expected is not None and plain.effect is not None
    assert euros.interval() == pytest.approx([bound * 200 for bound in expected])
    assert euros.effect == pytest.approx(plain.effect * 200)


def test_asymptotic_interval_does_not_depend_on_the_unit_or_the_level_of_outcomes() -> None:
    plain, other, all_units = EffectSums(None), EffectSums(None), drawn(4000)
    plain.add(all_units)
    other.add(Units(all_units.values * 1e4 + 1e6, all_units.candidate, all_units.chances))
    expected = plain.interval()
    assert expected is not None and expected[1] - expected[0] < 0.5
    assert other.interval() == pytest.approx([bound * 1e4 for bound in expected], rel=0.02)


def test_asymptotic_interval_is_that_of_its_boundary() -> None:
    """Arm means of many outcomes at even chances: the width of the boundary for their variance."""
    generator, count = np.random.default_rng(2), 40_000
    candidate = generator.random(count) < 0.5
    sums = EffectSums(None)
    sums.add(Units(generator.normal(10, 2, count), candidate, np.full(count, 0.5)))
    low, high = sums.interval() or (0, 0)
    t, rho2 = count / 4, (2 * math.log(20) + math.log(1 + 2 * math.log(20))) / 100
    expected = 2 * math.sqrt(2 * (t * rho2 + 1) / rho2 * math.log(math.sqrt(t * rho2 + 1) / 0.05)) / t
    assert (high - low) / 2 == pytest.approx(expected, rel=0.02)


@pytest.mark.parametrize(("scale", "few"), [(UNIT, 1), (None, FEWEST)])
def test_nothing_is_known_before_both_versions_have_outcomes(scale: tuple[float, float] | None, few: int) -> None:
    sums = EffectSums(scale)
    assert sums.interval() is None and sums.effect is None
    sums.add(units([0.5] * 300, [False] * 300, [0.3] * 300))
    assert sums.interval() is None and sums.effect is None
    sums.add(units([0.5] * (few - 1), [True] * (few - 1), [0.3] * (few - 1)))
    assert sums.interval() is None
    sums.add(units([0.4], [True], [0.3]))
    assert sums.interval() is not None and sums.effect is not None


def test_what_is_kept_does_not_change_with_what_comes() -> None:
    """It is written in a thread."""
    sums = EffectSums(UNIT)
    sums.add(drawn(50))
    kept = sums.to_json()
    before = orjson.dumps(kept)
    sums.add(drawn(60, seed=2))
    assert orjson.dumps(kept) == before != orjson.dumps(sums.to_json())
    again = EffectSums.from_json(UNIT, orjson.loads(before))
    again.add(drawn(60, seed=2))
    assert again == sums
