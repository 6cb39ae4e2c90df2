"""An inference request as the client sent it: its bytes, and how other systems identify it."""

from dataclasses import dataclass
from typing import Final, NamedTuple


class Trace(NamedTuple):
    """The caller's trace context. `trace_id`: 32 hexadecimal digits; `span_id`: the caller's span, 16 digits.

    `sampled`: whether the caller records the trace.
    """

    trace_id: str
    span_id: str
    sampled: bool


class Origin(NamedTuple):
    """Where a request comes from: its trace, and its x-request-id header; None if missing or invalid. `delegated_by`:
    the customer whose key sent it for another one, else None.
    """

    trace: Trace | None = None
    request_id: str | None = None
    delegated_by: str | None = None


UNKNOWN_ORIGIN: Final = Origin()


@dataclass(slots=True)
class RequestSource:
    """The request as received, decompressed. `json_length`: bytes of JSON before raw tensors (None: all JSON).

    `media`: image, audio, video, text or raw if the body is a single raw element without JSON, else None. `origin`:
    the identifiers from the headers, and the key's customer if that is another one; None if there are none.
    """

    body: bytes
    json_length: int | None = None
    media: str | None = None
    origin: Origin | None = None

    @property
    def received(self) -> bytes:
        """The decompressed body exactly as the client sent it."""
        return self.body


class RestatedSource(RequestSource):
    """A request received as invalid JSON (with NaN as a number); `body` is valid JSON, so that a record can hold it."""

    def __init__(self, body: bytes, json_length: int | None, received: bytes) -> None:
        super().__init__(body, json_length)
        self._received = received

    @property
    def received(self) -> bytes:
        return self._received
