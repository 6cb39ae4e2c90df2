"""The rate limit on large records: a token bucket on a fake clock."""

import time

import pytest

from gateway.worker.recorder import TokenBucket


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A fake monotonic clock, in ns."""
    now = [0]
    monkeypatch.setattr(time, "monotonic_ns", lambda: now[0])
    return now


def test_token_bucket_refills_up_to_one_second(clock: list[int]) -> None:
    allowance = TokenBucket(100)
    assert [allowance.try_take(60), allowance.try_take(60), allowance.try_take(60)] == [True, True, False]
    clock[0] = 500_000_000
    assert [allowance.try_take(30), allowance.try_take(1)] == [True, False]
    clock[0] = 3_600_000_000_000
    assert [allowance.try_take(100), allowance.try_take(1)] == [True, False]


def test_token_bucket_takes_an_oversized_record_and_goes_into_debt(clock: list[int]) -> None:
    allowance = TokenBucket(100)
    assert allowance.try_take(350)
    clock[0] = 2_500_000_000
    assert not allowance.try_take(1)
    clock[0] = 2_510_000_000
    assert allowance.try_take(1)
