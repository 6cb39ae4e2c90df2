"""Memory for the inputs of batches, made once, and lent to one run at a time."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from gateway.backends.signature import Feeds
from gateway.protocol.tensors import Array

MAX_BYTES: Final = 256 * 1024**2  # that a version keeps: memory that is locked is no one else's
Allocate = Callable[[tuple[int, ...], "np.dtype[np.generic]"], Array]
RowKinds = Mapping[str, tuple[tuple[int, ...], "np.dtype[np.generic]"]]  # of each input: one row's shape, the type


class Buffers:
    """The inputs of one run, of `rows` at most."""

    __slots__ = ("arrays",)

    def __init__(self, kinds: RowKinds, rows: int, allocate: Allocate = np.empty) -> None:
        self.arrays = {name: allocate((rows, *shape), dtype) for name, (shape, dtype) in kinds.items()}

    def fill(self, parts: Sequence[Feeds], size: int) -> int:
        """Write the rows of all parts one after the other, and repeat the last row up to `size` rows.

        A repeated row fails where it fails alone, is never slower than it, and is no one else's. Returns how many rows
        there were.
        """
        rows = 0
        for name, array in self.arrays.items():
            rows = 0
            for part in parts:
                source = part[name]
                end = rows + len(source)
                array[rows:end] = source
                rows = end
            array[rows:size] = array[rows - 1]
        return rows

    def first(self, rows: int) -> Feeds:
        """The first `rows` of each input, in place."""
        return {name: array[:rows] for name, array in self.arrays.items()}


class BufferPool:
    """`count` buffers for `rows` rows each, and fewer where they would take more than MAX_BYTES. Any thread."""

    def __init__(self, kinds: RowKinds, rows: int, count: int, allocate: Allocate) -> None:
        self._kinds = kinds
        self._rows = rows
        each = rows * sum(math.prod(shape) * dtype.itemsize for shape, dtype in kinds.values())
        self._free = [Buffers(kinds, rows, allocate) for _ in range(min(count, MAX_BYTES // max(each, 1)))]
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[Buffers]:
        """Buffers that are no one else's until the block ends, however it ends; new ones where all are lent."""
        with self._lock:
            kept = self._free.pop() if self._free else None
        try:
            yield kept or Buffers(self._kinds, self._rows)
        finally:
            if kept is not None:
                with self._lock:
                    self._free.append(kept)
