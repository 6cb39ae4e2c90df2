"""Failure counts: what a sticky key contributes to the evidence, and that it contributes no more."""

import json
import math
import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.guards.evidence import FAILURE_RATIOS, log_harm, log_safety
from gateway.control.guards.failure_counts import FailureCounts, attributed, rows
from gateway.evidence.key_pairs import SEALED
from gateway.routing.buckets import BUCKETS

WEIGHTS = st.lists(st.integers(0, BUCKETS), min_size=1, max_size=20)


def test_request_without_a_key_counts_by_its_weight() -> None:
    ledger = FailureCounts()
    for candidate in (True, False, False):
        ledger.add(100_000, candidate, None)
    assert rows(ledger.counts) == [(0.1, 1, 2)]
    assert ledger.log_e == log_harm({(0.1, True): 1, (0.1, False): 2}, FAILURE_RATIOS)


def test_traffic_at_weight_0_or_100_is_ignored() -> None:
    ledger = FailureCounts()
    for key in (None, 5):
        ledger.add(0, False, key)
        ledger.add(BUCKETS, True, key)
    assert not ledger.counts


def test_at_one_weight_only_the_first_failure_of_a_key_counts() -> None:
    ledger = FailureCounts()
    for _ in range(20):
        ledger.add(100_000, True, 5)
        ledger.add(100_000, False, 999_999)
    assert rows(ledger.counts) == [(0.1, 1, 1)]


def test_a_key_is_evidence_once_whatever_the_weight_and_in_the_epoch_by_its_remaining_chance() -> None:
    ledger = FailureCounts()
    ledger.add(100_000, False, 150_000)  # so its bucket is one of the upper 900,000
    ledger.add(200_000, True, 150_000)  # and 100,000 of them have joined the candidate
    ledger.add(500_000, True, 150_000)  # now it has long been the candidate's
    ledger.add(120_000, False, 150_000)  # and falls back by the chance of 80,000 in 100,000
    assert rows(ledger.counts) == [(0.1, 0, 1)]
    remaining = [(0.1, 0, 1), (pytest.approx(1 / 9), 1, 0), (pytest.approx(0.2), 0, 1)]
    assert rows(ledger.of_epoch.counts) == remaining


def test_key_that_counts_once_in_the_epoch_does_not_after_a_weight_change() -> None:
    ledger, restored = FailureCounts(once=True), FailureCounts(once=True)
    ledger.add(500_000, False, 150_000)
    restored.restore(ledger.to_json())
    for one in (ledger, restored):
        one.restart()
        one.add(750_000, True, 150_000)
        one.add(750_000, True, 160_000)
        assert rows(one.of_epoch.counts) == [(0.5, 0, 1), (0.75, 1, 0)]
        assert rows(one.counts) == [(0.75, 2, 0)]


def test_failures_of_keys_that_are_no_evidence_are_counted_apart() -> None:
    ledger, restored = FailureCounts(), FailureCounts()
    for weight_ppm, candidate, key in [(100_000, True, 5), (100_000, True, 5), (200_000, True, 5), (0, False, 9)]:
        ledger.add(weight_ppm, candidate, key)
    ledger.add(100_000, False, 999_999)
    ledger.add(100_000, False, 999_999)
    ledger.restart()
    restored.restore(ledger.to_json())
    assert ledger.of_epoch.repeated == restored.of_epoch.repeated == [1, 2]
    ledger.reset()
    assert ledger.of_epoch.repeated == [0, 0]


def test_those_of_the_epoch_go_on_after_a_restart_and_in_another_process() -> None:
    ledger = FailureCounts()
    ledger.add(100_000, True, None)
    ledger.restart()
    ledger.add(200_000, False, None)
    restored = FailureCounts()
    restored.restore(ledger.to_json())
    for one in (ledger, restored):
        assert (rows(one.counts), rows(one.of_epoch.counts)) == ([(0.2, 0, 1)], [(0.1, 1, 0), (0.2, 0, 1)])
    restored.reset()
    assert not restored.of_epoch.counts
    earlier = ledger.to_json()
    del earlier["of_epoch"]
    restored.restore(earlier)
    assert rows(restored.of_epoch.counts) == [(0.2, 0, 1)]


def test_a_restart_forgets_keys_and_keeps_those_of_the_epoch() -> None:
    ledger, restored = FailureCounts(), FailureCounts()
    for _ in range(2):
        ledger.restart()
        ledger.add(100_000, True, 5)
        restored.restore(ledger.to_json())
        for one in (ledger, restored):
            one.add(100_000, True, 5)
            assert (rows(one.counts), rows(one.of_epoch.counts)) == ([(0.1, 1, 0)], [(0.1, 1, 0)])
    ledger.reset()
    ledger.add(100_000, True, 6)
    ledger.add(100_000, True, 5)
    assert rows(ledger.counts) == rows(ledger.of_epoch.counts) == [(0.1, 2, 0)]


def test_candidate_whose_keys_fail_later_is_no_worse_after_a_restart() -> None:
    """Of the keys that fail for the first time since before it, all are the candidate's."""
    ledger, keys = FailureCounts(), range(0, BUCKETS, 2000)
    for key in keys:
        if key >= 100_000:
            ledger.add(100_000, False, key)
    ledger.restart()
    for key in reversed(keys):
        ledger.add(100_000, key < 100_000, key)
    assert rows(ledger.counts) == [(0.1, 50, 450)]
    assert ledger.log_e < 0


@given(WEIGHTS, st.integers(2, 6))
def test_key_adds_no_evidence_on_average_at_any_weights(weights: list[int], parts: int) -> None:
    """Exactly: over every bucket that the weights distinguish, for a customer who fails at each weight."""
    edges = sorted({0, BUCKETS, *weights})
    mean = 0.0
    for low, high in pairwise(edges):
        ledger = FailureCounts((2.0,))
        for weight in weights:
            ledger.add(weight, low < weight, 1)
            if weight % parts == 0:
                ledger.add(weight, low < weight, 1)
        mean += (high - low) / BUCKETS * math.exp(ledger.log_e)
    assert mean == pytest.approx(1.0)


@given(st.lists(st.tuples(st.sampled_from((50_000, 250_000, 500_000, 900_000)), st.booleans()), max_size=12))
def test_key_adds_no_evidence_on_average_if_the_candidate_is_spared_some_of_its_failures(
    failures: list[tuple[int, bool]],
) -> None:
    """Exactly, as above. Each time stable would fail, and of both versions the candidate may not: on several routes,
    or at weights that rise and fall.
    """
    mean, edges = 0.0, (0, 50_000, 250_000, 500_000, 900_000, BUCKETS)
    for low, high in pairwise(edges):
        ledger = FailureCounts((2.0,))
        for weight, spared in failures:
            if not (candidate := low < weight) or not spared:
                ledger.add(weight, candidate, 1)
        mean += (high - low) / BUCKETS * math.exp(ledger.log_e)
    assert mean < 1 + 1e-9


def test_keys_count_once_for_harm_and_each_time_for_safety_and_anew_after_a_restart() -> None:
    ledger = FailureCounts()
    for _ in range(2):
        ledger.restart()
        ledger.add(100_000, True, 5)
        ledger.add(100_000, True, 5)
        for key in range(30):
            ledger.add(100_000, False, 900_000 + key)
        ledger.add(100_000, False, None)
    assert rows(ledger.counts) == [(0.1, 1, 31)]
    assert ledger.log_safe == log_safety({(0.1, False): 1}, {(0.1, True, 2): 1, (0.1, False, 1): 30}) > 0
    assert not ledger.is_empty
    ledger.restart()
    assert ledger.is_empty and ledger.log_safe == 0


def test_evidence_of_safety_from_keys_stays_at_its_height_as_they_run_out() -> None:
    ledger = FailureCounts()
    for key in range(100):
        ledger.add(500_000, False, 900_000 + key)
    highest = ledger.log_safe
    assert highest == log_safety({}, {(0.5, False, 1): 100}) > 0
    assert not ledger.runs_out
    for key in range(100):
        ledger.add(500_000, True, key)
    restored = FailureCounts()
    restored.restore(json.loads(json.dumps(ledger.to_json())))
    for one in (ledger, restored):
        assert (one.log_safe, one.safest[1], one.runs_out) == (highest, {(0.5, False, 1): 100}, True)
        one.restart()
        assert (one.log_safe, one.runs_out) == (0, False)


def test_evidence_of_safety_without_keys_falls_with_later_failures() -> None:
    ledger = FailureCounts()
    for _ in range(100):
        ledger.add(500_000, False, None)
    highest = ledger.log_safe
    for _ in range(100):
        ledger.add(500_000, True, None)
    assert ledger.log_safe == log_safety({(0.5, False): 100, (0.5, True): 100}) < highest
    assert not ledger.runs_out


def test_state_that_does_not_say_which_keys_have_failed_starts_the_evidence_anew() -> None:
    ledger, restored = FailureCounts(), FailureCounts()
    ledger.add(100_000, False, 900_000)
    counted_otherwise = {
        "keyless": [],
        "failed": {"keys": [[100_000, 0, [900_000]]], "count": [[100_000, 0, 1]], "bursts": [], "later": []},
        "safest": [[], [[0.1, 0, 100]]],
    }
    earlier = {name: value for name, value in ledger.to_json().items() if name != "safety"}
    restored.restore({**earlier, **counted_otherwise})
    assert (restored.log_e, restored.log_safe, restored.is_empty) == (0, 0, True)
    restored.add(100_000, False, 900_000)
    assert rows(restored.counts) == [(0.1, 0, 1)]
    assert restored.log_safe == log_safety({}, {(0.1, False, 1): 1})
    assert (rows(restored.of_epoch.counts), restored.of_epoch.repeated) == ([(0.1, 0, 1)], [1, 0])


def test_state_of_a_gateway_that_knew_keys_from_before_a_restart_goes_on() -> None:
    """It counted key 5 before the restart, and then its first failure at 20% by what was open: not at all."""
    earlier = {
        "counts": [[0.2, False, 1]],
        "of_epoch": [[0.1, True, 1], [0.2, False, 1]],
        "repeated": [0, 1],
        "routes": {},
        "known": [[0, 100_000, [5]], [200_000, BUCKETS, [900_000]]],
        "safety": {
            "keyless": [],
            "failed": {
                "keys": [[200_000, 1, [5]], [200_000, -1, [900_000]]],
                "count": [[200_000, 1, 1], [200_000, -1, 1]],
            },
            "safest": [[], []],
        },
    }
    ledger = FailureCounts()
    ledger.restore(earlier)
    ledger.add(200_000, True, 5)
    ledger.add(200_000, False, 900_000)
    ledger.add(200_000, True, 6)
    assert rows(ledger.counts) == [(0.2, 1, 1)]
    assert (rows(ledger.of_epoch.counts), ledger.of_epoch.repeated) == ([(0.1, 1, 0), (0.2, 1, 1)], [1, 2])


def test_state_names_few_of_many_keys_one_by_one() -> None:
    """Else control would be held up each time that it is kept."""
    ledger = FailureCounts()
    for key in range(5 * SEALED):
        ledger.add(500_000, key % 2 == 0, key)
    state = ledger.to_json()
    for kept in (state["known"], state["safety"]["failed"]["keys"]):
        assert sum(len(keys) for *_, keys in kept if not isinstance(keys, str)) < SEALED
        assert sum(isinstance(keys, str) for *_, keys in kept) >= 5


def test_failure_counts_are_restored_from_json() -> None:
    generator = random.Random(0)
    ledger, restored = FailureCounts(), FailureCounts()
    for _ in range(500):
        weight = generator.choice((1_000, 50_000, 500_000))
        key = generator.randrange(BUCKETS)
        ledger.add(weight, key < weight, generator.choice((None, key)))
    restored.restore(ledger.to_json())
    again = FailureCounts()
    again.restore(restored.to_json())
    assert again.to_json() == restored.to_json()
    changing = {"known": (), "safety": ()}  # their keys are packed in another order
    assert {**again.to_json(), **changing} == {**ledger.to_json(), **changing}
    assert (restored.log_e, restored.log_safe) == (ledger.log_e, ledger.log_safe)
    assert attributed(rows(ledger.counts)) == {
        (chance, candidate): ledger.counts.get((chance, candidate), 0)
        for chance, _ in ledger.counts
        for candidate in (True, False)
    }
