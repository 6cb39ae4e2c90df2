"""The headers that identify a request in other systems, for a server that it is sent to."""

from gateway.protocol.source import Origin


def trace_headers(origin: Origin) -> bytes:
    """W3C trace context and x-request-id, as lines of a head."""
    lines = b""
    if origin.trace is not None:
        trace_id, span_id, sampled = origin.trace
        lines += f"traceparent: 00-{trace_id}-{span_id}-{int(sampled):02x}\r\n".encode()
    if origin.request_id is not None:
        lines += f"x-request-id: {origin.request_id}\r\n".encode()
    return lines
