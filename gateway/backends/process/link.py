"""One connection from a worker to a version's process: messages, and the memory for the process's answers."""

import asyncio
import contextlib
import logging
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Final, cast

import orjson

from gateway.backends.process.frames import FrameError, FrameReader, frame
from gateway.backends.process.protocol import ALONE, CALL, CALL_HEAD, COUNT, GREETING, RETURN
from gateway.backends.process.start import REFUSAL
from gateway.backends.process.tensors import TensorReader
from gateway.backends.process.when_idle import WhenIdle
from gateway.errors import ModelUnavailable
from gateway.shm.arena import Arena, ArenaError, ArenaView

HURRY_NS: Final = 20_000_000  # a call with less time left is sent at once
RETURN_WITHIN_S: Final = 0.02  # unless a call tells it sooner
_CREDENTIALS: Final = struct.Struct("3i")  # process, user and group of the other side
MAX_REFUSAL: Final = 1 << 16  # bytes
HELLO: Final = b"\x01"  # sent with the descriptor of the sender's memory
VIOLATIONS: Final = (
    FrameError, ArenaError, struct.error, ValueError, TypeError, KeyError, IndexError,
)  # fmt: skip
Received = Callable[[int, int, bytes], None]
log: Final = logging.getLogger("gateway.backends")


class Link(asyncio.Protocol):
    """The worker's end of a connection. `memory`: the memory that the process writes answers to. `received` is called
    with each frame, `lost` once when the connection has ended; then `alone` is the number of the call that was alone in
    the process, 0 if none was, and `held` are the numbers of the calls that were never sent.
    """

    def __init__(self, memory: ArenaView, received: Received, lost: Callable[["Link"], None]) -> None:
        self.memory = memory
        self.answers = TensorReader(memory)
        self.alone = 0
        self.held: list[int] = []
        self.greeted: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._received = received
        self._lost = lost
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._read = 0  # answers, since the connection was made
        self._told = 0  # how many of them the process knows to be read
        self._returning: asyncio.TimerHandle | None = None
        self._unsent: list[bytes] = []
        self._when_idle = WhenIdle()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Pass each frame on. A violation of the protocol closes the connection, as a crash would."""
        try:
            for kind, number, payload in self._reader.feed(data):
                if self.greeted.done():
                    self._received(kind, number, payload)
                else:
                    self.greeted.set_result(_description(kind, payload))
        except VIOLATIONS as error:
            log.error("the process of a version violates the protocol, and its connection is closed: %r", error)
            self.close()

    def connection_lost(self, error: Exception | None) -> None:
        with contextlib.suppress(ArenaError, OSError):
            (self.alone,) = ALONE.unpack(self.memory.read(0, ALONE.size))
        self.memory.close()
        if not self.greeted.done():
            self.greeted.set_exception(ConnectionResetError("it ended before it had loaded the version"))
            self.greeted.exception()  # retrieved: the task that waited may have ended
        elif not self.greeted.cancelled():
            self._lost(self)

    def call(self, number: int, deadline_ns: int, offset: int, layout: bytes, *, alone: bool) -> None:
        """Send a call as soon as the loop has nothing else to do, with all others of that time: each message wakes the
        process, which on a busy core costs as much as ten calls.
        """
        self._told = self._read
        self.held.append(number)
        self._unsent.append(frame(CALL, number, CALL_HEAD.pack(alone, deadline_ns, self._read, offset) + layout))
        if deadline_ns - time.monotonic_ns() < HURRY_NS:
            self._send_all()
        else:
            self._when_idle.start(self._send_all)

    def send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send a frame, in order."""
        self._unsent.append(frame(kind, number, payload))
        self._send_all()

    def _send_all(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))
            self.held.clear()

    def was_read(self) -> None:
        """Note that the last answer has been copied. The next call tells it, or else a frame of its own."""
        self._read += 1
        if self._returning is None:
            self._returning = asyncio.get_running_loop().call_later(RETURN_WITHIN_S, self._return)

    def _return(self) -> None:
        self._returning = None
        if self._told != self._read:
            self._told = self._read
            self.send(RETURN, 0, COUNT.pack(self._read))

    def close(self) -> None:
        """End the connection at once."""
        if self._transport is not None:
            self._transport.abort()


def _description(kind: int, payload: bytes) -> dict[str, Any]:
    description = orjson.loads(payload) if kind == GREETING else None
    if not isinstance(description, dict):
        raise FrameError("its first frame does not describe its version")
    return description


async def connected(
    where: str, arena: Arena, received: Received, lost: Callable[[Link], None]
) -> tuple[Link, dict[str, Any]]:
    """Connect to the socket at `where`, exchange both sides' memory, and wait for the first frame, the version's
    description. Waits as long as the process loads. Raises OSError, FrameError or ModelUnavailable.
    """
    loop = asyncio.get_running_loop()
    with contextlib.ExitStack() as undo:
        link_socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        undo.callback(link_socket.close)
        link_socket.setblocking(False)
        await loop.sock_connect(link_socket, where)
        check_user(link_socket)
        socket.send_fds(link_socket, [HELLO], [arena.file])
        memory = ArenaView(await file_of(loop, link_socket))
        undo.callback(memory.close)
        link = Link(memory, received, lost)
        await loop.create_connection(lambda: link, sock=link_socket)
        undo.pop_all()
    try:
        return link, await link.greeted
    except BaseException:
        link.close()
        raise


async def file_of(loop: asyncio.AbstractEventLoop, connection: socket.socket) -> int:
    """Wait for the descriptor of the other side's memory. Raises OSError, and ModelUnavailable with control's
    reason.
    """
    readable = loop.create_future()
    loop.add_reader(connection.fileno(), _set, readable)
    try:
        await readable
    finally:
        loop.remove_reader(connection.fileno())
    greeting, files, _, _ = socket.recv_fds(connection, len(HELLO), 1)
    if greeting != HELLO or len(files) != 1:
        for file in files:
            os.close(file)
        if greeting == REFUSAL:
            raise ModelUnavailable(connection.recv(MAX_REFUSAL).decode(errors="replace"))
        raise ConnectionResetError("it ended before it had loaded the version")
    os.set_inheritable(files[0], False)
    return files[0]


def check_user(connection: socket.socket) -> None:
    """Raise ArenaError if the other side runs as another user: an abstract socket has no permissions of its own."""
    if hasattr(socket, "SO_PEERCRED"):
        size = _CREDENTIALS.size
        _, user, _ = _CREDENTIALS.unpack(connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
        if user not in (0, os.geteuid()):
            raise ArenaError(f"the other side runs as user {user}, who does not run this gateway")


def _set(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)
