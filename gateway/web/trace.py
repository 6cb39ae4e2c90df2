"""W3C Trace Context (www.w3.org/TR/trace-context): whose trace a request belongs to, from its header `traceparent`."""

import re
from typing import Final, NamedTuple

# version - trace id - span id - flags; a version after 00 may go on behind a further dash
_TRACEPARENT: Final = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.DOTALL
)
_SAMPLED: Final = frozenset(b"%02x" % flags for flags in range(1, 256, 2))


class Trace(NamedTuple):
    """`trace_id`: 32 hexadecimal digits; `span_id`: the caller's span, 16; `sampled`: whether the caller records it."""

    trace_id: str
    span_id: str
    sampled: bool


def parse_traceparent(header: bytes) -> Trace | None:
    """The trace, or None where the header is not valid: then the request is to be served as if it had none."""
    match = _TRACEPARENT.fullmatch(header)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more is not None and version == b"00":
        return None
    return Trace(trace_id.decode(), span_id.decode(), flags in _SAMPLED)
