"""Identifiers of a request in other systems: W3C Trace Context (www.w3.org/TR/trace-context) and x-request-id.

Invalid headers are ignored: neither recorded nor sent back.
"""

import re
from collections.abc import Mapping
from typing import Final

from gateway.protocol.source import UNKNOWN_ORIGIN
from gateway.records.line import MAX_ID_LENGTH
from gateway.web.body import Headers
from gateway.worker.call import Call, Origin, Trace

TRACEPARENT: Final = b"traceparent"
REQUEST_ID: Final = b"x-request-id"
# version - trace id - span id - flags; versions after 00 may have more after another dash
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_SAMPLED: Final = frozenset(b"%02x" % flags for flags in range(1, 256, 2))
_REQUEST_ID: Final = re.compile(rb"[!-~]{1,%d}" % MAX_ID_LENGTH)  # no character that could end a header


def parse_traceparent(header: bytes) -> Trace | None:
    """The trace, or None if the header is not valid: the request is then served as if it had none."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more is not None and version == b"00":
        return None
    return Trace(trace_id.decode(), span_id.decode(), flags in _SAMPLED)


def origin_of(headers: Headers) -> Origin | None:
    """The identifiers that the headers hold; None if there are none."""
    trace = parse_traceparent(headers.get(TRACEPARENT, b""))
    request_id = headers.get(REQUEST_ID, b"")
    if _REQUEST_ID.fullmatch(request_id):
        return Origin(trace, request_id.decode())
    return None if trace is None else Origin(trace, None)


def echo_of(origin: Origin | None) -> list[tuple[bytes, bytes]]:
    """The response header that returns the caller's x-request-id, if there is one."""
    if origin is None or origin.request_id is None:
        return []
    return [(REQUEST_ID, origin.request_id.encode())]


def log_extra(origin: Origin | None, call: Call | None) -> Mapping[str, str | None]:
    """The fields of a log entry on a request, for logging's `extra`. `call`: None if there is none yet."""
    trace, request_id, _ = origin or UNKNOWN_ORIGIN
    if call is not None and not request_id and call.request.id:
        request_id = call.request.id[:MAX_ID_LENGTH]
    return {
        "prediction_id": call.prediction_id.decode() if call is not None and call.prediction_id else None,
        "trace_id": trace.trace_id if trace else None,
        "request_id": request_id,
    }
