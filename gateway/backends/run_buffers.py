"""Memory for the inputs of batches, allocated once and reserved for one run at a time."""

import math
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np

from gateway.backends.signature import Feeds
from gateway.protocol.tensors import Array

MAX_BYTES: Final = 256 * 1024**2  # that a version keeps: locked memory is lost to all others
Allocate = Callable[[tuple[int, ...], "np.dtype[np.generic]"], Array]
RowKinds = Mapping[
    str, tuple[tuple[int, ...], "np.dtype[np.generic]"]
]  # of each input: the shape of a row, and the dtype


class Buffers:
    """The inputs of one run, with at most `rows` rows."""

    __slots__ = ("arrays",)

    def __init__(self, kinds: RowKinds, rows: int, allocate: Allocate = np.empty) -> None:
        self.arrays = {name: allocate((rows, *shape), dtype) for name, (shape, dtype) in kinds.items()}

    def fill(self, parts: Sequence[Feeds], size: int) -> int:
        """Write the rows of all parts, repeat the last row up to `size` rows, and return the number of rows written.

        The padding repeats a row of the batch: it fails or takes long only if that row does, and shows no other
        request's data.
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
        """Views of the first `rows` rows of each input."""
        return {name: array[:rows] for name, array in self.arrays.items()}


class BufferPool:
    """`count` buffers of `rows` rows each, fewer if they would take more than MAX_BYTES. For any thread."""

    def __init__(self, kinds: RowKinds, rows: int, count: int, allocate: Allocate) -> None:
        self._kinds = kinds
        self._rows = rows
        each = rows * sum(math.prod(shape) * dtype.itemsize for shape, dtype in kinds.values())
        self._free = [Buffers(kinds, rows, allocate) for _ in range(min(count, MAX_BYTES // max(each, 1)))]
        self._lock = threading.Lock()

    @contextmanager
    def lent(self) -> Iterator[Buffers]:
        """Reserve buffers until the block ends, in whatever way; new ones if all are reserved."""
        with self._lock:
            kept = self._free.pop() if self._free else None
        try:
            yield kept or Buffers(self._kinds, self._rows)
        finally:
            if kept is not None:
                with self._lock:
                    self._free.append(kept)
