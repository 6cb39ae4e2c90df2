"""Reads a request's body once, within its limit, and undoes its content encoding."""

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from starlette.types import Receive

from gateway.errors import BodyTooLarge, InvalidRequest, UnsupportedMedia

Headers = Mapping[bytes, bytes]
ENCODING: Final = b"content-encoding"
DISCARD: Final = 8 * 1024 * 1024  # read this much of a body that is too large, so that the client hears the answer
QUICK: Final = 2048  # compressed bytes that are decoded at once: 2 MiB at most, which takes some milliseconds
_INFLATERS: Final = ThreadPoolExecutor(2, thread_name_prefix="inflate")  # so many bodies grow at once
CHUNK: Final = 4096  # decoded at a time: what is left of it is copied for each member, of which many fit in it
WINDOW_BITS: Final = {b"gzip": 31, b"x-gzip": 31, b"deflate": 15}  # x-gzip: RFC 9110, 8.4.1.3


def by_name(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The headers by name, the last of each; of content codings all, as the list that they are (RFC 9110, 5.3)."""
    named = dict(headers)
    if ENCODING in named:
        named[ENCODING] = b", ".join(value for name, value in headers if name == ENCODING)
    return named


class ClientGone(Exception):
    """The client closed the connection before its body was complete, so there is no one to answer."""


async def read_body(receive: Receive, headers: Headers, max_body: int) -> bytes:
    """The whole body, decompressed. Raises BodyTooLarge, UnsupportedMedia, InvalidRequest, or ClientGone."""
    body = await receive_body(receive, headers, max_body)
    if ENCODING not in headers:
        return body
    if len(body) <= QUICK:
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
        if headers.get(b"expect", b"").lower() != b"100-continue":  # else to receive is to ask for the body
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
    """A connection closed with unread bytes is reset, and the client might never see why."""
    left = DISCARD
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
    encoding = b", ".join(encodings)  # what was compressed twice is not served: who does so means harm
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
        raise InvalidRequest(f"the {encoding.decode()} body is truncated")
    return result


def _inflated(body: memoryview, window_bits: int, max_body: int) -> tuple[bytes, bool]:
    """All members of the body, one after the other as gzip allows them, and whether the last one is complete."""
    result = bytearray()
    decompressor = zlib.decompressobj(window_bits)
    offset = 0
    while offset < len(body):
        if decompressor.eof:
            decompressor = zlib.decompressobj(window_bits)
        chunk = body[offset : offset + CHUNK]
        result += decompressor.decompress(chunk, max_body + 1 - len(result))
        if len(result) > max_body:
            raise _too_large(max_body)
        offset += len(chunk) - len(decompressor.unused_data)
    return bytes(result), decompressor.eof


def _too_large(max_body: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"the body is larger than server.max_body, {max_body} bytes; send fewer rows at a time, or binary"
    )
