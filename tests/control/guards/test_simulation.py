"""The guards in simulated releases: a small part of `python -m loadtests guards`, with its seeds."""

from collections.abc import Callable
from statistics import median

import pytest

from loadtests.simulation import (
    ALPHA,
    at_most,
    called_safe,
    drifting,
    failures_to_stop,
    naive,
    plain,
    ramping,
    sticky,
    together,
    upper_limit,
)
from loadtests.spread import added_up, spread

RUNS = 60


@pytest.mark.parametrize("simulate", [plain, sticky, ramping, together, drifting, called_safe])
def test_false_alarms_are_within_alpha(simulate: Callable[[int], bool]) -> None:
    assert is_explained_by_alpha(simulate)


@pytest.mark.slow
def test_false_alarms_of_a_fleet_whose_hosts_share_failing_customers_are_within_alpha() -> None:
    assert is_explained_by_alpha(spread)


@pytest.mark.slow
def test_counts_of_hosts_that_each_count_a_customer_once_must_not_be_added() -> None:
    assert not is_explained_by_alpha(added_up)


def test_naive_guard_exceeds_alpha_in_the_same_simulation() -> None:
    assert not is_explained_by_alpha(naive)


def is_explained_by_alpha(simulate: Callable[[int], bool]) -> bool:
    """Whether a rate of alpha would give as many mistakes once in a thousand times or more often."""
    mistakes = sum(simulate(seed) for seed in range(RUNS))
    return at_most(mistakes - 1, RUNS, ALPHA) < 0.999


@pytest.mark.parametrize(
    ("share", "ratio", "failures", "requests"), [(0.05, 5, 31, 2_600), (0.1, 5, 20, 1_400), (0.5, 10, 14, 255)]
)
def test_harmful_candidate_is_stopped_within_the_designed_number_of_failures(
    share: float, ratio: float, failures: int, requests: int
) -> None:
    found = [failures_to_stop(seed, share, ratio, 4 * failures) for seed in range(RUNS)]
    assert median(stopped for stopped, _ in found) == pytest.approx(failures, rel=0.2)
    assert median(asked for _, asked in found) == pytest.approx(requests, rel=0.2)


@pytest.mark.parametrize(("hits", "runs", "expected"), [(0, 100, 0.029513), (5, 100, 0.102253), (100, 100, 1.0)])
def test_upper_limit_of_a_rate(hits: int, runs: int, expected: float) -> None:
    assert upper_limit(hits, runs) == pytest.approx(expected, abs=1e-5)
