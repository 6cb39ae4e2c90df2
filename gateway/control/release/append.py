"""Appends whole lines to an append-only file, and never extends a line that a full disk or a crash has torn."""

import contextlib
import os
from pathlib import Path


def append(path: Path, lines: bytes) -> None:
    """Append whole lines, after a newline if the file ends in a torn line. On OSError, which is raised, what was
    already written is cut off again.
    """
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
        with contextlib.suppress(OSError):  # if this fails too, the next append ends the torn line
            os.ftruncate(file, size)
        raise
