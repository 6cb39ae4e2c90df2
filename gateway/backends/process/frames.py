"""Frames on the Unix socket between a worker and a version's process: length, kind, number of the call, payload."""

import struct
from collections.abc import Iterator
from typing import Final

LONGEST: Final = 1 << 26  # bytes; allows the description of a version with very many class labels
_HEAD: Final = struct.Struct("<IBQ")  # the length counts what follows it
_LENGTH: Final = 4
_SHORTEST: Final = _HEAD.size - _LENGTH
Frame = tuple[int, int, bytes]  # kind, number, payload


class FrameError(Exception):
    """The data is not a frame of this protocol."""


def frame(kind: int, number: int, payload: bytes = b"") -> bytes:
    """The bytes to send."""
    return _HEAD.pack(_SHORTEST + len(payload), kind, number) + payload


class FrameReader:
    """Splits received bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    @property
    def amid_frame(self) -> bool:
        """Whether the last bytes are the beginning of a frame."""
        return bool(self._rest)

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Yield the frames completed by `data`. Raises FrameError."""
        data = self._rest + data if self._rest else data
        at, end = 0, len(data)
        while end - at >= _HEAD.size:
            length, kind, number = _HEAD.unpack_from(data, at)
            if not _SHORTEST <= length <= LONGEST:
                raise FrameError(f"a frame cannot have {length} bytes")
            stop = at + _LENGTH + length
            if stop > end:
                break
            payload = data[at + _HEAD.size : stop]
            at = stop
            yield kind, number, payload
        self._rest = data[at:]
