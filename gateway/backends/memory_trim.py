"""Returns memory to the system after loads: their large batches leave megabytes that no small request needs.

ONNX Runtime keeps a run's memory in the session's arena, and the C library keeps freed memory. With a thousand models
these are gigabytes in each worker. A session's arena is shrunk at the end of a run, and the library is told to trim.
"""

import contextlib
import ctypes
from collections.abc import Callable
from typing import Any, Final

import onnxruntime

from gateway.backends.onnx import OnnxSession
from gateway.backends.signature import Feeds

SHRINK: Final = "memory.enable_memory_arena_shrinkage"
CPU_ARENA: Final = "cpu:0"
LOADS_PER_TRIM: Final = 16  # loads between two trims; a trim takes a few milliseconds


def shrink(session: OnnxSession, row: Feeds) -> None:
    """Shrink the session's arena to the needs of a run on `row`, which must run. Without an arena: nothing."""
    if not row or not session.on_cpu():
        return
    options = onnxruntime.RunOptions()
    options.add_run_config_entry(SHRINK, CPU_ARENA)
    with contextlib.suppress(Exception):  # the session runs as before
        session.run(row, options)


def _c_library() -> Callable[[int], int] | None:
    """glibc's malloc_trim; None if the C library has none."""
    try:
        trim: Any = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError):
        return None
    trim.argtypes, trim.restype = [ctypes.c_size_t], ctypes.c_int
    return trim  # type: ignore[no-any-return]


_TRIM: Final = _c_library()


class Trimmer:
    """Call `after_load` after each load, in its thread: it trims now and then; `trim` after a series of loads."""

    def __init__(self) -> None:
        self._loads = 0

    def after_load(self) -> None:
        self._loads += 1
        if self._loads >= LOADS_PER_TRIM:
            self.trim()

    def trim(self) -> None:
        """Return the C library's free memory to the system."""
        if self._loads and _TRIM is not None:
            _TRIM(0)
        self._loads = 0
