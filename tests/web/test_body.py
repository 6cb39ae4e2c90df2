"""Reading a request body: what it decodes to, and when it is not read at all."""

import asyncio
import gzip
import zlib
from typing import Any

import pytest

from gateway.errors import BodyTooLarge, GatewayError, InvalidRequest
from gateway.web.body import CHUNK_BYTES, Headers, read_body

LIMIT = 1024 * 1024
SEVERAL_CHUNKS = bytes(range(256)) * 64


class Client:
    """Sends `body` in one piece, and counts how often more was requested."""

    def __init__(self, body: bytes) -> None:
        self.body = body
        self.asked = 0

    async def receive(self) -> dict[str, Any]:
        self.asked += 1
        return {"type": "http.request", "body": self.body, "more_body": False}


def read(body: bytes, encoding: bytes = b"gzip", limit: int = LIMIT) -> bytes:
    return asyncio.run(read_body(Client(body).receive, {b"content-encoding": encoding}, limit))


@pytest.mark.parametrize(
    "members",
    [
        [b"alone"],
        [b"first, ", b"second"],
        [b"", b"after an empty one", b""],
        [SEVERAL_CHUNKS, b"between", SEVERAL_CHUNKS],
        [b"x"] * 1000,
    ],
)
def test_all_members_of_a_gzip_body_are_decoded(members: list[bytes]) -> None:
    assert read(b"".join(map(gzip.compress, members))) == b"".join(members)


@pytest.mark.parametrize("size", [CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1])
def test_gzip_member_may_end_at_a_chunk_boundary(size: int) -> None:
    stored = gzip.compress(bytes(size - 23), compresslevel=0)  # 18 bytes around it, and 5 of a stored block
    assert len(stored) == size
    assert read(stored + gzip.compress(b"end", mtime=0)) == bytes(size - 23) + b"end"


def test_limit_applies_to_all_gzip_members_together() -> None:
    member = gzip.compress(bytes(600))
    assert len(read(member * 2, limit=1200)) == 1200
    with pytest.raises(BodyTooLarge, match="max_body"):
        read(member * 2, limit=1199)


@pytest.mark.parametrize(
    ("body", "encoding", "says"),
    [
        (gzip.compress(b"whole", mtime=0) + gzip.compress(b"cut", mtime=0)[:-5], b"gzip", "cut short"),
        (gzip.compress(b"whole", mtime=0)[:-1], b"gzip", "cut short"),
        (b"", b"gzip", "cut short"),
        (gzip.compress(b"whole", mtime=0) + b"behind it", b"gzip", "not valid gzip"),
        (zlib.compress(b"whole") + b"behind it", b"deflate", "not valid deflate"),
    ],
)
def test_trailing_or_missing_compressed_data_is_refused(body: bytes, encoding: bytes, says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        read(body, encoding)


@pytest.mark.parametrize(
    ("headers", "asked"),
    [
        ({b"expect": b"100-continue"}, 0),
        ({b"expect": b"100-Continue"}, 0),
        ({b"expect": b"something else"}, 1),
        ({}, 1),
    ],
)
def test_expect_100_continue_for_a_too_large_body_is_refused_unread(headers: Headers, asked: int) -> None:
    client = Client(b"")
    with pytest.raises(GatewayError, match="max_body"):
        asyncio.run(read_body(client.receive, {**headers, b"content-length": b"%d" % (LIMIT + 1)}, LIMIT))
    assert client.asked == asked
