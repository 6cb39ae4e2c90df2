"""Drains a server in steps, so that no client is cut off.

First the system stops opening new connections to its sockets. The connections in their queues are accepted, and then
the sockets are closed: clients that connect from then on reach another server at once. Only after that is each client's
connection closed, with its next response. Clients reconnect right away, and if that came earlier, one in a few would
wait a second for a socket that drops SYNs (see `refuse_new_connections`), this server's or that of another that drains with it.

Steps are counted, not seconds: if the process was suspended, or its loop held up, all steps are still to come. Between
two steps the loop has read everything that has arrived.
"""

import select
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

from gateway.web.socket_filter import refuse_new_connections

STEP_S: Final = 0.1  # uvicorn's tick
HANDSHAKE_STEPS: Final = 3  # steps, after which handshakes that had begun are over, also over a network
PEER_CLOSE_STEPS: Final = 2  # steps, after which servers that began to drain at the same time have closed their sockets
RECENT_S: Final = 0.5  # a connection opened or used so recently is expected to send a request
MAX_STEPS: Final = 20  # steps, after which no more requests are expected


class DrainedServer(Protocol):
    """What is read and set of a server's state here."""

    draining: bool

    @property
    def connections(self) -> Collection[Any]: ...


class Draining:
    """The drain of one server. Call `step` every STEP_S; after `within` steps it is over, whatever is still expected.

    `close`: closes the listening sockets.
    """

    def __init__(self, sockets: Sequence[socket.socket], close: Callable[[], None], within: int) -> None:
        self._sockets = sockets
        self._close = close
        self._max_steps = within
        self._steps = 0
        self._closed = 0  # the step at which the sockets were closed; 0: not yet
        for each in sockets:
            refuse_new_connections(each)

    @property
    def elapsed_s(self) -> float:
        """How long it has been draining, in seconds."""
        return self._steps * STEP_S

    def step(self, state: DrainedServer, now_s: float) -> bool:
        """Take one step; returns whether idle connections are to be closed now."""
        self._steps += 1
        over = self._steps > self._max_steps
        if not self._closed:
            if not over and (self._steps <= HANDSHAKE_STEPS or _waiting(self._sockets)):
                return False
            self._stop_listening(state)
        alone = self._steps >= self._closed + PEER_CLOSE_STEPS
        if not (over or alone) and any(_in_use(each, now_s) for each in state.connections):
            return False
        state.draining = True
        for connection in state.connections:
            connection.leaving = True
        return over or not any(_expected(each, now_s) for each in state.connections)

    def _stop_listening(self, state: DrainedServer) -> None:
        self._close()
        self._closed = self._steps
        for connection in list(state.connections):
            if connection.receiving() or connection.has_begun:
                connection.shutdown()  # after the request that is arriving, so that no other follows it


def _in_use(connection: Any, now_s: float) -> bool:
    return bool(connection.under_way) or now_s - max(connection.made_s, connection.answered_s) < RECENT_S


def _expected(connection: Any, now_s: float) -> bool:
    """Whether a request is expected soon. One in flight does not count: uvicorn's shutdown waits for it."""
    return not connection.under_way and _in_use(connection, now_s)


def _waiting(sockets: Sequence[socket.socket]) -> bool:
    """Whether a connection waits to be accepted."""
    poll = select.poll()
    for each in sockets:
        poll.register(each, select.POLLIN)
    return bool(poll.poll(0))
