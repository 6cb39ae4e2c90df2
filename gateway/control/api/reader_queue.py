"""Queues read requests of the control plane, so that a stop never waits behind them.

The handling of a read request, or of one part of a large answer, is one slot: slots run one at a time, with pauses in
between in which orders (requests that change something) are executed. Orders skip the queue.
"""

import asyncio
from collections import deque
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from gateway.control.api.access import READ_ONLY_POSTS, SAFE_METHODS, is_signed, is_upload
from gateway.control.command_priority import CommandPriority
from gateway.errors import Overloaded
from gateway.web.responses import send_error

SLOT_PAUSE_S: Final = 0.004  # between two slots; each takes 0.3 to 0.7 ms
SLOT_BYTES: Final = 1 << 17  # bytes of an answer that are sent in one slot
MAX_READERS: Final = 512  # readers at once
REFUSAL_DELAY_S: Final = 1.0  # for requests beyond MOST: a client that is refused at once retries at once


class SlotQueue:
    """Grants slots in order of arrival, SLOT_PAUSE_S apart."""

    def __init__(self) -> None:
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._timer: asyncio.TimerHandle | None = None

    async def wait(self) -> None:
        """Wait for the next slot."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            mine = loop.create_future()
            self._waiting.append(mine)
            await mine
        else:
            self._timer = loop.call_later(SLOT_PAUSE_S, self._next)

    def _next(self) -> None:
        self._timer = None
        while self._waiting:
            first = self._waiting.popleft()
            if not first.done():  # else its client has disconnected
                first.set_result(None)
                self._timer = asyncio.get_running_loop().call_later(SLOT_PAUSE_S, self._next)
                return


class ReaderQueue:
    """ASGI middleware that admits read requests to `application` slot by slot, at most MOST at once; beyond that they
    are refused with Overloaded. Orders pass at once and pause the readers.
    """

    def __init__(self, application: ASGIApp, slots: SlotQueue, command_priority: CommandPriority) -> None:
        self._application = application
        self._command_priority = command_priority
        self._slots = slots
        self._readers = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if is_upload(scope) or is_signed(scope):  # it arrives for as long as it takes; an upload's edit is an order
            await self._application(scope, receive, send)
        elif scope["method"] not in SAFE_METHODS and scope["path"] not in READ_ONLY_POSTS:
            with self._command_priority.command():
                await self._application(scope, receive, send)
        elif self._readers >= MAX_READERS:
            await asyncio.sleep(REFUSAL_DELAY_S)
            await send_error(send, Overloaded(f"{MAX_READERS} requests for pages are waiting, which is the limit"))
        else:
            self._readers += 1
            try:
                await self._wait_for_slot()
                await self._application(scope, receive, self._in_parts(send))
            finally:
                self._readers -= 1

    async def _wait_for_slot(self) -> None:
        await self._slots.wait()
        await self._command_priority.yield_to_commands()

    def _in_parts(self, send: Send) -> Send:
        async def send_in_parts(message: Message) -> None:
            await self._command_priority.yield_to_commands()  # event streams skip the queue
            body = message.get("body", b"")
            for begin in range(0, len(body) - SLOT_BYTES, SLOT_BYTES):
                await send({"type": message["type"], "body": body[begin : begin + SLOT_BYTES], "more_body": True})
                await self._wait_for_slot()
            rest = (len(body) - 1) // SLOT_BYTES * SLOT_BYTES if len(body) > SLOT_BYTES else 0
            await send({**message, "body": body[rest:]} if rest else message)

        return send_in_parts
