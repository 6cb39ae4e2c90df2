"""A server of raw bytes: it describes a model that doubles `x`, and answers inference as each test tells it to."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

METADATA = {
    "name": "m",
    "versions": ["1"],
    "platform": "raw",
    "inputs": [{"name": "x", "datatype": "FP32", "shape": [-1, 2]}],
    "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
}
Answer = Callable[[asyncio.StreamWriter, bytes], Awaitable[None]]


def http(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def doubled(**changes: Any) -> bytes:
    output = {"name": "y", "datatype": "FP32", "shape": [1, 2], "data": [2.0, 4.0]} | changes.pop("output", {})
    return json.dumps({"model_name": "m", "model_version": "1", "outputs": [output]} | changes).encode()


class RawServer:
    """`answer` writes the bytes for one inference request. `requests` counts them, `connections` those opened."""

    def __init__(self) -> None:
        self.answer: Answer = self.well
        self.requests = 0
        self.connections = 0
        self.ready = True
        self.url = ""
        self.closed_by_client = 0
        self.heads: list[bytes] = []
        self._writers: set[asyncio.StreamWriter] = set()

    async def well(self, writer: asyncio.StreamWriter, body: bytes) -> None:
        writer.write(http(doubled()))

    def close_connections(self) -> None:
        for writer in self._writers:
            writer.close()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if head.startswith(b"GET"):
                    path = head.split()[1]
                    found = {"extensions": ["binary_tensor_data"]} if path == b"/v2" else METADATA
                    writer.write(http(json.dumps(found).encode(), "200 OK" if self.ready else "503 no"))
                    continue
                self.heads.append(head)
                length = int(head.lower().split(b"content-length: ")[-1].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests += 1
                answering = asyncio.ensure_future(self.answer(writer, body))
                gone = asyncio.ensure_future(reader.read(1)) if self.answer is hanging else None
                if gone is not None:
                    await gone
                    self.closed_by_client += 1
                await answering
        writer.close()
        self._writers.discard(writer)


async def hanging(writer: asyncio.StreamWriter, body: bytes) -> None:
    """Never answer."""


@contextlib.asynccontextmanager
async def raw_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[RawServer]:
    server = RawServer()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 24, ssl=tls)
    server.url = f"{'https' if tls else 'http'}://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        yield server
    finally:
        listening.close()
        server.close_connections()
