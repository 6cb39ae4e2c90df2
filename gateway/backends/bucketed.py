"""Runs a version in a few batch sizes, from memory that is allocated once, to keep a GPU busy.

Requests' rows are written straight into the memory that the device reads; a batch is padded to the next size, and the
results of the padding are cut off. With two runs at once, one batch is written while the other is computed.

The inputs are passed to each run instead of being bound once: ONNX Runtime copies an input to the device when it is
bound, so a kept binding would go on answering the first batch. Outputs are allocated by each run: if they were bound to
reused memory, a late write by a run that was ended would appear in another request's answer.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final

import numpy as np
from onnxruntime import RunOptions

from gateway.backends.buckets import bucket_for
from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.run_buffers import Allocate, BufferPool, Buffers, RowKinds
from gateway.backends.signature import Feeds
from gateway.protocol.tensors import DATATYPES

NUMBERS: Final = "biuf"


class PaddedBatch(dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.generic]]"]):
    """The inputs of a batch in reserved buffers. `padded`: the same, padded to the batch size."""

    __slots__ = ("padded",)

    def __init__(self, buffers: Buffers, parts: Sequence[Feeds], size: int) -> None:
        super().__init__(buffers.first(buffers.fill(parts, size)))
        self.padded = buffers.first(size)


class BucketedRunner:
    """Runs a version whose rows are independent; `concurrency` batches run at once.

    `sessions`: by batch size; the largest size is that of the largest batch. `kinds`: see `row_kinds`. `run` and `join`
    may be called in any thread.
    """

    def __init__(
        self, sessions: Mapping[int, OnnxSession], kinds: RowKinds, concurrency: int, allocate: Allocate = np.empty
    ) -> None:
        self.sizes = tuple(sorted(sessions))
        self.concurrency = concurrency
        self._sessions = sessions
        self._names = kinds.keys()
        self._pool = BufferPool(kinds, self.sizes[-1], concurrency, allocate)

    @contextmanager
    def join(self, parts: Sequence[Feeds]) -> Iterator[Feeds]:
        """The rows of all parts, no more than the largest size, for one run within the block."""
        size = bucket_for(sum(len(next(iter(part.values()))) for part in parts), self.sizes)
        with self._pool.lent() as buffers:
            yield PaddedBatch(buffers, parts, size)

    def run(self, feeds: Feeds, options: RunOptions | None = None) -> list[Result]:
        """As the session's `run`; each output has as many rows as the inputs."""
        if isinstance(feeds, PaddedBatch):
            return self._padded(feeds, options)
        rows = self._rows(feeds)
        if not 0 < rows <= self.sizes[-1] or rows in self.sizes:
            return self._sessions.get(rows, self._sessions[self.sizes[0]]).run(feeds, options)
        with self.join([feeds]) as gathered:
            return self.run(gathered, options)

    def _rows(self, feeds: Feeds) -> int:
        """The number of rows of each input; 0 if they differ, or if there are other inputs."""
        if feeds.keys() != self._names:
            return 0
        first, *others = (len(array) for array in feeds.values())
        return first if all(rows == first for rows in others) else 0

    def _padded(self, gathered: PaddedBatch, options: RunOptions | None) -> list[Result]:
        padded = gathered.padded
        rows, size = (len(next(iter(feeds.values()))) for feeds in (gathered, padded))
        return [_detached(_cut(result, rows, size), padded) for result in self._sessions[size].run(padded, options)]


def _cut(result: Result, rows: int, size: int) -> Result:
    return result[:rows] if result is not None and rows < size and result.shape[:1] == (size,) else result


def _detached(result: Result, lent: Feeds) -> Result:
    """A copy if the result shares memory with the buffers, which the next run writes to."""
    if result is not None and any(np.may_share_memory(result, array) for array in lent.values()):
        return result.copy()
    return result


def row_kinds(session: OnnxSession) -> RowKinds | None:
    """The shape of one row and the type of each input; None if they are not fixed, or hold text."""
    kinds = {}
    for spec in session.signature.inputs:
        shape = session.dimensions.get(spec.name)
        dtype = DATATYPES[spec.datatype].dtype
        if not shape or isinstance(shape[0], int) or dtype.kind not in NUMBERS:
            return None
        row = tuple(size for size in shape[1:] if isinstance(size, int))
        if len(row) < len(shape) - 1:
            return None
        kinds[spec.name] = (row, dtype)
    return kinds or None
