"""Readers of the control plane, who ask again as soon as they have their answer.

`python -m loadtests.readers PORT COUNT PATH`: until it is ended. A process of its own, as any reader of a gateway is.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

import uvloop

PART = 1 << 20
AGAIN_S = 0.05  # after a connection that was refused or ended
BEGUN_S = 2.0


@contextlib.contextmanager
def reading(port: int, count: int, path: str) -> Iterator[None]:
    """Meanwhile `count` readers ask for `path`."""
    with subprocess.Popen([sys.executable, "-m", "loadtests.readers", str(port), str(count), path]) as process:
        try:
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise SystemExit(f"the readers have ended with {process.wait(BEGUN_S)}")
            yield
        finally:
            process.kill()


async def _read(port: int, path: str) -> None:
    while True:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=PART)
            try:
                while True:
                    await _ask(reader, writer, path)
            finally:
                writer.close()
        await asyncio.sleep(AGAIN_S)


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str) -> None:
    """One answer; of an endless one, all of it."""
    writer.write(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    _, found, length = head.partition(b"content-length:")
    left = int(length.split(b"\r\n")[0]) if found else sys.maxsize
    while left:
        if not (part := await reader.read(min(left, PART))):
            raise ConnectionError
        left -= len(part)


async def _all(port: int, count: int, path: str) -> None:
    await asyncio.gather(*(_read(port, path) for _ in range(count)))


if __name__ == "__main__":
    os.nice(5)  # what many clients would need of a machine of their own, control must not be measured by
    uvloop.run(_all(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]))
