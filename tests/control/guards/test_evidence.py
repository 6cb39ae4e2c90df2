"""The e-processes: the design's reference values, and the properties that make them valid at any stopping time."""

import math
from collections import Counter
from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.guards.evidence import (
    FAILURE_RATIOS,
    FEEDBACK_RATIOS,
    PAIRED_SHARE,
    Block,
    alpha_of,
    log_combined,
    log_drift,
    log_drift_of,
    log_harm,
    log_safety,
    reached,
)

COUNTS = st.dictionaries(st.tuples(st.floats(0.001, 0.999), st.booleans()), st.integers(0, 10_000), max_size=8)


def counted(chance: float, candidate: int, stable: int) -> dict[tuple[float, bool], int]:
    return {(chance, True): candidate, (chance, False): stable}


def test_log_harm_of_failures_one_by_one() -> None:
    seen: Counter[tuple[float, bool]] = Counter()
    found = []
    for candidate in (1, 1, 0, 1, 0, 1, 1, 1):
        seen[0.1, bool(candidate)] += 1
        found.append(math.exp(log_harm(seen, FAILURE_RATIOS)))
    expected = [2.91627, 10.41051, 6.76948, 26.10674, 16.41808, 67.10019, 300.96299, 1430.78196]
    assert found == pytest.approx(expected, rel=1e-5)


def test_log_harm_of_failures_under_a_ramp() -> None:
    first = counted(0.05, 3, 2)
    assert math.exp(log_harm(first, FAILURE_RATIOS)) == pytest.approx(46.45270, rel=1e-6)
    assert math.exp(log_harm(first | counted(0.25, 6, 4), FAILURE_RATIOS)) == pytest.approx(443.73206, rel=1e-6)


def test_log_harm_of_feedback_pairs() -> None:
    assert math.exp(log_harm(counted(PAIRED_SHARE, 14, 6), FEEDBACK_RATIOS)) == pytest.approx(3.28834, rel=1e-5)


def test_log_safety_reference_value() -> None:
    assert math.exp(log_safety(counted(0.1, 40, 380))) == pytest.approx(49.91988, rel=1e-6)


def test_log_safety_of_keys_is_the_mean_over_which_failures_count() -> None:
    """By enumeration: a key counts by its first failure that does. Either all of stable's count and two of three of the
    candidate's, or one of four and one of six.
    """
    stables, candidates = (1, 1, 2), (1, 2, 3)
    expected = 0.0
    for ratio, (some, number) in product((0.7, 0.85, 1.0), ((1, 1), (1, 4))):
        less = ratio / 1.5
        factor = 1 / (1 + 0.1 * (less - 1))
        counting = {
            False: [True] * some + [False] * (number - some),
            True: [True] * 2 * some + [False] * (3 * number - 2 * some),
        }
        means = [
            np.mean(
                [
                    factor * (less if candidate else 1) if any(which) else 1
                    for which in product(counting[candidate], repeat=failures)
                ]
            )
            for candidate, keys in ((False, stables), (True, candidates))
            for failures in keys
        ]
        expected += math.prod(means) / 6
    keys = {(0.1, False, 1): 2, (0.1, False, 2): 1, (0.1, True, 1): 1, (0.1, True, 2): 1, (0.1, True, 3): 1}
    assert math.exp(log_safety({}, keys)) == pytest.approx(expected)


def test_log_safety_of_requests_and_of_keys_multiply_at_each_ratio() -> None:
    expected = 0.0
    for ratio in (0.7, 0.85, 1.0):
        less = ratio / 1.5
        requests = (less**3) * ((1 + 0.2 * 0.5) / (1 + 0.2 * (ratio - 1))) ** 33
        stable = 1 / (1 + 0.1 * (less - 1))
        keys = stable**40 * (1 / 9 + 8 / 9 * less * stable) ** 2
        expected += requests * keys / 3
    found = log_safety(counted(0.2, 3, 30), {(0.1, False, 1): 40, (0.1, True, 2): 2}, (1.0,))
    assert math.exp(found) == pytest.approx(expected)


@given(
    st.floats(0.001, 0.999), st.floats(0.0, 0.6), st.integers(1, 40), st.floats(1.0, 1.6), st.floats(0.01, 1.0),
    st.integers(1, 4),
)  # fmt: skip
def test_log_safety_does_not_rise_on_average_however_much_a_key_has_failed(
    chance: float, rate: float, requests: int, more: float, share: float, tries: int
) -> None:
    """Exactly, over the version that a customer gets and the number of its requests that fail, each tried again some
    times in vain.
    """
    ratio = min(1.5 * more, 1 / max(rate, 1e-9))
    if ratio < 1.5:
        return
    mean = 0.0
    for candidate, drawn, failing in ((False, 1 - chance, rate), (True, chance, rate * ratio)):
        for failures in range(requests + 1):
            likely = math.comb(requests, failures) * failing**failures * (1 - failing) ** (requests - failures)
            keys = {(chance, candidate, failures * tries): 1} if failures else {}
            mean += drawn * likely * math.exp(log_safety({}, keys, (share,)))
    assert mean <= 1 + 1e-9
    assert ratio > 1.5 or tries > 1 or mean == pytest.approx(1)


def test_log_drift_reference_values() -> None:
    rows = [
        ((6, 3, 1), (50, 30, 20)),
        ((3, 3, 4), (52, 29, 19)),
        ((2, 4, 4), (49, 31, 20)),
        ((2, 3, 5), (51, 30, 19)),
        ((3, 2, 5), (48, 32, 20)),
        ((1, 4, 5), (50, 30, 20)),
    ]
    blocks = [block(*pair) for pair in rows]
    found = [log_drift(blocks[:n]) for n in range(1, 7)]
    assert found == pytest.approx([0, -0.790142, 0.017361, 1.698375, 3.127961, 5.614917], abs=1e-6)


def test_log_combined_of_several_guards() -> None:
    log_e = log_combined([math.log(e) for e in (3.2, 0.7, 180)], (0.5, 0.25, 0.25))
    assert math.exp(log_e) == pytest.approx(46.775)
    assert reached(log_e, 0.05) and not reached(log_e, 0.01)


def test_alpha_of_restarts_sums_to_alpha() -> None:
    parts = [alpha_of(0.01, restart) for restart in range(1, 100_000)]
    assert parts == sorted(parts, reverse=True)
    assert 0.00999 < sum(parts) < 0.01


@given(COUNTS)
def test_log_harm_is_additive_over_counts(counts: dict[tuple[float, bool], int]) -> None:
    whole = log_harm(counts, (2.0,))
    parts = sum(log_harm({key: count}, (2.0,)) for key, count in counts.items())
    assert whole == pytest.approx(parts, abs=1e-6)


@given(st.floats(0.001, 0.999), st.floats(0.01, 1.0))
def test_log_harm_does_not_rise_on_average_for_a_harmless_candidate(chance: float, ratio: float) -> None:
    odds = chance * ratio / (chance * ratio + 1 - chance)
    factors = [math.exp(log_harm({(chance, candidate): 1}, FAILURE_RATIOS)) for candidate in (True, False)]
    assert odds * factors[0] + (1 - odds) * factors[1] <= 1 + 1e-9


@given(st.floats(0.001, 0.999), st.floats(1.5, 50.0))
def test_log_safety_does_not_rise_on_average_for_a_harmful_candidate(chance: float, ratio: float) -> None:
    odds = chance * ratio / (chance * ratio + 1 - chance)
    factors = [math.exp(log_safety({(chance, candidate): 1})) for candidate in (True, False)]
    assert odds * factors[0] + (1 - odds) * factors[1] <= 1 + 1e-9


@given(st.lists(st.integers(0, 50), min_size=3, max_size=3), st.lists(st.integers(0, 50), min_size=3, max_size=3))
def test_log_drift_does_not_rise_on_average_for_equal_predictions(candidate: list[int], stable: list[int]) -> None:
    """Exactly, over every outcome of a block of two rows of the candidate and one of stable."""
    before = block(candidate, stable)
    for shares in ((0.2, 0.3, 0.5), (0.9, 0.05, 0.05)):
        mean = 0.0
        for first in range(3):
            for second in range(3):
                for third in range(3):
                    drawn = block(np.bincount([first, second], minlength=3), np.bincount([third], minlength=3))
                    mean += shares[first] * shares[second] * shares[third] * math.exp(log_drift_of(drawn, before))
        assert mean <= 1 + 1e-9


def test_without_evidence_the_e_value_is_one() -> None:
    assert log_harm({}, FAILURE_RATIOS) == log_safety({}) == log_drift([]) == 0
    assert log_drift([block((0, 0), (0, 0))]) == 0
    assert log_combined([], []) == -math.inf


def test_extreme_evidence_does_not_overflow() -> None:
    assert log_harm(counted(0.01, 10**7, 0), FAILURE_RATIOS) > 1e7
    assert log_safety(counted(0.5, 0, 10**7)) > 1e6


def block(candidate: Sequence[int] | np.ndarray, stable: Sequence[int] | np.ndarray) -> Block:
    return Block(np.array(candidate, np.int64), np.array(stable, np.int64))
