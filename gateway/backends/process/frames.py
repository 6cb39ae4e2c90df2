"""Frames on the Unix socket between a worker and a version's process: a length, then a JSON array or object."""

from collections.abc import Iterator
from typing import Any, Final

import orjson

LONGEST: Final = 1 << 26  # bytes; allows the description of a version with very many class labels
_LENGTH: Final = 4


class FrameError(Exception):
    """The data is not a frame of this protocol."""


def frame(message: Any) -> bytes:
    """The message as bytes to send."""
    body = orjson.dumps(message)
    return len(body).to_bytes(_LENGTH, "little") + body


class FrameReader:
    """Splits received bytes into messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        """Yield the messages completed by `data`. Raises FrameError."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= _LENGTH:
            start = at + _LENGTH
            stop = start + int.from_bytes(data[at:start], "little")
            if stop - start > LONGEST:
                raise FrameError(f"a frame of {stop - start} bytes is too long")
            if stop > end:
                break
            at = stop
            try:
                message = orjson.loads(data[start:stop])
            except orjson.JSONDecodeError as error:
                raise FrameError(str(error)) from None
            yield message
        self._rest = data[at:]
