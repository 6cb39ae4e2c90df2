"""Keeps garbage collections from blocking control's event loop, on which a stop waits.

With a hundred thousand customers one full collection took a quarter of a second. The objects of a configuration live as
long as it does and form no reference cycles, so reference counting frees them and the collector need not visit them.
What is left is collected between control's ticks instead of whenever enough objects have been made: beside a hundred
readers of the control plane the interpreter's own collections of up to 5 ms came amid stops, and one took 14 ms.
"""

import contextlib
import gc
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

LARGE: Final = 1 << 16  # bytes of a text; while a smaller one is read, cycles of other code are worth collecting
MIDDLE_INTERVAL_S: Final = 0.2  # between collections of the middle generation
FULL_INTERVAL_S: Final = 60.0  # between full ones
_lock: Final = threading.Lock()
_without: Final[list[bool]] = []  # for each block without collections: whether the interpreter collects after it


@contextlib.contextmanager
def without_collection(size: int = LARGE) -> Iterator[None]:
    """Disable collections for the block, then exempt every object alive at its end, from any thread, from later
    ones. `size`: bytes of the text being read; below LARGE this does nothing.
    """
    if size < LARGE:
        yield
        return
    with _lock:
        automatic = _without[0] if _without else gc.isenabled()
        _without.append(automatic)
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _without.pop()
            if not _without:
                gc.freeze()
                if automatic:
                    gc.enable()


class PacedCollector:
    """Collects garbage when `step` is called, which must be often: from its creation on the interpreter does not
    collect by itself. `clock`: in s.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._middle_s = self._full_s = clock()
        gc.disable()

    def step(self) -> None:
        """Collect the youngest objects, or more if it is time; nothing within `without_collection`."""
        if _without:
            return
        now_s = self._clock()
        if now_s - self._full_s >= FULL_INTERVAL_S:
            self._full_s = self._middle_s = now_s
            gc.collect(2)
        elif now_s - self._middle_s >= MIDDLE_INTERVAL_S:
            self._middle_s = now_s
            gc.collect(1)
        else:
            gc.collect(0)
