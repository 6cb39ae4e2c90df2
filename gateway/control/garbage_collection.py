"""Keeps full garbage collections, which visit every object, from blocking control's event loop.

With a hundred thousand customers one collection took a quarter of a second, during which no stop was processed. The
objects of a configuration live as long as it does and form no reference cycles, so reference counting frees them and
the collector need not visit them.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

LARGE: Final = 1 << 16  # bytes of a text; while a smaller one is read, cycles of other code are worth collecting


@contextlib.contextmanager
def without_collection(size: int = LARGE) -> Iterator[None]:
    """Disable the collector for the block, then exempt every object alive at its end, from any thread, from later
    collections. `size`: bytes of the text being read; below LARGE this does nothing.
    """
    if size < LARGE or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
