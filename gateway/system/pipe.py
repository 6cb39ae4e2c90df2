"""The pipe between control and a worker: sends and receives whole messages of any size, while event loops watch it.

An event loop makes the sockets it watches non-blocking. A message larger than the kernel's buffer would then break off
in the middle, on either side, and both would take that for the death of the other.
"""

import os
import select
import socket
from multiprocessing.connection import Connection
from typing import Any


class RetryingPipe(Connection):
    """One end of the pipe. Blocks within a message until the other side writes or reads the rest of it."""

    @property
    def peer_gone(self) -> bool:
        """Whether the other side has closed its end, or died, even if messages of it are still unread."""
        poll = select.poll()
        poll.register(self.fileno(), 0)
        return bool(poll.poll(0))

    def _send(self, buf: Any, write: Any = os.write) -> None:
        super()._send(buf, _written)  # type: ignore[misc]

    def _recv(self, size: int, read: Any = os.read) -> Any:
        return super()._recv(size, _read)  # type: ignore[misc]


def pipe() -> tuple[RetryingPipe, RetryingPipe]:
    """Return the two connected ends."""
    ours, theirs = socket.socketpair()
    return RetryingPipe(ours.detach()), RetryingPipe(theirs.detach())


def _written(handle: int, data: Any) -> int:
    while True:
        try:
            return os.write(handle, data)
        except BlockingIOError:
            _wait(handle, select.POLLOUT)


def _read(handle: int, size: int) -> bytes:
    while True:
        try:
            return os.read(handle, size)
        except BlockingIOError:
            _wait(handle, select.POLLIN)


def _wait(handle: int, what: int) -> None:
    poll = select.poll()
    poll.register(handle, what)
    poll.poll()
