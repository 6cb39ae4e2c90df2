"""Drains a server in steps, so that no client is cut off.

First no new connection is sent to its sockets. What is in their queues is accepted, and then they are closed: whoever
connects from then on finds another server at once. Only after that are clients told to go, each with its next answer:
they connect anew right away, and one of them in a few would otherwise wait a second for a socket that drops what
opens a connection (see `unchosen`): this server's, or that of another one that leaves with it.

Steps are counted, not seconds: a process that was suspended, or whose loop was held up, has all of them left. Between
two of them the loop has looked at all that has come.
"""

import select
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final, Protocol

from gateway.web.socket_filter import unchosen

STEP_S: Final = 0.1  # uvicorn's tick
SETTLED: Final = 3  # steps: by then a handshake that had begun is over, over a network too
ALL_CLOSED: Final = 2  # steps: by then those have closed their sockets too that began to leave at the same time
KNOWN_S: Final = 0.5  # a connection that was made or used so recently is expected to ask (once more)
LEAVES_WITHIN: Final = 20  # steps; then no one is expected any more


class Followed(Protocol):
    """Of a server's state what matters here."""

    leaving: bool

    @property
    def connections(self) -> Collection[Any]: ...


class Leaving:
    """`step` is called once a STEP_S. `within`: after so many steps it is over, whoever is still expected."""

    def __init__(self, sockets: Sequence[socket.socket], close: Callable[[], None], within: int) -> None:
        self._sockets = sockets
        self._close = close
        self._within = within
        self._steps = 0
        self._closed = 0  # the step at which it closed its sockets
        for each in sockets:
            unchosen(each)

    @property
    def taken_s(self) -> float:
        """How long it has been draining, in seconds."""
        return self._steps * STEP_S

    def step(self, state: Followed, now_s: float) -> bool:
        """Take one step; returns whether idle connections are to be closed now."""
        self._steps += 1
        over = self._steps > self._within
        if not self._closed:
            if not over and (self._steps <= SETTLED or _waiting(self._sockets)):
                return False
            self._stop_listening(state)
        alone = self._steps >= self._closed + ALL_CLOSED
        if not (over or alone) and any(_in_use(each, now_s) for each in state.connections):
            return False
        state.leaving = True
        for connection in state.connections:
            connection.leaving = True
        return over or not any(_expected(each, now_s) for each in state.connections)

    def _stop_listening(self, state: Followed) -> None:
        self._close()
        self._closed = self._steps
        for connection in list(state.connections):
            if connection.receiving() or connection.has_begun:
                connection.shutdown()  # with what is on its way, so that nothing comes behind it


def _in_use(connection: Any, now_s: float) -> bool:
    return bool(connection.under_way) or now_s - max(connection.made_s, connection.answered_s) < KNOWN_S


def _expected(connection: Any, now_s: float) -> bool:
    """To ask soon. What it has asked already, or is asking, it may: that is waited for when all others are closed."""
    return not connection.under_way and _in_use(connection, now_s)


def _waiting(sockets: Sequence[socket.socket]) -> bool:
    """Whether a connection has come that is not accepted yet."""
    poll = select.poll()
    for each in sockets:
        poll.register(each, select.POLLIN)
    return bool(poll.poll(0))
