"""The one mapper from errors to HTTP answers: {"error": "…"} with the error's status and headers."""

import orjson
from starlette.types import Send

from gateway.errors import RequestError

Message = tuple[int, list[tuple[bytes, bytes]], bytes]  # status, headers, body


def error_message(error: RequestError) -> Message:
    """What `error` is answered with."""
    body = orjson.dumps({"error": str(error)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    return error.status, headers, body


async def send_error(send: Send, error: RequestError) -> None:
    """Answer with `error`."""
    status, headers, body = error_message(error)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
