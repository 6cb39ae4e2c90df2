"""The sticky split: a key always falls into the same bucket, and buckets below the weight go to the candidate.

So a rising weight only adds keys, a falling one removes those that were added last, and splits with different salts are
independent of each other.
"""

from typing import Final

import mmh3

BUCKETS: Final = 1_000_000  # one for each part per million of weight


def in_baseline(bucket: int, weight_ppm: int) -> bool:
    """Whether stable's answer in this bucket is compared by its latency: as large a share as the candidate's, or all
    that is left.
    """
    return weight_ppm <= bucket < 2 * weight_ppm


def chance_beside_baseline(weight_ppm: int) -> int:
    """The chance, in ppm, that a request which is the candidate's or the baseline's is the candidate's."""
    return weight_ppm * BUCKETS // (weight_ppm + min(weight_ppm, BUCKETS - weight_ppm)) if weight_ppm else 0


def bucket_of(salt: str, key: str | int) -> int:
    """The bucket of `key`, 0 to 999,999, by MurmurHash3 (x86, 32 bits)."""
    return (mmh3.hash(f"{salt}:{key}", signed=False) * BUCKETS) >> 32
