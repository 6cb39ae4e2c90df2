"""The server in a version's process: runs the calls of all workers, in batches that they share."""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from gateway.backends.batch import Batch
from gateway.backends.batcher import Batcher
from gateway.backends.process.connection import Connection
from gateway.backends.process.ending_runs import EndingRuns
from gateway.backends.process.frames import frame
from gateway.backends.process.link import HELLO, check_user, file_of
from gateway.backends.process.protocol import GREETING
from gateway.backends.signature import Feeds
from gateway.shm.arena import ArenaView

GREETED_WITHIN_S: Final = 5.0
ACCEPT_AGAIN_S: Final = 0.1
JOIN_NS: Final = 100_000  # calls that take less one after the other are not joined: that takes as long
log: Final = logging.getLogger("gateway.backends")


class Server:
    """Serves the connections to `listening`. `greeting`: the first frame to each, which describes the version.
    `outputs`: the version's output names. `batcher` None: the version could not be loaded, as `greeting` says.
    """

    def __init__(
        self, listening: socket.socket, greeting: dict[str, Any], batcher: Batcher | None, outputs: Sequence[str] = ()
    ) -> None:
        self.batcher = batcher
        self.outputs = outputs
        self._listening = listening
        self._greeting = frame(GREETING, 0, orjson.dumps(greeting))
        self._counted: Batch | None = None
        self.ending = EndingRuns()
        self._to_send: list[Connection] = []
        self._sending: asyncio.Handle | None = None
        self._receiving = False
        self.run_ns = JOIN_NS  # the last call that ran at once
        self._welcoming: set[asyncio.Task[None]] = set()
        self.connections: set[Connection] = set()
        self.none_left: Callable[[], None] = lambda: None  # called when the last connection has ended

    async def serve(self) -> None:
        """Accept connections until cancelled; continues after errors, such as a short lack of file descriptors."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except Exception as error:
                log.error("no worker can connect: %s", error)
                await asyncio.sleep(ACCEPT_AGAIN_S)
                continue
            welcoming = loop.create_task(self._welcome(connection))
            self._welcoming.add(welcoming)
            welcoming.add_done_callback(self._welcoming.discard)

    async def _welcome(self, connection: socket.socket) -> None:
        """Exchange both sides' memory, and send the description of the version."""
        loop = asyncio.get_running_loop()
        with contextlib.ExitStack() as undo:
            undo.callback(connection.close)
            try:
                connection.setblocking(False)
                check_user(connection)
                async with asyncio.timeout(GREETED_WITHIN_S):
                    memory = ArenaView(await file_of(loop, connection))
                undo.callback(memory.close)
                made = Connection(memory, self)
                undo.callback(made.arena.close)
                socket.send_fds(connection, [HELLO], [made.arena.file])
                transport, _ = await loop.create_connection(lambda: made, sock=connection)
            except Exception as error:
                log.error("a worker could not connect: %s", error)
                return
            undo.pop_all()
        transport.write(self._greeting)
        self.connections.add(made)

    def begin_receiving(self) -> None:
        """A connection is about to pass on what it has received; `end_receiving` must follow."""
        self._receiving = True

    def end_receiving(self) -> None:
        """It has passed it on. Calls of several connections may share a batch: then wait for them."""
        try:
            if self.batcher is not None and len(self.connections) == 1:
                self.batcher.run_waiting()
        finally:  # else nothing would be sent any more until something is received
            self._receiving = False
            if self._to_send:
                self._send_all()

    def runs_now(self, feeds: Feeds, calls: int) -> Batcher | None:
        """The batcher if a call may run at once: nothing else runs or could share its batch, but for the few `calls`,
        itself included, that have come together.
        """
        batcher = self.batcher
        if batcher is None or len(self.connections) > 1 or (calls > 1 and calls * self.run_ns > JOIN_NS):
            return None
        return None if batcher.must_queue(feeds) or not batcher.idle else batcher

    def send_soon(self, connection: Connection) -> None:
        """Have the connection send its frames at the end of what runs now."""
        self._to_send.append(connection)
        if self._sending is None and not self._receiving:
            self._sending = asyncio.get_running_loop().call_soon(self._send_all)

    def _send_all(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
        connections, self._to_send = self._to_send, []
        for connection in connections:
            connection.send_all()

    def counts(self, batch: Batch) -> bool:
        """Whether this is the first call for this batch; the answers of a batch are sent one after the other."""
        new, self._counted = batch is not self._counted, batch
        return new

    def ended(self, connection: Connection) -> None:
        """Remove a connection that has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self.none_left()
