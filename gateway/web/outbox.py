"""Predictions that ended together leave together: all are answered, then all recorded, then all sent.

So each of the three is a loop of its own, whose code and data stay in a core's nearest cache (see gateway/lines.py).
"""

import asyncio
from typing import Any, Protocol

from gateway.call import Call
from gateway.pipeline import Gateway
from gateway.reply import Reply
from gateway.serving.batch import Answer


class Connection(Protocol):
    """Where a prediction came from; `cycle` tells which of its requests."""

    def end(self, cycle: Any, call: Call, submitted: "asyncio.Future[Answer]") -> Reply | bytes:
        """The reply to a submitted call that is done, or the whole answer that says why there is none."""

    def send(self, cycle: Any, answer: Reply | bytes) -> None:
        """Write the whole answer, if someone waits for it."""


class Outbox:
    """The predictions that wait for the end of this turn of the event loop."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._waiting: list[tuple[Connection, Any, Call, asyncio.Future[Answer]]] = []

    def put(self, connection: Connection, cycle: Any, call: Call, submitted: "asyncio.Future[Answer]") -> None:
        """A stable version's run is over: answer it with all others of this turn, and let it go."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._empty)
        self._waiting.append((connection, cycle, call, submitted))

    def _empty(self) -> None:
        waiting, self._waiting = self._waiting, []
        ended = [
            (connection, cycle, call, connection.end(cycle, call, submitted))
            for connection, cycle, call, submitted in waiting
        ]
        self._gateway.recorder.answered([(call, reply) for _, _, call, reply in ended if isinstance(reply, Reply)])
        for connection, cycle, _, reply in ended:
            connection.send(cycle, reply)
            self._gateway.let_go()
