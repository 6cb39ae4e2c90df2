"""The one mapper from errors to HTTP answers: {"error": "…"} with the error's status and headers."""

from collections.abc import Iterable

import orjson
from starlette.types import Send

from gateway.errors import RequestError

Message = tuple[int, list[tuple[bytes, bytes]], bytes]  # status, headers, body


def error_message(error: RequestError, more: Iterable[tuple[bytes, bytes]] = ()) -> Message:
    """What `error` is answered with; `more` headers go with it."""
    body = orjson.dumps({"error": str(error)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    headers += more
    return error.status, headers, body


async def send_error(send: Send, error: RequestError, more: Iterable[tuple[bytes, bytes]] = ()) -> None:
    """Answer with `error`; `more` headers go with it."""
    status, headers, body = error_message(error, more)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
