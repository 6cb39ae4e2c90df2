"""Limits the time that a client may take to send a request, and the size of its head.

Without limits, a few thousand incomplete requests would occupy every connection.
"""

import asyncio
import random
import time
from typing import Any, Final

from starlette.types import Message, Receive

from gateway.errors import BodyTooSlow, HeadersTooLarge
from gateway.system.descriptors import max_connections
from gateway.web.connection_limit import make_room
from gateway.web.flow_control import MAX_PARSE_S, PARSE_BYTES, BacklogFlowControl
from gateway.web.framing import INTERRUPTIONS, FramedConnection
from gateway.web.memory_limits import MemoryLimits
from gateway.web.unread import has_unread

TIMEOUT_S: Final = 10.0
RECHECK_S: Final = 0.1  # for the loop to look at what has come
MAX_HEAD_BYTES: Final = 65536  # bytes of request line and headers, and once more of trailers and chunks' extensions
FREE_FRAMING_RATIO: Final = (
    8  # bytes of chunks' heads to each byte of a body that are no burden: chunks of one byte have five
)


class TimeoutProtocol(FramedConnection):
    """uvicorn's protocol with a timeout for requests; uvicorn itself waits for ever for a head to be complete.

    The timer (`timeout_s`, or the keep-alive timeout if longer) runs only while a request is incomplete, so one that
    comes in a single packet costs nothing. A body that the application reads has its timeout in the application, see
    `with_body_timeout`.
    """

    timeout_s = TIMEOUT_S
    _fast_cycle: Any = None  # a request whose body is kept with it, see InferConnection

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._in_head = True  # has begun, or is awaited on a new connection, and is not complete
        self._head_size = 0
        self._ended = False  # a request has, in what was received last
        self.unparsed = b""  # of a packet: it waits for answers to the requests before it, or for the loop's next turn
        self._body_size = 0  # of the request's body so far
        self._counted_body = 0  # of it, before what was received last
        self._counted_cycle: Any = None  # the request that this is said of
        self._framing_size = 0  # bytes received that are no body
        self.memory_limits: MemoryLimits | None = None  # on the data plane
        self._timer: asyncio.TimerHandle | None = None
        self.answered_s = 0.0  # when it last was, on the loop's clock
        self.made_s = 0.0
        self.random_share = random.random()  # its part in what is spread over time
        self.close_after_response = self.server_is_draining  # with a next answer (connection_share.py)

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = BacklogFlowControl(transport, self)
        if self.memory_limits is not None:
            self.memory_limits.check_regularly(self.connections)
        self.made_s = self.loop.time()
        self._set_timer(True)
        if len(self.connections) > (most := self.max_connections()):
            make_room(self.connections, self, most)

    def max_connections(self) -> int:
        """The most connections that may be open; beyond it the least important is closed."""
        return max_connections()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._body_size = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._ended = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if len(data) > PARSE_BYTES:
            self._receive_in_pieces(data)
            return
        self._ended = False
        interruption: Exception | None = None
        try:
            self.parser.feed_data(data)
        except INTERRUPTIONS as reason:
            interruption = reason
        if interruption is not None:
            self.on_parser_interrupted(data, interruption)
        if self._in_head:
            self._head_size += 1 if self._ended else len(data)  # how much of it is the new head's is not known
            if self._head_size > MAX_HEAD_BYTES and not self.transport.is_closing():
                problem = f"the request line and headers are larger than {MAX_HEAD_BYTES} bytes"
                self.refuse(HeadersTooLarge(problem))
        elif self._head_size:
            self._head_size = 0
        incomplete = self._head_size > 0 or (self.cycle is not None and self.cycle.more_body)
        if incomplete is (self._timer is None):
            self._set_timer(incomplete)
        if incomplete:
            self._count_framing(len(data))

    def _receive_in_pieces(self, data: bytes) -> None:
        """Parse what may be parsed now: nothing behind a request that waits for its turn, and for MAX_PARSE_S at most.

        Without this, one packet became 6,000 waiting requests, or 40,000 chunks of one byte, which took 100 ms.
        """
        end_s = time.monotonic() + MAX_PARSE_S
        for start in range(0, len(data), PARSE_BYTES):
            if self.pipeline:
                self.unparsed = data[start:]
                return
            if time.monotonic() > end_s:
                self.unparsed = data[start:]
                self.flow.pause_reading()
                self.loop.call_soon(self._receive_rest)
                return
            self.data_received(data[start : start + PARSE_BYTES])

    def _receive_rest(self) -> None:
        rest, self.unparsed = self.unparsed, b""
        if rest and not self.transport.is_closing():
            self._receive_in_pieces(rest)
            self.flow.resume_reading()

    def _count_framing(self, received: int) -> None:
        """Count what comes beside a body, otherwise unlimited: chunk heads and extensions, trailers."""
        if self._in_head:
            return
        size = self._size()
        if self._counted_cycle is not self.cycle:
            self._counted_cycle, self._counted_body, self._framing_size = self.cycle, size, 0
            return
        self._framing_size += max(0, received - (1 + FREE_FRAMING_RATIO) * (size - self._counted_body))
        self._counted_body = size
        if self._framing_size > MAX_HEAD_BYTES:
            self._refuse_framing()
        elif self.memory_limits is not None and size > PARSE_BYTES:
            self.memory_limits.received(self, self.received_bytes())

    def _refuse_framing(self) -> None:
        if self.cycle.response_complete:
            self.transport.close()  # who hears nothing but the answer's end is not to be told more
        else:
            problem = f"chunks' heads and trailers beside the body are larger than {MAX_HEAD_BYTES} bytes"
            self.refuse(HeadersTooLarge(problem))

    def received_bytes(self) -> int:
        """Bytes received of the body of a request that is not answered yet."""
        cycle: Any = self.cycle
        return 0 if cycle is None or cycle.response_complete else self._size()

    def _size(self) -> int:
        """Bytes of the body so far."""
        return self._body_size if self._fast_cycle is None else len(self._fast_cycle.body)

    def set_decompressed_size(self, size: int) -> None:
        """Note that the body is `size` bytes, decompressed; raises Overloaded if that is too much."""
        self._body_size = size
        if self.memory_limits is not None:
            self.memory_limits.decompressed(self, size)

    def receiving(self) -> bool:
        """Whether more of the body is still expected."""
        cycle: Any = self.cycle
        return cycle is not None and bool(cycle.more_body)

    def on_body(self, body: bytes) -> None:
        self._body_size += len(body)
        super().on_body(body)

    def pause_writing(self) -> None:
        super().pause_writing()
        if self.memory_limits is not None:
            self.memory_limits.write_paused(self, self.loop.time())

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.unparsed = b""
        if self.memory_limits is not None:
            self.memory_limits.forget(self)
        self._set_timer(False)
        if self.timeout_keep_alive_task is not None:
            self.timeout_keep_alive_task.cancel()

    def _unset_keepalive_if_required(self) -> None:
        """Called by uvicorn for each packet and response. There is nothing to unset: see `_close_if_idle`."""

    def on_response_complete(self) -> None:
        """As uvicorn's, with one timer at a time; a new one for each response cost a microsecond."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        if self.flow.read_paused:
            self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
            if self.unparsed and not self.pipeline:
                self._receive_rest()
            return
        if self._closing_with is not None:
            self.send_last_response()
            return
        self.answered_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self._close_if_idle)

    def _close_if_idle(self) -> None:
        self.timeout_keep_alive_task = None
        if self.busy() or self._timer is not None:
            return  # the next answer sets the timer again
        left_s = self.answered_s + self.timeout_keep_alive - self.loop.time()
        if self.has_unread_request():
            left_s = self.timeout_keep_alive
        if left_s > 0:
            self.timeout_keep_alive_task = self.loop.call_later(left_s, self._close_if_idle)
        else:
            self.timeout_keep_alive_handler()

    def shutdown(self) -> None:
        """As uvicorn's, for a server that shuts down; a request that is arriving is answered first."""
        self.close_after_response = True
        if self.is_responding or not self.has_unread_request():
            super().shutdown()

    @property
    def is_responding(self) -> bool:
        """Whether a request's head is complete and its response is not."""
        cycle: Any = self.cycle  # None before the first request
        return cycle is not None and not cycle.response_complete

    def has_unread_request(self) -> bool:
        """Whether part of a request has arrived that is incomplete, or not parsed or read yet."""
        return self.has_begun or bool(self.unparsed) or has_unread(self.transport)

    @property
    def server_is_draining(self) -> bool:
        return getattr(self.server_state, "draining", False)

    @property
    def has_begun(self) -> bool:
        """Whether an incomplete head has arrived."""
        return self._head_size > 0

    def busy(self) -> bool:
        """Whether a request is being answered, of which the application may still be reading the body."""
        return self.is_responding

    def _set_timer(self, waiting: bool) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if waiting and not self.transport.is_closing():
            self._timer = self.loop.call_later(max(self.timeout_s, self.timeout_keep_alive), self._on_timeout)

    def _on_timeout(self, looked: bool = False) -> None:
        if self.busy():
            self._set_timer(True)
        elif not looked and has_unread(self.transport):  # it has come in time, and the loop comes to it only now
            self._timer = self.loop.call_later(RECHECK_S, self._on_timeout, True)
        elif not self._head_size if self._in_head else self.cycle.response_complete:
            self.transport.close()  # nothing has been asked, or all of it answered
        else:
            self.refuse(BodyTooSlow("the request did not arrive in time"))


def with_body_timeout(receive: Receive, within_s: float) -> Receive:
    """`receive` with a timeout until the body is complete, none after that. It raises BodyTooSlow."""
    deadline: float | None = None
    complete = False

    async def receive_in_time() -> Message:
        nonlocal deadline, complete
        if complete:
            return await receive()
        deadline = deadline or asyncio.get_running_loop().time() + within_s
        try:
            async with asyncio.timeout_at(deadline):  # `wait_for` would make a task of it
                message = await receive()
        except TimeoutError:
            raise BodyTooSlow(f"the body did not arrive within {within_s:g} s") from None
        complete = not message.get("more_body", False)
        return message

    return receive_in_time
