"""The batch sizes that a version runs in on a GPU: few, each made ready beforehand, and smaller batches padded to them.

A GPU prepares for every new shape: algorithms are sought, memory is laid out, kernels are loaded. That takes up to a
second, which the request that brings the shape would wait for.
"""

from bisect import bisect_left
from collections.abc import Sequence


def bucket_sizes(most: int) -> tuple[int, ...]:
    """The powers of two up to `most`, and `most` itself: at least one."""
    powers = [1 << exponent for exponent in range(most.bit_length())]
    return tuple(sorted({*powers, most}))


def bucket_for(rows: int, sizes: Sequence[int]) -> int:
    """The smallest size that holds `rows`, which are no more than the largest."""
    return sizes[bisect_left(sizes, rows)]
