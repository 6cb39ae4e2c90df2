"""Drift of predicted classes: evidence blocks made from counters."""

import numpy as np
import pytest

from gateway.control.guards.drift import MIN_BLOCK, Drift, blocks_from_json, blocks_to_json
from gateway.control.guards.evidence import log_drift
from gateway.control.guards.observation import ClassCounts

ROUTES, CLASSES = 2, 3


class Traffic:
    """Random predictions of two routes, as growing counters."""

    def __init__(self, stable: list[float], candidate: list[float]) -> None:
        self._generator = np.random.default_rng(0)
        self._shares = stable, candidate
        self._counts = np.zeros((2, ROUTES, CLASSES), np.int64)

    def more(self, rows: int, share: float = 0.1) -> ClassCounts:
        for route in range(ROUTES):
            to_candidate = self._generator.binomial(rows, share)
            self._counts[0, route] += self._generator.multinomial(to_candidate, self._shares[1])
            self._counts[1, route] += self._generator.multinomial(rows - to_candidate, self._shares[0])
        return ClassCounts(self._counts[0].copy(), self._counts[1].copy())


def observed(traffic: Traffic, ticks: int, rows: int = 40) -> Drift:
    drift = Drift()
    for _ in range(ticks):
        drift.observe(traffic.more(rows))
    return drift


def test_drift_is_detected_for_different_shares_only() -> None:
    assert observed(Traffic([0.5, 0.3, 0.2], [0.3, 0.3, 0.4]), 400).log_e > 20
    assert observed(Traffic([0.5, 0.3, 0.2], [0.5, 0.3, 0.2]), 400).log_e < 2


def test_rows_counted_before_the_first_observation_are_ignored() -> None:
    traffic = Traffic([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    drift = Drift()
    drift.observe(traffic.more(10_000))
    assert drift.log_e == 0
    assert not any(drift.blocks)


def test_blocks_contain_every_row_and_stay_few() -> None:
    traffic = Traffic([0.5, 0.3, 0.2], [0.5, 0.3, 0.2])
    drift = observed(traffic, 5000)
    for blocks in drift.blocks:
        assert len(blocks) < 120
        assert all(min(block.candidate.sum(), block.stable.sum()) >= MIN_BLOCK for block in blocks)
    rows = sum(int(block.candidate.sum() + block.stable.sum()) for blocks in drift.blocks for block in blocks)
    assert 0.9 * 2 * 4999 * 40 <= rows <= 2 * 4999 * 40


def test_evidence_can_be_recomputed_from_the_blocks() -> None:
    drift = observed(Traffic([0.5, 0.3, 0.2], [0.4, 0.3, 0.3]), 200)
    kept = blocks_from_json(blocks_to_json(drift.blocks))
    assert sum(log_drift(blocks) for blocks in kept) == pytest.approx(drift.log_e)


def test_restart_begins_with_the_next_counters() -> None:
    traffic = Traffic([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    drift = observed(traffic, 100)
    drift.restart()
    assert drift.log_e == 0
    drift.observe(traffic.more(1000))
    assert drift.log_e == 0
    assert not any(drift.blocks)
    for _ in range(2):  # the first block only teaches what to foretell
        drift.observe(traffic.more(1000))
    assert drift.log_e > 0


def test_drift_is_restored_from_json_and_ignores_old_counters() -> None:
    drift, restored = observed(Traffic([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]), 20), Drift()
    restored.restore(drift.to_json())
    assert restored.log_e == pytest.approx(drift.log_e)
    traffic = Traffic([0.8, 0.1, 0.1], [0.1, 0.1, 0.8])
    restored.observe(traffic.more(5))
    assert restored.log_e == pytest.approx(drift.log_e)
    restored.observe(traffic.more(1000))
    assert restored.log_e > drift.log_e


def test_counters_of_another_shape_restart_the_evidence() -> None:
    drift = observed(Traffic([0.8, 0.1, 0.1], [0.1, 0.1, 0.8]), 50)
    drift.observe(ClassCounts(np.zeros((1, 5), np.int64), np.zeros((1, 5), np.int64)))
    assert drift.log_e == 0
