"""Evidence on its way from a worker to control: fixed-size events in a ring."""

import struct
from typing import Final, Literal, NamedTuple

Kind = Literal["failure", "slow"]
_KINDS: Final[tuple[Kind, ...]] = ("failure", "slow")
_EVENT: Final = struct.Struct("<qqqiBBxxq")
NO_KEY: Final = -1


class FailureEvent(NamedTuple):
    """A failure, or a slow answer, of a request that chance gave to its version. `time_ns` on the monotonic clock."""

    time_ns: int
    slot: int
    epoch: int
    weight_ppm: int
    candidate: bool
    kind: Kind
    key: int | None

    def pack(self) -> bytes:
        key = NO_KEY if self.key is None else self.key
        kind = _KINDS.index(self.kind)
        return _EVENT.pack(self.time_ns, self.slot, self.epoch, self.weight_ppm, self.candidate, kind, key)


def unpack_all(data: bytes) -> list[FailureEvent]:
    """The events in `data`, which holds whole ones only."""
    return [
        FailureEvent(time_ns, slot, epoch, weight, bool(candidate), _KINDS[kind], None if key == NO_KEY else key)
        for time_ns, slot, epoch, weight, candidate, kind, key in _EVENT.iter_unpack(data)
    ]
