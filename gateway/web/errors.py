"""The one mapper from errors to HTTP answers: {"error": "…"} with the error's status and headers."""

import orjson
from starlette.types import Send

from gateway.errors import RequestError


async def send_error(send: Send, error: RequestError) -> None:
    """Answer with `error`."""
    body = orjson.dumps({"error": str(error)})
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
