"""Queues read requests of the control plane, so that a stop never waits behind them.

The handling of a read request, or of one part of a large answer, is one slot: slots run one at a time, with pauses in
between in which orders (requests that change something) are executed. Orders skip the queue.
"""

import asyncio
from collections import deque
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.control.api.access import ASKING, SAFE
from gateway.control.order_priority import Pressing
from gateway.errors import Overloaded
from gateway.web.responses import send_error

PAUSE_S: Final = 0.002  # between two slots; each takes about 0.3 ms
PART: Final = 1 << 18  # bytes of an answer that are sent in one slot
MOST: Final = 512  # readers at once
REFUSED_AFTER_S: Final = 1.0  # for requests beyond MOST: a client that is refused at once retries at once


class Turns:
    """Grants slots in order of arrival, PAUSE_S apart."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def turn(self) -> None:
        """Wait for the next slot."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            mine = loop.create_future()
            self._waiting.append(mine)
            await mine
        else:
            self._timer = loop.call_later(PAUSE_S, self._next)

    def _next(self) -> None:
        self._timer = None
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # else its client has disconnected
                first.set_result(None)
                self._timer = asyncio.get_running_loop().call_later(PAUSE_S, self._next)
                return


class OneByOne:
    """ASGI middleware that admits read requests to `application` slot by slot, at most MOST at once; beyond that they
    are refused with Overloaded. Orders pass at once and pause the readers.
    """

    def __init__(self, application: ASGIApp, turns: Turns, pressing: Pressing) -> None:
        self._application = application
        self._pressing = pressing
        self._turns = turns
        self._readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] not in SAFE and scope["path"] not in ASKING:
            with self._pressing.order():
                await self._application(scope, receive, send)
        elif self._readers >= MOST:
            await asyncio.sleep(REFUSED_AFTER_S)
            await send_error(send, Overloaded(f"{MOST} requests for pages are waiting, which is the limit"))
        else:
            self._readers += 1
            try:
                await self._turn()
                await self._application(scope, receive, self._in_parts(send))
            finally:
                self._readers -= 1

    async def _turn(self) -> None:
        await self._turns.turn()
        await self._pressing.give_way()

    def _in_parts(self, send: Send) -> Send:
        async def send_in_parts(message: Message) -> None:
            await self._pressing.give_way()  # event streams skip the queue
            body = message.get("body", b"")
            for begin in range(0, len(body) - PART, PART):
                await send({"type": message["type"], "body": body[begin : begin + PART], "more_body": True})
                await self._turn()
            rest = (len(body) - 1) // PART * PART if len(body) > PART else 0
            await send({**message, "body": body[rest:]} if rest else message)

        return send_in_parts
