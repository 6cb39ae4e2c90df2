"""Failures and slow answers as workers tell control of them: fixed-size records for a ring of bytes.

One event of each kind for a request at most, under the variant that it was drawn for. A failure that stable repeats in
a rescue is none of stable's: the request was the candidate's. A rescue because of a stop is no failure.
"""

import struct
from enum import StrEnum
from typing import Final, NamedTuple

_LAYOUT: Final = struct.Struct("<qiiiiB7x")
_KEYLESS: Final = -1
_CANDIDATE: Final = 1
_SLOW: Final = 2
SIZE: Final = _LAYOUT.size


class FailureKind(StrEnum):
    """What has happened: no answer with a prediction, or one beyond the guard's threshold."""

    FAILURE = "failure"
    SLOW = "slow"


class FailureEvent(NamedTuple):
    """One request of a release in `slot`, decided in `epoch` by a weight of `weight_ppm`.

    `time_ns` is since 1970. `key` is the bucket of the request's sticky key, 0 to 999,999; None where it had none, and
    was drawn on its own.
    """

    time_ns: int
    slot: int
    epoch: int
    weight_ppm: int
    candidate: bool
    kind: FailureKind
    key: int | None

    def pack(self) -> bytes:
        """SIZE bytes."""
        flags = _CANDIDATE * self.candidate | _SLOW * (self.kind == FailureKind.SLOW)
        key = _KEYLESS if self.key is None else self.key
        return _LAYOUT.pack(self.time_ns, self.slot, self.epoch, self.weight_ppm, key, flags)


def unpack_all(packed: bytes | bytearray | memoryview) -> list[FailureEvent]:
    """The events in `packed`, whole ones only; raises ValueError where the last is cut off."""
    if len(packed) % SIZE:
        raise ValueError(f"events take {SIZE} bytes each; {len(packed)} bytes are no whole number of them")
    return [
        FailureEvent(
            time_ns,
            slot,
            epoch,
            weight_ppm,
            bool(flags & _CANDIDATE),
            FailureKind.SLOW if flags & _SLOW else FailureKind.FAILURE,
            None if key == _KEYLESS else key,
        )
        for time_ns, slot, epoch, weight_ppm, key, flags in _LAYOUT.iter_unpack(packed)
    ]
