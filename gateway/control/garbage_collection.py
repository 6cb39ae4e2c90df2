"""Keeps the garbage collector from holding up control's loop: it looks at every object that there is, all at once.

With a hundred thousand customers that took a quarter of a second, in which no stop was heard. What a configuration is
made of lives as long as that does and holds no cycles: it need not be looked at, and goes by reference counts.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

LARGE: Final = 1 << 16  # bytes of a text; what others leave in cycles while a smaller one is read is worth collecting


@contextlib.contextmanager
def put_aside(size: int = LARGE) -> Iterator[None]:
    """What is made meanwhile, by all threads, and still there at the end is never looked at again. `size`: of what is
    read, in bytes: where that is little, nothing is done.
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
