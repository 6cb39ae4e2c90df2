"""The sticky split: the design's reference values, and the properties that make a ramp safe."""

from math import sqrt

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.buckets import BUCKETS, bucket_of

KEYS = [f"customer-{index}" for index in range(20_000)]


@pytest.mark.parametrize(
    ("salt", "key", "hashed", "of_ten_thousand"),
    [
        ("exp-1", "user-42", 2702215334, 6291),
        ("exp-1", "user-43", 2509055124, 5841),
        ("exp-2", "user-42", 1877715193, 4371),
        ("résumé", "客户", 2843970635, 6621),
    ],
)
def test_bucket_of_reference_values(salt: str, key: str, hashed: int, of_ten_thousand: int) -> None:
    assert mmh3.hash(f"{salt}:{key}", signed=False) == hashed
    assert (hashed * 10_000) >> 32 == of_ten_thousand
    assert bucket_of(salt, key) == (hashed * 1_000_000) >> 32
    assert bucket_of(salt, key) // 100 == of_ten_thousand


@given(st.text(), st.text())
def test_bucket_is_one_of_a_million(salt: str, key: str) -> None:
    assert 0 <= bucket_of(salt, key) < BUCKETS


@pytest.mark.parametrize("percent", [0.1, 1, 5, 25, 50, 99])
def test_share_of_keys_equals_the_weight(percent: float) -> None:
    share = percent / 100
    found = sum(bucket_of("m-2", key) < share * BUCKETS for key in KEYS) / len(KEYS)
    assert abs(found - share) < 4 * sqrt(share * (1 - share) / len(KEYS))


def test_buckets_of_different_salts_are_independent() -> None:
    both = sum(bucket_of("a", key) < BUCKETS // 2 and bucket_of("b", key) < BUCKETS // 2 for key in KEYS) / len(KEYS)
    assert abs(both - 0.25) < 4 * sqrt(0.25 * 0.75 / len(KEYS))
