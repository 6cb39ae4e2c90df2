"""Failure events: failures and slow answers that workers report to control, as fixed-size records in a ring.

At most one event of each kind per request, under the variant that the request was assigned to. If stable fails too when
it rescues a request of the candidate, that is not counted for stable. A rescue because of a stop is not a failure.
"""

import struct
import zlib
from enum import StrEnum
from typing import Final, NamedTuple

_LAYOUT: Final = struct.Struct("<qiiiiB3xI")
_KEYLESS: Final = -1
_CANDIDATE: Final = 1
_SLOW: Final = 2
SIZE: Final = _LAYOUT.size
NO_ROUTE: Final = 0  # it is not known, as in events of an earlier gateway


class FailureKind(StrEnum):
    """The kind of event: no prediction was returned, or it took longer than the guard's threshold."""

    FAILURE = "failure"
    SLOW = "slow"


class FailureEvent(NamedTuple):
    """A failed or slow request of the release in `slot`, routed in `epoch` with a weight of `weight_ppm`.

    `time_ns` is since 1970. `candidate`: whether it was assigned to the candidate. `key`: bucket of its sticky key, 0
    to 999,999; None if it had none and was randomised on its own. `route`: the `route_id` of the one that took it.
    """

    time_ns: int
    slot: int
    epoch: int
    weight_ppm: int
    candidate: bool
    kind: FailureKind
    key: int | None
    route: int = NO_ROUTE

    def pack(self) -> bytes:
        """Pack the event into SIZE bytes."""
        flags = _CANDIDATE * self.candidate | _SLOW * (self.kind == FailureKind.SLOW)
        key = _KEYLESS if self.key is None else self.key
        return _LAYOUT.pack(self.time_ns, self.slot, self.epoch, self.weight_ppm, key, flags, self.route)


def route_id(name: str) -> int:
    """A route as 32 bits that mean the same on all hosts and after any edit, which a place in the list does not."""
    return zlib.crc32(name.encode())


def unpack_all(packed: bytes | bytearray | memoryview) -> list[FailureEvent]:
    """Unpack all events; raises ValueError if the length is not a multiple of SIZE."""
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
            route,
        )
        for time_ns, slot, epoch, weight_ppm, key, flags, route in _LAYOUT.iter_unpack(packed)
    ]
