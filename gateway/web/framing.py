"""Request framing (RFC 9112): a request whose end two servers could see differently is refused, not guessed.

An offer to change the protocol (`Upgrade`) is ignored, as RFC 9110, 7.8, allows a server. httptools
always takes it up: it ends the request behind its head, so that the body would be read as the next request. Such a head
is given to a new parser once more, without the offer.
"""

from collections.abc import Sequence
from typing import Any, Final

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import InvalidRequest, RequestError, Unimplemented, VersionUnsupported
from gateway.web.responses import error_message, message_bytes

RawHeaders = Sequence[tuple[bytes, bytes]]
VERSIONS: Final = ("1.1", "1.0")
INTERRUPTIONS: Final = (httptools.HttpParserUpgrade, httptools.HttpParserError)  # of the parser
CHUNKED: Final = [b"chunked"]


def _unheard_once_closed(app: Any, cycle: Any) -> Any:
    """The application, whose messages are passed over from the moment at which the connection is closed.

    The cycle is told of that a turn of the loop later, and what uvicorn writes until then raises in uvloop.
    """

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if cycle.transport.is_closing():
                cycle.disconnected = True
            await send(message)

        await app(scope, receive, sending)

    return answering


class _Deaf:
    """In the parser's place once a refusal is the last thing that the connection will say."""

    def feed_data(self, data: bytes) -> None:
        return None


class FramedConnection(HttpToolsProtocol):
    """uvicorn's protocol, which never changes to another one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._parting: bytes | None = None  # a refusal that waits for the answers to what was asked before it

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        super()._start_asgi_task(cycle, _unheard_once_closed(app, cycle))

    def interrupted(self, data: bytes, reason: Exception) -> None:
        """The parser has stopped within `data`: at an offer, which is ignored, or at what is no HTTP, which is refused.

        Not to be called while `reason` is handled: what the parser raises next must say its own cause.
        """
        if isinstance(reason, httptools.HttpParserUpgrade):
            self._ignore_offer(data, reason.args[0])
        else:
            self._refuse_unparsed(reason)

    def on_headers_complete(self) -> None:
        """uvicorn's. Trailers come as headers too: they must not pass for what a proxy has seen and let through."""
        if self.parser.should_upgrade():
            return  # it comes again, without the offer
        check_framing(self.headers, self.parser.get_http_version())
        super().on_headers_complete()
        self.headers = []

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def refuse(self, error: RequestError) -> None:
        """Answer and close, without the application, after the answers to what was asked before."""
        if self.transport.is_closing() or self._parting is not None:
            return
        refusal = message_bytes(error_message(error), closing=True)
        cycle: Any = self.cycle  # the last request that began; None before the first one
        if cycle is not None and not cycle.response_complete:
            refused = cycle.more_body  # else it is the one behind it
            if refused and self.pipeline:
                self.pipeline.popleft()
                refused = False
            if not refused:
                self._parting = refusal
                self.parser = _Deaf()  # type: ignore[assignment]
                return
            if cycle.response_started:
                refusal = b""
        self._part(refusal)

    def say_goodbye(self) -> None:
        """All has been answered: say what was kept back until then, and close."""
        if self._parting is not None:
            self._part(self._parting)

    def _part(self, refusal: bytes) -> None:
        if refusal:
            self.transport.write(refusal)
        self.transport.close()

    def _ignore_offer(self, data: bytes, end: int) -> None:
        """Go on behind the head that ends at `end`, with its body."""
        rest = memoryview(data)
        while True:
            rest = rest[end:]
            try:
                head = self._head_without_offer()
                self.parser = _parser_of(self)  # the old one may be at its end, see Connection: close
                self.parser.feed_data(head)
                self.parser.feed_data(rest)
                return
            except httptools.HttpParserUpgrade as offer:
                end = offer.args[0]
            except httptools.HttpParserError as error:
                self._refuse_unparsed(error)
                return
            except RequestError as error:
                self.refuse(error)
                return

    def _head_without_offer(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise Unimplemented("CONNECT is not supported: this is not a proxy")
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _refuse_unparsed(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(cause, RequestError):
            self.refuse(cause)
        elif self.parser.get_method() == b"PRI":
            self.refuse(VersionUnsupported("HTTP/2 is not supported; use HTTP/1.1"))
        else:
            self.logger.warning("Invalid HTTP request received.")
            reason = "the path in the request line is invalid" if cause is not None else error
            self.refuse(InvalidRequest(f"invalid HTTP request: {reason}"))


def check_framing(headers: RawHeaders, version: str) -> None:
    """Raises RequestError where the end of the body, or what it is in, is not for us to tell."""
    if version not in VERSIONS:
        raise VersionUnsupported(f"HTTP/{version} is not supported; use HTTP/1.1")
    codings = transfer_codings(headers)
    if not codings:
        return
    if codings[-1] != b"chunked":
        raise InvalidRequest("the last coding in Transfer-Encoding must be chunked; otherwise the body has no end")
    if version == "1.0":
        raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding; send a Content-Length")
    if len(codings) > 1:
        raise Unimplemented("the only supported transfer coding is chunked; for compression use Content-Encoding")


def transfer_codings(headers: RawHeaders) -> list[bytes]:
    """The transfer codings of the body, from all headers that name them, in lower case."""
    named = [value for name, value in headers if name == b"transfer-encoding"]
    return [coding.strip(b" \t").lower() for coding in b",".join(named).split(b",")] if named else named


def _parser_of(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's
    return parser
