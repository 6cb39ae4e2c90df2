"""Collects the items with the highest scores of all that are offered."""

import heapq
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class TopK(Generic[T]):
    """Collects the `limit` items with the highest score of all offered, one for each key; of equal scores the first."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._heap: list[tuple[float, int, bytes, T]] = []
        self._keys: set[bytes] = set()
        self._passed = 0

    def offer(self, score: float, key: Callable[[], bytes], make: Callable[[], T]) -> None:
        """Consider an item; `key` and `make` are called only if its score is high enough."""
        self._passed += 1
        if len(self._heap) == self._limit and score <= self._heap[0][0]:
            return
        found = key()
        if found in self._keys:
            return
        item = make()
        if len(self._heap) == self._limit:
            self._keys.discard(heapq.heappop(self._heap)[2])
        heapq.heappush(self._heap, (score, -self._passed, found, item))
        self._keys.add(found)

    def items(self) -> list[tuple[bytes, T]]:
        """Return the collected items with their keys, highest score first."""
        return [(key, item) for *_, key, item in sorted(self._heap, reverse=True, key=lambda entry: entry[:2])]
