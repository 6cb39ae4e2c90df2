"""What a body that should be JSON is refused for: its content type, or its form."""

from typing import Final

from gateway.errors import RequestError, UnsupportedMedia
from gateway.protocol.elements import short
from gateway.protocol.json_text import NotJson
from gateway.web.body import Headers

# What clients send JSON as without saying so: nothing, what curl and HTTP libraries name by default, and raw bytes.
_UNSAID: Final = frozenset({"", "*/*", "application/x-www-form-urlencoded", "application/octet-stream"})
_BEGINS_JSON: Final = (b"{", b"[")
_LOOKED_AT: Final = 64  # bytes


def refusal_of(error: NotJson, body: bytes, headers: Headers, remedy: str) -> RequestError:
    """UnsupportedMedia with the `remedy` if the content type names something other than JSON and the body does not
    begin as JSON either; else `error`. For bodies that have been refused: a type by itself refuses nothing.
    """
    kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")
    if kind in _UNSAID or "json" in kind or body[:_LOOKED_AT].lstrip().startswith(_BEGINS_JSON):
        return error
    return UnsupportedMedia(f"the content type {short(kind)} is not supported: {remedy}")
