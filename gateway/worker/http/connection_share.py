"""A worker's share of the connections: counted, and given up where others have room or a connection is old.

A connection is given up with an answer that says so (`Connection: close`), after which its client makes another, that
the system gives to any worker. So the only ones asked are those that are being used, and the answer must be a good one
to a client that has sent nothing else yet.
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

LOOK_S: Final = 0.5  # between two counts
BUSY_WITHIN_S: Final = 1.0  # of its last answer a connection counts as busy
JITTER: Final = 0.1  # of the greatest age, either way: connections made at once do not end at once


class Sharing:
    """The connections of one worker. Lives on its event loop."""

    def __init__(self, connections: Collection[Any], shared_state: SharedState, server: ServerSettings) -> None:
        self._connections: Collection[TimeoutProtocol] = connections
        self._shared_state = shared_state
        self._greatest_age_s = server.max_connection_age
        self._asked: list[TimeoutProtocol] = []

    def look(self) -> None:
        """Count, let the old ones go, and do so again in a while."""
        loop = asyncio.get_running_loop()
        loop.call_later(LOOK_S, self.look)  # first: whatever goes wrong with this look, there is another
        now_s = loop.time()
        head = self._shared_state.head
        head[CONNECTIONS_OPEN] = len(self._connections)
        head[CONNECTIONS_BUSY] = len(self._busy(now_s))
        if self._greatest_age_s is not None:
            for connection in self._connections:
                age_s = self._greatest_age_s * (1 - JITTER + 2 * JITTER * connection.luck)
                if now_s - connection.made_s > age_s:
                    connection.leaving = True
        self._shared_state.settle()

    def leave(self, count: int) -> None:
        """Have so many of the busy connections go with their next answers, in place of those asked before."""
        for connection in self._asked:
            connection.leaving = False  # one that is too old is found again at the next look
        busy = self._busy(asyncio.get_running_loop().time())
        self._asked = random.sample(busy, min(count, len(busy)))
        for connection in self._asked:
            connection.leaving = True

    def _busy(self, now_s: float) -> list[TimeoutProtocol]:
        return [each for each in self._connections if now_s - each.answered_s < BUSY_WITHIN_S or each.busy()]


def may_go(connection: TimeoutProtocol) -> bool:
    """Whether the answer at hand may be the connection's last: its client has sent nothing that would be lost."""
    return not (
        connection.pipeline
        or connection.rest
        or connection.has_begun
        or connection.transport.is_closing()
        or has_unread(connection.transport)
    )


def going(app: ASGIApp, connection: TimeoutProtocol) -> ASGIApp:
    """The application, whose next answer is the connection's last where it may be, and is a good one.

    Where the whole server leaves, any answer is: another one could be asked for when no one listens any more.
    """

    async def last(scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Message) -> None:
            starts = message["type"] == "http.response.start"
            if starts and (message["status"] < 400 or connection.server_leaves) and may_go(connection):
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await app(scope, receive, sent)

    return last
