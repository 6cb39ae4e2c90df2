"""Makes standard output and the standard errors wait for a reader who is slow.

A starter, such as a program in Node, may hand over a pipe, socket or terminal that does not block: once it is full, a
write takes a part of the bytes or none, and Python loses the rest or fails. The flag belongs to all processes that have
the stream open, so that it is not ours to change, and any of them may set it at any time.
"""

import io
import select
import sys
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def wait_for_readers() -> None:
    """Call before anything is written. Streams that another program has put in their place stay as they are."""
    sys.stdout = _waiting(sys.stdout, sys.__stdout__)
    sys.stderr = _waiting(sys.stderr, sys.__stderr__)


class _WaitingFile(io.FileIO):
    def write(self, data: "ReadableBuffer", /) -> int:
        """Write all of `data`, waiting for room where there is none."""
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            written = super().write(left)
            if written is None:  # it would block, and does not
                select.select([], [self], [])
            else:
                left = left[written:]
        return size


def _waiting(stream: TextIO, original: TextIO | None) -> TextIO:
    if stream is not original or not isinstance(stream, io.TextIOWrapper):
        return stream
    stream.flush()
    raw = _WaitingFile(stream.fileno(), "wb", closefd=False)
    return io.TextIOWrapper(
        raw if stream.write_through else io.BufferedWriter(raw),  # as Python has it
        stream.encoding,
        stream.errors,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )
