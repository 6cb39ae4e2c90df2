"""Encodes predictions as HTTP responses, for connections that write them without ASGI messages."""

from typing import Final

from gateway.web.responses import CLOSE, KEEP_OPEN
from gateway.worker.reply import Reply

_JSON: Final = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\nx-prediction-id: %b\r\n"
    b"x-model-version: %b\r\nx-variant: %b\r\n%b\r\n%b"
)
_BINARY: Final = _JSON.replace(b"json", b"octet-stream").replace(
    b"\r\n%b\r\n%b", b"\r\n%binference-header-content-length: %d\r\n\r\n%b"
)


def prediction_bytes(reply: Reply, *, closing: bool) -> bytes:
    """The response bytes; `closing`: it ends the connection. One formatting step, since every prediction needs it."""
    more = CLOSE if closing else KEEP_OPEN
    call, body = reply.call, reply.body
    origin = call.source.origin
    if origin is not None and origin.request_id is not None:
        more += b"x-request-id: %b\r\n" % origin.request_id.encode()
    version, variant = call.version.text.encode(), call.decision.variant.encode()
    if reply.json_length is None:
        return _JSON % (len(body), call.prediction_id, version, variant, more, body)
    return _BINARY % (len(body), call.prediction_id, version, variant, more, reply.json_length, body)
