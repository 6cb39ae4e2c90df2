"""The guards in simulated releases: a small part of `python -m loadtests guards`, with its seeds."""

from collections.abc import Callable
from statistics import median

import pytest

from loadtests.depletion import (
    Case,
    failures_until_safe,
    firsts_until_safe,
    worse_called_safe,
    worse_called_safe_by_firsts,
    worse_called_safe_in_a_ramp,
)
from loadtests.restarts import better_stopped_by_firsts, harmless_stopped
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


def test_candidates_that_fail_half_as_often_again_are_called_safe_within_alpha_though_customers_run_out() -> None:
    assert is_explained_by_alpha(worse_called_safe)


def test_the_same_by_first_failures_alone_exceeds_alpha() -> None:
    assert not is_explained_by_alpha(worse_called_safe_by_firsts)


def test_customers_who_have_failed_at_an_earlier_weight_do_not_make_a_worse_candidate_safe() -> None:
    assert is_explained_by_alpha(worse_called_safe_in_a_ramp)


def test_candidates_that_fail_no_more_often_are_stopped_within_alpha_however_the_evidence_restarts() -> None:
    assert is_explained_by_alpha(harmless_stopped)


def test_if_customers_were_known_from_before_a_restart_a_better_candidate_would_be_stopped() -> None:
    assert not is_explained_by_alpha(better_stopped_by_firsts)


@pytest.mark.parametrize("weight", [0.1, 0.5])
def test_harmless_candidate_with_many_customers_is_called_safe_as_soon_as_by_first_failures(weight: float) -> None:
    case = Case(customers=20_000, weight=weight, ratio=1.0)
    found, firsts = (
        median(until(seed, case, 3000) or 3000 for seed in range(20))
        for until in (failures_until_safe, firsts_until_safe)
    )
    assert found <= 1.25 * firsts < 3000


def test_retries_do_not_keep_a_harmless_candidate_from_being_called_safe() -> None:
    """Three failures at a time. If all of stable's counted, it would seem 1.44 times as bad."""
    case = Case(customers=20_000, weight=0.5, ratio=1.0, retries=2)
    assert all(failures_until_safe(seed, case, 3000) for seed in range(10))


def test_customers_whose_pages_all_fail_in_part_do_not_make_a_far_worse_candidate_safe() -> None:
    """Of ten requests sent at once two fail with stable, six with the candidate: nearly all customers fail."""
    case = Case(weight=0.3, ratio=3.0, rate=0.2, at_once=10)
    assert not any(failures_until_safe(seed, case, 12_000) for seed in range(10))


@pytest.mark.parametrize("broken", ["candidate", "stable"])
def test_customer_whose_every_request_fails_does_not_keep_a_harmless_candidate_from_being_called_safe(
    broken: str,
) -> None:
    one, none = (
        [failures_until_safe(seed, Case(customers=20_000, ratio=1.0, broken=which), 8000) for seed in range(12)]
        for which in (broken, "")
    )
    assert None not in (*one, *none)


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
