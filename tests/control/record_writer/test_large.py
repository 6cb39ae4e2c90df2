"""Large records: what a second allows is recorded, the rest is counted, and small ones are never in question."""

import time

import pytest

from gateway.worker.recorder import TokenBucket


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The monotonic clock, in ns, to be set."""
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def test_a_second_brings_what_may_be_taken_and_no_more_waits(clock: list[int]) -> None:
    allowance = TokenBucket(100)
    assert [allowance.try_take(60), allowance.try_take(60), allowance.try_take(60)] == [True, True, False]
    clock[0] = 500_000_000
    assert [allowance.try_take(30), allowance.try_take(1)] == [True, False]
    clock[0] = 3_600_000_000_000
    assert [allowance.try_take(100), allowance.try_take(1)] == [True, False]


def test_one_larger_than_a_second_brings_is_taken_and_paid_for(clock: list[int]) -> None:
    allowance = TokenBucket(100)
    assert allowance.try_take(350)
    clock[0] = 2_500_000_000
    assert not allowance.try_take(1)
    clock[0] = 2_510_000_000
    assert allowance.try_take(1)
