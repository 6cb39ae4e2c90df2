"""What threads of a worker are busy with, counted in one shared word: a process that is killed leaves it as it was."""

import threading


class Underway:
    """A context: `words[index]` is how many threads are inside. Several may enter the same one."""

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
