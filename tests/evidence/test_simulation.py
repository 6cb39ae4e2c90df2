"""Means in simulation: a small part of `python -m loadtests outcomes`, with its seeds."""

from collections.abc import Callable
from statistics import median
from typing import Any

import pytest

from loadtests import outcomes, sticky_outcomes
from loadtests.simulation import ALPHA, at_most

RUNS = 16
HARMFUL_RUNS = 60
SLOW_ONES = (sticky_outcomes.sticky, outcomes.later)  # of which fewer are run
HARMLESS: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    *((outcomes.bounded, (shape, chance)) for shape in outcomes.SHAPES for chance in ("0.05", "ramp")),
    (outcomes.many_rows, ()),
    (sticky_outcomes.sticky, (True,)),
    (outcomes.unequal, ()),
    (outcomes.routes, ()),
    (outcomes.turning, (True,)),
    (outcomes.turning, (False,)),
    (outcomes.later, (outcomes.LATER,)),
    (outcomes.truths, (2.0, 1.0)),
]
NAIVE: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
    (outcomes.rows_as_units, ()),
    (outcomes.routes, (False,)),
    (outcomes.later, (0,)),
]
HARMFUL: list[tuple[Callable[..., Any], tuple[Any, ...], int]] = [
    (outcomes.bounded, ("gauss", "0.05", 0.06), 1371),
    (outcomes.bounded, ("gauss", "0.1", 0.15), 250),
    (outcomes.truths, (0.5, 2.0), 2872),
]


def mistakes(simulate: Callable[..., Any], arguments: tuple[Any, ...]) -> int:
    return sum(simulate(seed, *arguments) is not None for seed in range(runs(simulate)))


def runs(simulate: Callable[..., Any]) -> int:
    return RUNS // 4 if simulate in SLOW_ONES else RUNS


@pytest.mark.parametrize(("simulate", "arguments"), HARMLESS)
def test_false_stops_are_within_alpha(simulate: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """A rate of alpha gives as many once in a thousand times or more often."""
    assert at_most(mistakes(simulate, arguments) - 1, runs(simulate), ALPHA) < 0.999


@pytest.mark.parametrize(
    ("given", "thinned"),
    [((0.8, 0.2, 0.2, 0.6, "0.5"), False), ((0.2, 0.8, 0.2, 0.6, "0.5", "zipf", "customers"), True)],
)
def test_one_way_of_counting_sticky_customers_is_not_enough(given: tuple[float | str, ...], thinned: bool) -> None:
    """Where feedback comes for fewer answers, or from fewer customers, and their levels go with how much they send."""
    found = [sticky_outcomes.volume_units(seed, *given) for seed in range(2)]  # type: ignore[arg-type]
    assert all(outcomes.stopped(new.thinned_units if thinned else new.first_units) is not None for new in found)
    assert all(outcomes.both_stopped(new) is None for new in found)


@pytest.mark.parametrize(("simulate", "arguments"), NAIVE)
def test_naive_counting_exceeds_alpha_in_the_same_simulation(
    simulate: Callable[..., Any], arguments: tuple[Any, ...]
) -> None:
    assert mistakes(simulate, arguments) > runs(simulate) / 5


@pytest.mark.parametrize(("simulate", "arguments", "expected"), HARMFUL)
def test_harmful_candidate_is_stopped_within_the_designed_number_of_outcomes(
    simulate: Callable[..., Any], arguments: tuple[Any, ...], expected: int
) -> None:
    found = [simulate(seed, *arguments) for seed in range(HARMFUL_RUNS)]
    assert median(outcomes.OUTCOMES if after is None else after for after in found) == pytest.approx(expected, rel=0.3)


@pytest.mark.parametrize("known", [True, False])
def test_interval_holds_the_difference_at_every_look_and_ends_clear_of_none(known: bool) -> None:
    held, clear = zip(*(outcomes.covers(seed, "ramp", 0.03, known) for seed in range(RUNS)), strict=True)
    assert 1 - at_most(RUNS - sum(held) - 1, RUNS, 0.05) > 0.001 and all(clear)
