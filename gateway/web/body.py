"""Reads a request's body once, up to a limit, and decompresses it."""

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.types import Receive

from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMedia

Headers = Mapping[bytes, bytes]
ENCODING: Final = b"content-encoding"
DISCARD_BYTES: Final = 8 * 1024 * 1024  # bytes read of a body that is too large, so that the client gets the response
INLINE_BYTES: Final = 2048  # compressed bytes decoded on the event loop: 2 MiB at most, in some milliseconds
_INFLATERS: Final = ThreadPoolExecutor(2, thread_name_prefix="inflate")  # bodies decompressed at once
CHUNK_BYTES: Final = 4096  # bytes decoded at a time: each of its many gzip members copies the rest of it
WINDOW_BITS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # x-gzip: RFC 9110, 8.4.1.3


def headers_by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by name, the last of each; content codings are joined into one list (RFC 9110, 5.3)."""
    named = dict(headers)
    if ENCODING in named:
        named[ENCODING] = b", ".join(value for name, value in headers if name == ENCODING)
    return named


class ClientGone(Exception):
    """The client closed the connection before its body was complete: there is nobody to answer."""


async def read_body(receive: Receive, headers: Headers, max_body: int) -> bytes:
    """The whole body, decompressed. Raises BodyTooLarge, UnsupportedMedia, InvalidRequest, or ClientGone."""
    body = await receive_body(receive, headers, max_body)
    if ENCODING not in headers:
        return body
    if len(body) <= INLINE_BYTES:
        return decompressed(body, headers, max_body)
    return await asyncio.get_running_loop().run_in_executor(_INFLATERS, decompressed, body, headers, max_body)


def decompressed(body: bytes, headers: Headers, max_body: int) -> bytes:
    """The body without its content coding. Raises BodyTooLarge, UnsupportedMedia, InvalidRequest."""
    encoding = headers.get(ENCODING)
    return body if encoding is None else _decoded(body, encoding, max_body)


async def receive_body(receive: Receive, headers: Headers, max_body: int) -> bytes:
    """The whole body as it was sent. Raises BodyTooLarge, or ClientGone."""
    declared = headers.get(b"content-length", b"0")
    if len(declared) > 18 or int(declared) > max_body:
        if headers.get(b"expect", b"").lower() != b"100-continue":  # else receiving would ask for the body
            await _discard(receive)
        raise _too_large(max_body)
    message = await receive()
    if message["type"] == "http.disconnect":
        raise ClientGone
    body: bytes = message["body"]
    if message["more_body"]:
        body = await _joined(receive, body, max_body)
    elif len(body) > max_body:
        raise _too_large(max_body)
    return body


async def _joined(receive: Receive, first: bytes, max_body: int) -> bytes:
    parts = [first]
    size = len(first)
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        parts.append(message["body"])
        size += len(message["body"])
        more = message["more_body"]
        if size > max_body:
            if more:
                await _discard(receive)
            raise _too_large(max_body)
    return b"".join(parts)


async def _discard(receive: Receive) -> None:
    """Read on: closing with unread bytes resets the connection, and the client might not get the response."""
    left = DISCARD_BYTES
    while left > 0:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone
        if not message["more_body"]:
            return
        left -= len(message["body"])


def _decoded(body: bytes, named: bytes, max_body: int) -> bytes:
    encodings = [encoding for part in named.split(b",") if (encoding := part.strip().lower()) not in (b"", b"identity")]
    if not encodings:
        return body
    encoding = b", ".join(encodings)  # two codings are refused: only attacks compress twice
    if encoding not in WINDOW_BITS:
        known = ", ".join(name.decode() for name in WINDOW_BITS)
        raise UnsupportedMedia(
            f"content-encoding {encoding.decode(errors='replace')!r} is not served; known are {known}"
        )
    try:
        result, complete = _inflated(memoryview(body), WINDOW_BITS[encoding], max_body)
    except zlib.error as error:
        raise InvalidRequest(f"the body is not valid {encoding.decode()}: {error}") from None
    if not complete:
        raise InvalidRequest(f"the {encoding.decode()} body is cut short")
    return result


def _inflated(body: memoryview, window_bits: int, max_body: int) -> tuple[bytes, bool]:
    """Decompress all members of the body (gzip allows several); also returns whether the last one is complete."""
    result = bytearray()
    decompressor = zlib.decompressobj(window_bits)
    offset = 0
    while offset < len(body):
        if decompressor.eof:
            decompressor = zlib.decompressobj(window_bits)
        chunk = body[offset : offset + CHUNK_BYTES]
        result += decompressor.decompress(chunk, max_body + 1 - len(result))
        if len(result) > max_body:
            raise _too_large(max_body)
        offset += len(chunk) - len(decompressor.unused_data)
    return bytes(result), decompressor.eof


def _too_large(max_body: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is larger than server.max_body, {max_body} bytes; send fewer rows at a time, or binary"
    )
