"""Counts a worker's threads inside a section of code, in a shared word that keeps its value if the process dies."""

import threading


class Underway:
    """A context manager: `words[index]` is the number of threads inside. Several threads may share one."""

    __slots__ = ("_index", "_lock", "_words")

    def __init__(self, words: "memoryview[int]", index: int) -> None:
        self._words = words
        self._index = index
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._words[self._index] += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._words[self._index] -= 1
