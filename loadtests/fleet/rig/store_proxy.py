"""A TCP proxy before the store, as a process of its own: passes on, slowly, in one direction only, or refuses.

`python -m loadtests.fleet.rig.store_proxy UPSTREAM_PORT PORT...`: one port for each host, so that each has its own
way. A line of standard input `PORT MODE [SECONDS]` sets a way's mode; it is answered once that is in force.
"""

import asyncio
import contextlib
import sys
from typing import Final

CHUNK: Final = 65536
LOOK_S: Final = 0.005
PASS, NO_REQUESTS, NO_REPLIES, REFUSE = MODES = ("pass", "no-requests", "no-replies", "refuse")


class Way:
    """The way of one host to the store. `delay_s`: in each direction."""

    def __init__(self, port: int, upstream: int) -> None:
        self._port = port
        self._upstream = upstream
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.mode = PASS
        self.delay_s = 0.0

    async def set(self, mode: str, delay_s: float) -> None:
        """Apply to the connections that exist, too; refused ones are closed, and no one listens."""
        self.mode, self.delay_s = mode, delay_s
        if mode != REFUSE and self._server is None:
            self._server = await asyncio.start_server(self._serve, "0.0.0.0", self._port)
        elif mode == REFUSE and self._server is not None:
            self._server.close()
            self._server = None
            for task in self._tasks:
                task.cancel()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            store_reader, store_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
            ways = (
                asyncio.create_task(self._carry(reader, store_writer, NO_REQUESTS)),
                asyncio.create_task(self._carry(store_reader, writer, NO_REPLIES)),
            )
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                store_writer.close()
        except (OSError, asyncio.CancelledError):
            pass  # the store does not listen, or the path refuses now
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, held: str) -> None:
        """Each piece leaves `delay_s` after it came, so that several are under way at once. What may not pass is kept,
        as TCP does: it arrives once it may.
        """
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while piece := await reader.read(CHUNK):
                while self.mode == held:
                    await asyncio.sleep(LOOK_S)
                if self.delay_s:
                    loop.call_later(self.delay_s, _write, writer, piece)
                else:
                    writer.write(piece)


def _write(writer: asyncio.StreamWriter, piece: bytes) -> None:
    if not writer.is_closing():
        writer.write(piece)


async def _run(upstream: int, ports: list[int]) -> None:
    ways = {port: Way(port, upstream) for port in ports}
    for way in ways.values():
        await way.set(PASS, 0.0)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    print("ready", flush=True)
    while line := await orders.readline():
        port, mode, *seconds = line.decode().split()
        await ways[int(port)].set(mode, float(seconds[0]) if seconds else 0.0)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(_run(int(sys.argv[1]), [int(port) for port in sys.argv[2:]]))
