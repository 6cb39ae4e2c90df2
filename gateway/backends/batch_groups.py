"""Which requests of a version may share a batch."""

from collections.abc import Hashable
from typing import Final

from gateway.backends.signature import Feeds

UNBATCHED: Final = object()  # the group of items that share no batch
ALONE: Final = object()  # the group of items of which one runs while no other item does
Group = Hashable


class BatchGroups:
    """The groups of one version. `uniform`: all dimensions but the first are fixed, so that any requests may share a
    batch. `inputs`: the most that a request without overridden weights has; None: it can override none.
    """

    __slots__ = ("_inputs", "_max_rows", "_uniform")

    def __init__(self, max_rows: int, uniform: bool, inputs: int | None) -> None:
        self._max_rows = max_rows
        self._uniform = uniform
        self._inputs = inputs

    def of(self, feeds: Feeds) -> tuple[int, Group]:
        """The number of rows, and the group. Requests with unequal or too many rows run alone."""
        if self._max_rows == 1:
            return 1, UNBATCHED
        arrays = list(feeds.values())
        rows = len(arrays[0])
        if self._inputs is not None and len(arrays) > self._inputs:
            return rows, UNBATCHED
        if not 0 < rows < self._max_rows or (len(arrays) > 1 and any(len(array) != rows for array in arrays)):
            return rows, UNBATCHED
        if self._uniform:
            return rows, None
        return rows, tuple((name, array.shape[1:], array.dtype.kind) for name, array in sorted(feeds.items()))
