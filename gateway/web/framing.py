"""Request framing (RFC 9112): refuses requests whose end two servers could see differently (request smuggling).

An `Upgrade` header is ignored, as RFC 9110, 7.8, allows. httptools always accepts the upgrade: it ends the request
after its head, so that the body would be read as the next request. Such a head is parsed again by a new parser, without
that header.
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


def _without_input_once_closed(app: Any, cycle: Any) -> Any:
    """The application, whose messages are discarded once the connection is closed.

    The cycle learns that an iteration of the loop later, and what uvicorn writes until then raises in uvloop.
    """

    async def answering(scope: Any, receive: Any, send: Any) -> None:
        async def sending(message: Any) -> None:
            if cycle.transport.is_closing():
                cycle.disconnected = True
            await send(message)

        await app(scope, receive, sending)

    return answering


class _IgnoringParser:
    """Replaces the parser, and ignores all data, once a refusal is to be the last response of the connection."""

    def feed_data(self, data: bytes) -> None:
        return None


class FramedConnection(HttpToolsProtocol):
    """uvicorn's protocol with strict framing. It never switches to another protocol."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._closing_with: bytes | None = None  # a refusal that waits for the responses to earlier requests

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        super()._start_asgi_task(cycle, _without_input_once_closed(app, cycle))

    def on_parser_interrupted(self, data: bytes, reason: Exception) -> None:
        """Handle a stop of the parser within `data`: ignore an `Upgrade`, refuse invalid HTTP.

        Do not call it inside the `except` block of `reason`: what the parser raises next must have its own context.
        """
        if isinstance(reason, httptools.HttpParserUpgrade):
            self._ignore_upgrade(data, reason.args[0])
        else:
            self._refuse_unparsed(reason)

    def on_headers_complete(self) -> None:
        """As uvicorn's, after a check of the framing. Trailers do not become headers: no proxy has checked them."""
        if self.parser.should_upgrade():
            return  # the head is parsed again, without `Upgrade`
        check_framing(self.headers, self.parser.get_http_version())
        super().on_headers_complete()
        self.headers = []

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def refuse(self, error: RequestError) -> None:
        """Answer with `error`, without the application, and close. Responses to earlier requests are sent first."""
        if self.transport.is_closing() or self._closing_with is not None:
            return
        refusal = message_bytes(error_message(error), closing=True)
        cycle: Any = self.cycle  # the last request that began; None before the first one
        if cycle is not None and not cycle.response_complete:
            refused = cycle.more_body  # whether it is this one; else the next
            if refused and self.pipeline:
                self.pipeline.popleft()
                refused = False
            if not refused:
                self._closing_with = refusal
                self.parser = _IgnoringParser()  # type: ignore[assignment]
                return
            if cycle.response_started:
                refusal = b""
        self._close_with(refusal)

    def send_last_response(self) -> None:
        """Send the refusal that was held back, if any, and close. Called once all requests before it are answered."""
        if self._closing_with is not None:
            self._close_with(self._closing_with)

    def _close_with(self, refusal: bytes) -> None:
        if refusal:
            self.transport.write(refusal)
        self.transport.close()

    def _ignore_upgrade(self, data: bytes, end: int) -> None:
        """Parse the head, which ends at `end`, again without `Upgrade`, and then the data after it."""
        rest = memoryview(data)
        while True:
            rest = rest[end:]
            try:
                head = self._head_without_upgrade()
                self.parser = _parser_of(self)  # the old one may have ended, by Connection: close
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

    def _head_without_upgrade(self) -> bytes:
        method, version = self.parser.get_method(), self.parser.get_http_version().encode()
        if method == b"CONNECT":
            raise Unimplemented("CONNECT is not served: this is no proxy")
        lines = [b"%b %b HTTP/%b" % (method, self.url, version)]
        lines += [b"%b: %b" % header for header in self.headers if header[0] != b"upgrade"]
        return b"\r\n".join((*lines, b"", b""))

    def _refuse_unparsed(self, error: Exception) -> None:
        cause = error.__context__
        if isinstance(cause, RequestError):
            self.refuse(cause)
        elif self.parser.get_method() == b"PRI":
            self.refuse(VersionUnsupported("HTTP/2 is not served; ask by HTTP/1.1"))
        else:
            self.logger.warning("Invalid HTTP request received.")
            reason = "the request line names no path that can be read" if cause is not None else error
            self.refuse(InvalidRequest(f"no HTTP request: {reason}"))


def check_framing(headers: RawHeaders, version: str) -> None:
    """Raises RequestError if the end of the body is ambiguous or its transfer coding is not supported."""
    if version not in VERSIONS:
        raise VersionUnsupported(f"HTTP/{version} is not served; ask by HTTP/1.1")
    codings = transfer_codings(headers)
    if not codings:
        return
    if codings[-1] != b"chunked":
        raise InvalidRequest("Transfer-Encoding must end in chunked, else no one knows where the body does")
    if version == "1.0":
        raise InvalidRequest("HTTP/1.0 has no Transfer-Encoding; send a Content-Length")
    if len(codings) > 1:
        raise Unimplemented(
            "of transfer codings only chunked is served; say what a body is compressed by in Content-Encoding"
        )


def transfer_codings(headers: RawHeaders) -> list[bytes]:
    """The transfer codings of the body, from all headers that name them, in lower case."""
    named = [value for name, value in headers if name == b"transfer-encoding"]
    return [coding.strip(b" \t").lower() for coding in b",".join(named).split(b",")] if named else named


def _parser_of(protocol: HttpToolsProtocol) -> httptools.HttpRequestParser:
    parser = httptools.HttpRequestParser(protocol)
    parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's parser has it
    return parser
