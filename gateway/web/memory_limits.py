"""Limits what clients make a worker hold in memory: bodies until they are answered, answers until they are read.

Each has a limit for all connections of a worker together. Beyond it a connection is refused or cut off: of the address
whose connections hold most together, the one that holds most, so that no client can crowd out the others by the size or
the number of its requests. Unread answers have a time limit as well.

The limits are checked only if a body comes in several packets, if a client does not read as fast as it is answered, and
twice a second: a small request costs nothing.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.errors import Overloaded
from gateway.settings.gateway import LimitsSettings
from gateway.shm.scoreboard import SHED

CHECK_INTERVAL_S: Final = 0.5
MIN_READ_BYTES: Final = 65536  # bytes of an answer, or all of it, that a client must take within `limits.slow_reader`
_ACKED: Final = struct.Struct("=Q")
_ACKED_AT: Final = 120  # tcpi_bytes_acked in struct tcp_info
_TCP_INFO: Final = 128  # bytes of it


class LimitedConnection(Protocol):
    """A connection, as far as it is needed here."""

    client: Any
    transport: Any

    def received_bytes(self) -> int:
        """Bytes received of the body of a request that is not answered yet."""

    def refuse(self, error: Any) -> None:
        """Answer with `error`, and close."""

    def receiving(self) -> bool:
        """Whether more of the body is still expected."""


@dataclass(slots=True)
class _UnreadResponse:
    """`unsent` bytes at `since_s`, when the client had taken `acked` in all; `stalled`: none between two looks. `held`:
    the most that were unsent, all of which is in memory until the last of them is sent.
    """

    since_s: float
    acked: int
    unsent: int
    held: int
    looked_s: float
    last_acked: int
    stalled: bool = False


class MemoryLimits:
    """What one worker's connections hold. Lives on its event loop. `head`: the worker's words on the scoreboard."""

    def __init__(self, limits: LimitsSettings, max_body: int, head: "memoryview[int]") -> None:
        self._receiving = max(limits.receiving, max_body)
        self._unsent = limits.unsent
        self._within_s = limits.slow_reader
        self._head = head
        self._checking = False
        self._bodies: dict[LimitedConnection, int] = {}
        self._bodies_size = 0
        self._unread_responses: dict[LimitedConnection, _UnreadResponse] = {}

    def received(self, holder: LimitedConnection, size: int) -> None:
        """Note that the body that `holder` is receiving has grown to `size` bytes; refuses bodies beyond the limit."""
        self._bodies_size += size - self._bodies.get(holder, 0)
        self._bodies[holder] = size
        if self._bodies_size > self._receiving:
            self._forget_answered()
            self._refuse_bodies()

    def decompressed(self, holder: LimitedConnection, size: int) -> None:
        """Note that the holder's body has `size` bytes, decompressed; raises Overloaded if that is too much."""
        self.received(holder, size)
        if self._bodies_size > self._receiving:
            self._bodies_size -= self._bodies.pop(holder)
            self._head[SHED] += 1
            raise Overloaded(
                f"request bodies in memory exceed limits.receiving, {self._receiving} bytes; try again later"
            )

    def write_paused(self, holder: LimitedConnection, now_s: float) -> None:
        """Note that the holder's client does not read as fast as it is answered."""
        self._check_reader(holder, now_s)
        self._cut_off()

    def forget(self, holder: LimitedConnection) -> None:
        """Forget a connection that is closed."""
        self._bodies_size -= self._bodies.pop(holder, 0)
        self._unread_responses.pop(holder, None)

    def check(self, holders: Collection[LimitedConnection], now_s: float) -> None:
        """Cut off clients that read too slowly; forget bodies that were answered and answers that were read."""
        self._forget_answered()
        for holder in list(holders):
            self._check_reader(holder, now_s)
        self._cut_off()

    def check_regularly(self, holders: Collection[Any]) -> None:
        """Check `holders` twice a second from now on (see `check`)."""
        if not self._checking:
            self._checking = True
            self._check_again(holders)

    def _check_again(self, holders: Collection[Any]) -> None:
        loop = asyncio.get_running_loop()
        loop.call_later(CHECK_INTERVAL_S, self._check_again, holders)
        self.check(holders, loop.time())

    def _forget_answered(self) -> None:
        self._bodies = {holder: size for holder in self._bodies if (size := holder.received_bytes())}
        self._bodies_size = sum(self._bodies.values())

    def _refuse_bodies(self) -> None:
        while self._bodies_size > self._receiving:
            holder = _largest({each: size for each, size in self._bodies.items() if each.receiving()})
            if holder is None:
                return  # all are complete and being answered
            self._bodies_size -= self._bodies.pop(holder)
            self._head[SHED] += 1
            holder.refuse(
                Overloaded(
                    f"requests of {self._receiving} bytes are being received, which is limits.receiving, and this one"
                    " is among the largest; try again later"
                )
            )

    def _check_reader(self, holder: LimitedConnection, now_s: float) -> None:
        unsent: int = holder.transport.get_write_buffer_size()
        if not unsent:
            self._unread_responses.pop(holder, None)
            return
        acked = _acked(holder.transport)
        reading = self._unread_responses.get(holder)
        held = unsent if reading is None else max(reading.held, unsent)
        if reading is None or acked - reading.acked >= min(reading.unsent, MIN_READ_BYTES):
            self._unread_responses[holder] = _UnreadResponse(now_s, acked, unsent, held, now_s, acked)
            return
        reading.held = held
        if now_s - reading.looked_s >= CHECK_INTERVAL_S:
            reading.stalled = acked == reading.last_acked
            reading.looked_s, reading.last_acked = now_s, acked
        reading.unsent = max(reading.unsent, unsent)
        if now_s - reading.since_s > self._within_s:
            self._abort(holder)

    def _cut_off(self) -> None:
        sizes = {holder: reading.held for holder, reading in self._unread_responses.items()}
        total = sum(sizes.values())
        while total > self._unsent:
            readings = self._unread_responses
            stalled = {
                holder: size for holder, size in sizes.items() if holder in readings and readings[holder].stalled
            }
            holder = _largest(stalled or sizes)
            assert holder is not None, "a sum above zero has a part"
            total -= sizes.pop(holder)
            self._abort(holder)

    def _abort(self, holder: LimitedConnection) -> None:
        self._unread_responses.pop(holder, None)
        holder.transport.abort()


def _largest(sizes: dict[LimitedConnection, int]) -> LimitedConnection | None:
    """The connection that holds most, of the address that holds most."""
    if not sizes:
        return None
    by_address: Counter[str] = Counter()
    for holder, size in sizes.items():
        by_address[_address(holder)] += size
    ((address, _),) = by_address.most_common(1)
    return max((holder for holder in sizes if _address(holder) == address), key=sizes.__getitem__)


def _address(holder: LimitedConnection) -> str:
    return str(holder.client[0]) if holder.client else ""


def _acked(transport: Any) -> int:
    """How many bytes the client's system has acknowledged on the connection; 0 if this system does not tell."""
    try:
        info = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO)
        acked: int = _ACKED.unpack_from(info, _ACKED_AT)[0]
    except (OSError, AttributeError, struct.error):
        return 0
    return acked
