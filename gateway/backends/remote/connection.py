"""One HTTP/1.1 connection to another server: one request at a time, on the event loop.

What the server sends is bounded and never trusted: a response that is not HTTP, too large, cut short or unasked for
ends the connection.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import httptools

MAX_HEAD_BYTES: Final = 65536
MAX_BODY_BYTES: Final = 256 << 20
MAX_HEADERS: Final = 200
MOST_FRAMING: Final = 16  # bytes to each byte of the body, as if that came in chunks of one
JOINED_BYTES: Final = 8192  # up to here a copy is cheaper than a system call with several buffers


class Broken(Exception):
    """There is no response. `received`: some bytes of it had come; `stale`: the connection had been used before, and
    was closed before any byte came, as by a server that closes idle connections.
    """

    def __init__(self, why: str, *, received: bool = False, stale: bool = False) -> None:
        super().__init__(why)
        self.received = received
        self.stale = stale


class Response:
    """A response. `headers`: by name in lower case, the last of each."""

    __slots__ = ("body", "headers", "status")

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.body = b""


Done = Callable[["Connection", Response | Broken], None]


class Connection(asyncio.Protocol):
    """`closed` is called once, when it has ended. `max_body`: bytes of a response's body."""

    def __init__(self, closed: Callable[["Connection"], None], max_body: int = MAX_BODY_BYTES) -> None:
        self._on_closed = closed
        self._max_body = max_body
        self._transport: asyncio.Transport
        self._parser: Any = httptools.HttpResponseParser(self)  # after a complete response it awaits the next
        self._done: Done | None = None
        self._used = 0  # requests so far
        self._received = False
        self._complete = False  # the response is
        self._keep = False
        self._surplus = False  # more than the response has come
        self._refused = ""
        self._sized = False
        self._response = Response()
        self._parts: list[bytes] = []
        self._size = self._head = 0  # bytes of the body, and of the headers
        self._raw = 0  # bytes that have come before
        self.open = False

    def send(self, parts: Sequence[bytes | memoryview], done: Done) -> None:
        """Send one request; `done` is called once, with its response or with what went wrong."""
        self._done, self._received, self._used = done, False, self._used + 1
        self._complete = self._surplus = False
        self._response, self._raw, self._size = Response(), 0, 0
        if sum(map(len, parts)) <= JOINED_BYTES:
            self._transport.write(b"".join(parts))
        else:
            self._transport.writelines(parts)

    def abort(self) -> None:
        """Close it at once, without a call of `done`."""
        self._done = None
        if self.open:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.open = True

    def data_received(self, data: bytes) -> None:
        if self._done is None:
            self.abort()  # nothing was asked
            return
        self._received = True
        if self._raw - self._size > MAX_HEAD_BYTES + MOST_FRAMING * self._size:  # a header or trailer without an end
            self._fail(f"the header or trailer of its response has more than {MAX_HEAD_BYTES} bytes")
            return
        self._raw += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._surplus = True
            if not self._complete:
                self._fail(self._refused or f"its response is not HTTP: {error}")
        if self._complete and self._done is not None:
            # What follows the response was not asked for, and must not become the answer to the next request.
            self._finish(keep=self._keep and not self._surplus)

    def connection_lost(self, error: Exception | None) -> None:
        self.open = False
        if self._done is not None:
            response = self._response
            if error is None and self._received and response.status >= 200 and not self._sized:
                self._finish(keep=False)  # the body ends with the connection
            else:
                self._fail(f"it closed the connection before it had answered{f': {error}' if error else ''}")
        self._on_closed(self)

    def on_message_begin(self) -> None:
        if self._complete:
            self._surplus = True
            self._refuse("it sends more than one response")
        self._response, self._parts, self._sized = Response(), [], False
        self._size = self._head = 0

    def on_header(self, name: bytes, value: bytes) -> None:
        headers, name = self._response.headers, name.lower()
        self._head += len(name) + len(value)
        if self._head > MAX_HEAD_BYTES:
            self._refuse(f"the header of its response has more than {MAX_HEAD_BYTES} bytes")
        if len(headers) >= MAX_HEADERS:
            self._refuse(f"its response has more than {MAX_HEADERS} headers")
        if self._response.status:  # a trailer: no header of the response may be replaced once it has been heeded
            return
        headers[name] = value
        self._sized |= name in (b"content-length", b"transfer-encoding")

    def on_headers_complete(self) -> None:
        response = self._response
        response.status = self._parser.get_status_code()
        length = response.headers.get(b"content-length", b"0")
        if length.isdigit() and int(length) > self._max_body:
            self._refuse(f"its response has {int(length)} bytes; at most {self._max_body} are taken")
        if response.headers.get(b"content-encoding", b"identity").lower() != b"identity":
            self._refuse("its response is compressed, which was not asked for")

    def on_body(self, body: bytes) -> None:
        self._size += len(body)
        if self._size > self._max_body:
            self._refuse(f"the body of its response has more than {self._max_body} bytes")
        self._parts.append(body)

    def on_message_complete(self) -> None:
        if self._response.status >= 200:  # else 100 Continue
            self._complete, self._keep = True, self._parser.should_keep_alive()

    def _refuse(self, why: str) -> None:
        self._refused = why
        raise ValueError(why)  # httptools ends parsing with its own error

    def _finish(self, *, keep: bool) -> None:
        done, self._done, response = self._done, None, self._response
        response.body = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        self._parts = []
        if not keep:
            self.open = False
            self._transport.close()
        assert done is not None
        done(self, response)

    def _fail(self, why: str) -> None:
        done, self._done = self._done, None
        broken = Broken(why, received=self._received, stale=self._used > 1 and not self._received)
        self._parts = []
        if self.open:
            self.open = False
            self._transport.abort()
        if done is not None:
            done(self, broken)
