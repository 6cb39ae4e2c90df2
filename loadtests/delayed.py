"""A server of the Open Inference Protocol whose answers are ready in advance, and come after an exponential delay.

`python -m loadtests.delayed PORT MEAN_MS`. A delay takes no processor time: what is slower takes it from no one.
"""

import asyncio
import random
import re
import sys
from typing import Any, Final

import orjson
import uvloop

from loadtests.canned import ANSWER, MODEL, SERVER

LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def _response(document: object) -> bytes:
    body = orjson.dumps(document)
    return b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


ANSWERED: Final = _response(ANSWER)
MODEL_TOLD: Final = _response(MODEL)
SERVER_TOLD: Final = _response(SERVER)


class Connection(asyncio.Protocol):
    """One request after the other."""

    def __init__(self, mean_s: float) -> None:
        self._mean_s = mean_s
        self._buffer = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # uvloop's are no asyncio.Transport

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, separator, rest = self._buffer.partition(b"\r\n\r\n")
        found = LENGTH.search(head)
        length = int(found[1]) if found else 0
        if not separator or len(rest) < length:
            return
        self._buffer = rest[length:]
        if head.startswith(b"POST"):
            delay_s = random.expovariate(1 / self._mean_s)
            asyncio.get_running_loop().call_later(delay_s, self._answer, ANSWERED)
        else:
            self._answer(MODEL_TOLD if head.startswith(b"GET /v2/models/") else SERVER_TOLD)

    def _answer(self, response: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(response)


async def serve(port: int, mean_s: float) -> None:
    """Until it is ended."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(mean_s), "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1]), float(sys.argv[2]) / 1e3))
