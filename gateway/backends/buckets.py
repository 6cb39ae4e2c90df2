"""The batch sizes of a version on a GPU: a few, each prepared beforehand; smaller batches are padded to them.

A GPU prepares for every new shape: it searches algorithms, lays out memory and loads kernels. That takes up to a
second, for which the first request of that shape would wait.
"""

from bisect import bisect_left
from collections.abc import Sequence


def bucket_sizes(most: int) -> tuple[int, ...]:
    """The powers of two up to `most`, and `most` itself; `most` is at least one."""
    powers = [1 << exponent for exponent in range(most.bit_length())]
    return tuple(sorted({*powers, most}))


def bucket_for(rows: int, sizes: Sequence[int]) -> int:
    """The smallest size that holds `rows`, which must not exceed the largest."""
    return sizes[bisect_left(sizes, rows)]
