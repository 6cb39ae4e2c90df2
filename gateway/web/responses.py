"""HTTP responses of both planes: JSON, errors as {"error": "…"}, and responses as bytes, without ASGI messages."""

from collections.abc import Iterable
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.errors import RequestError

Message = tuple[int, list[tuple[bytes, bytes]], bytes]  # status, headers, body
KEEP_OPEN: Final = b""  # the connection header of a response after which the connection stays open
CLOSE: Final = b"connection: close\r\n"  # and of one that ends the connection


class JsonResponse(Response):
    """A JSON response."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return orjson.dumps(content)


def error_message(error: RequestError, more: Iterable[tuple[bytes, bytes]] = ()) -> Message:
    """The response to `error`, with the headers `more` added."""
    body = orjson.dumps({"error": str(error)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    headers += more
    return error.status, headers, body


async def send_error(send: Send, error: RequestError, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Send the response to `error`, with the headers `more` added."""
    status, headers, body = error_message(error, more)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def message_bytes(message: Message, *, closing: bool) -> bytes:
    """The bytes of a response. `closing`: it ends the connection; `message` may already have the header for that."""
    status, headers, body = message
    closing &= all(name != b"connection" for name, _ in headers)
    parts = [STATUS_LINE[status]]
    for name, value in headers:
        parts += (name, b": ", value, b"\r\n")
    parts += (CLOSE if closing else KEEP_OPEN, b"\r\n", body)
    return b"".join(parts)
