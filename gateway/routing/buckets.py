"""The sticky split: a key always falls into the same bucket, and buckets below the weight go to the candidate.

So a rising weight only adds keys, a falling one removes those that were added last, and splits with different salts are
independent of each other.
"""

from typing import Final

import mmh3

BUCKETS: Final = 1_000_000  # one for each part per million of weight


def bucket_of(salt: str, key: str | int) -> int:
    """The bucket of `key`, 0 to 999,999, by MurmurHash3 (x86, 32 bits)."""
    return (mmh3.hash(f"{salt}:{key}", signed=False) * BUCKETS) >> 32
