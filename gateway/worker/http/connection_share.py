"""A worker's share of the connections: counts them, and closes some if other workers have fewer or if they are old.

A connection is closed by a response with `Connection: close`. Its client then opens another, which the system gives to
any worker. So only connections in use can be closed, by a response that is no error, and only if the client has sent
nothing more in the meantime.
"""

import asyncio
import random
from collections.abc import Collection
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.settings.gateway import ServerSettings
from gateway.shm.scoreboard import CONNECTIONS_BUSY, CONNECTIONS_OPEN
from gateway.web.timeouts import TimeoutProtocol
from gateway.web.unread import has_unread
from gateway.worker.models.shared_state import SharedState

COUNT_INTERVAL_S: Final = 0.5  # between two counts
BUSY_WITHIN_S: Final = 1.0  # a connection counts as busy for so long after its last response
JITTER: Final = 0.1  # of max_connection_age, either way: connections opened together do not end together


class ConnectionShare:
    """Counts and closes the connections of one worker, on its event loop."""

    def __init__(self, connections: Collection[Any], shared_state: SharedState, server: ServerSettings) -> None:
        self._connections: Collection[TimeoutProtocol] = connections
        self._shared_state = shared_state
        self._greatest_age_s = server.max_connection_age
        self._to_close: list[TimeoutProtocol] = []

    def count(self) -> None:
        """Count the connections, mark old ones to be closed, and do so again every COUNT_INTERVAL_S."""
        loop = asyncio.get_running_loop()
        loop.call_later(COUNT_INTERVAL_S, self.count)  # first, so that an error in this look does not prevent the next
        now_s = loop.time()
        head = self._shared_state.head
        head[CONNECTIONS_OPEN] = len(self._connections)
        head[CONNECTIONS_BUSY] = len(self._busy(now_s))
        if self._greatest_age_s is not None:
            for connection in self._connections:
                age_s = self._greatest_age_s * (1 - JITTER + 2 * JITTER * connection.random_share)
                if now_s - connection.made_s > age_s:
                    connection.close_after_response = True
        self._shared_state.release_ended()

    def close_connections(self, count: int) -> None:
        """Mark `count` random busy connections to close with their next responses, instead of those marked before."""
        for connection in self._to_close:
            connection.close_after_response = False  # the next look marks old ones again
        busy = self._busy(asyncio.get_running_loop().time())
        self._to_close = random.sample(busy, min(count, len(busy)))
        for connection in self._to_close:
            connection.close_after_response = True

    def _busy(self, now_s: float) -> list[TimeoutProtocol]:
        return [each for each in self._connections if now_s - each.answered_s < BUSY_WITHIN_S or each.busy()]


def may_close(connection: TimeoutProtocol) -> bool:
    """Whether the connection may close after the present response: no data of its client would be lost."""
    return not (
        connection.pipeline
        or connection.unparsed
        or connection.has_begun
        or connection.transport.is_closing()
        or has_unread(connection.transport)
    )


def with_close_header(app: ASGIApp, connection: TimeoutProtocol) -> ASGIApp:
    """The application, so that its next response closes the connection if it is no error and the connection
    `may_close`.

    If the whole server is shutting down, an error does so too: later requests would find nobody listening.
    """

    async def last(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            starts = message["type"] == "http.response.start"
            if starts and (message["status"] < 400 or connection.server_is_draining) and may_close(connection):
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, sent)

    return last
