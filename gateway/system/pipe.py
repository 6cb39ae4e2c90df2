"""The pipe between control and a worker: whole messages, however large, although an event loop watches both ends.

The loop makes what it watches non-blocking. A message that does not fit the system's buffer would then end in the
middle, on either side, which both would take for the other's death.
"""

import os
import select
import socket
from multiprocessing.connection import Connection
from typing import Any


class PatientPipe(Connection):
    """One end. Waits for the rest of a message, which the other side is about to write or to read."""

    def _send(self, buf: Any, write: Any = os.write) -> None:
        super()._send(buf, _written)  # type: ignore[misc]

    def _recv(self, size: int, read: Any = os.read) -> Any:
        return super()._recv(size, _read)  # type: ignore[misc]


def pipe() -> tuple[PatientPipe, PatientPipe]:
    """Both ends."""
    ours, theirs = socket.socketpair()
    return PatientPipe(ours.detach()), PatientPipe(theirs.detach())


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
