"""The drift of a regression's numbers: found where the candidate predicts others, on bins fixed from stable's first."""

import json
from typing import Any

import numpy as np
import pytest

from gateway.control.guards.observation import ClassCounts
from gateway.control.guards.value_drift import FIRST_ROWS, ValueDrift
from gateway.records.value_bins import bin_of
from gateway.shm.tally import CLASSES

BOUNDS = (0.0, 100.0)
STEP = 50  # rows of each version between two ticks


def counted(numbers: Any) -> Any:
    return np.bincount([bin_of(number, BOUNDS) for number in numbers], minlength=CLASSES).astype(np.int64)


def log_e(seed: int, rows: int, shift: float, drift: ValueDrift | None = None) -> float:
    """The evidence after `rows` of both versions; the candidate's numbers are higher by `shift`."""
    generator = np.random.default_rng(seed)
    drift = drift or ValueDrift()
    candidate, stable = np.zeros((1, CLASSES), np.int64), np.zeros((1, CLASSES), np.int64)
    for _ in range(0, rows, STEP):
        stable[0] += counted(generator.normal(50, 10, STEP))
        candidate[0] += counted(generator.normal(50 + shift, 10, STEP))
        drift.observe(ClassCounts(candidate, stable))
    return drift.log_e


def test_shifted_numbers_are_found_and_equal_ones_are_not() -> None:
    assert all(log_e(seed, 4000, 5) > np.log(100) for seed in range(5))
    assert sum(log_e(seed, 4000, 0) > np.log(100) for seed in range(100)) <= 1


def test_nothing_is_evidence_before_the_bins_are_fixed() -> None:
    drift = ValueDrift()
    assert log_e(1, FIRST_ROWS - STEP, 40, drift) == 0
    assert drift.blocks == []


def test_bins_are_ten_at_most_and_each_quantile_is_about_as_full() -> None:
    drift = ValueDrift()
    log_e(1, 4000, 0, drift)
    (blocks,) = drift.blocks
    rows = sum(block.stable for block in blocks)
    assert 8 <= len(rows) <= 10
    assert max(rows[1:-1]) < 3 * min(rows[1:-1])


def test_one_number_only_leaves_bins_for_other_ones() -> None:
    drift = ValueDrift()
    stable = np.zeros((1, CLASSES), np.int64)
    stable[0, 30] = FIRST_ROWS
    drift.observe(ClassCounts(np.zeros_like(stable), stable.copy()))
    candidate = np.zeros_like(stable)
    candidate[0, 31], stable[0, 30] = 50, FIRST_ROWS + 50
    drift.observe(ClassCounts(candidate, stable.copy()))
    ((block,),) = drift.blocks
    assert (block.candidate.tolist(), block.stable.tolist()) == ([0, 0, 50], [0, 50, 0])


@pytest.mark.parametrize("after", [FIRST_ROWS - STEP, 2000])
def test_bins_and_evidence_outlast_a_restart_of_the_gateway(after: int) -> None:
    drift, again = ValueDrift(), ValueDrift()
    log_e(1, after, 5, drift)
    again.restore(json.loads(json.dumps(drift.to_json())))
    assert again.log_e == pytest.approx(drift.log_e)
    log_e(2, 2000, 5, drift)
    log_e(2, 2000, 5, again)
    if after > FIRST_ROWS:
        assert again.to_json()["starts"] == drift.to_json()["starts"]


def test_bins_stay_when_the_evidence_restarts() -> None:
    drift = ValueDrift()
    log_e(1, 2000, 5, drift)
    starts = drift.to_json()["starts"]
    drift.restart()
    assert (drift.log_e, drift.to_json()["starts"]) == (0, starts)
