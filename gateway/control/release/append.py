"""Adds whole lines to a file that is only ever added to: what a full disk or a crash leaves of one ends there."""

import contextlib
import os
from pathlib import Path


def append(path: Path, lines: bytes) -> None:
    """Add whole lines, never to a torn one. What a disk takes of them before it is full is cut off. Raises OSError."""
    with path.open("a+b", 0) as opened:
        file = opened.fileno()
        size = os.fstat(file).st_size
        torn = size > 0 and os.pread(file, 1, size - 1) != b"\n"
        _write(file, b"\n" + lines if torn else lines, size)


def _write(file: int, content: bytes, size: int) -> None:
    left = memoryview(content)
    try:
        while left:
            left = left[os.write(file, left) :]
    except OSError:
        with contextlib.suppress(OSError):  # else the next one ends the torn line
            os.ftruncate(file, size)
        raise
