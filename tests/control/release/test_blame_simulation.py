"""Simulated bad traffic: identical versions are not stopped by it, and a worse candidate still is."""

from statistics import median

import numpy as np
import pytest

from gateway.control.guards.evidence import reached
from gateway.control.guards.failure_counts import FailureCounts
from loadtests.blaming import LINE, WAYS, crossing, requests_to_stop, stopped_by_breaker, stopped_by_evidence
from loadtests.simulation import ALPHA

RUNS = 200


@pytest.mark.parametrize("way", WAYS)
def test_identical_candidate_is_not_stopped_by_bad_traffic(way: str) -> None:
    assert not any(stopped_by_breaker(seed, way) for seed in range(30))
    assert sum(stopped_by_evidence(seed, way) for seed in range(RUNS)) <= 2 * ALPHA * RUNS


def test_candidate_that_fails_on_good_inputs_too_is_stopped() -> None:
    found = [requests_to_stop(seed, 0.1, 0.05, 0.02, 200_000) for seed in range(40)]
    assert 10_000 < median(found) < 40_000  # 24,000 when the rule was designed
    assert max(found) < 200_000


def test_simulated_evidence_equals_that_of_failure_counts() -> None:
    generator = np.random.default_rng(3)
    candidates = generator.random(400) < 0.2
    ledger, found = FailureCounts(), None
    for number, candidate in enumerate(candidates.tolist()):
        ledger.add(100_000, candidate, None)
        if found is None and ledger.log_e >= LINE:
            found = number
    assert found is not None
    assert crossing(candidates, 0.1) == found
    assert reached(ledger.log_e, ALPHA)
