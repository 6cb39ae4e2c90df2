"""The server in a version's process: runs the calls of all workers, in batches that they share."""

import asyncio
import logging
import os
import socket
import struct
from collections.abc import Callable, Sequence
from typing import Any, Final, cast

import orjson

from gateway.backends.batch import Answer, Batch, BatchItem
from gateway.backends.batcher import Batcher
from gateway.backends.process import tensors
from gateway.backends.process.frames import FrameError, FrameReader, frame
from gateway.backends.process.link import GREETING
from gateway.backends.process.protocol import ANSWER, CALL, CANCEL, ERROR, FREE, RETURN, described
from gateway.errors import Overloaded
from gateway.shm.arena import Arena, ArenaError, ArenaView, Block

POLL_S: Final = 0.02  # between two checks whether the run of a cancelled call has ended
HUNG_POLLS: Final = 100  # after so many checks, a run that was told to end and goes on ends the process
HUNG: Final = 70  # the exit code in that case
GREETED_WITHIN_S: Final = 1.0
_CREDENTIALS: Final = struct.Struct("3i")  # process, user and group of the other side
log: Final = logging.getLogger("gateway.backends")


class Server:
    """Serves the connections to `listening`. `greeting`: the first message to each, which describes the version.
    `outputs`: the version's output names. `batcher` None: the version could not be loaded, as `greeting` says.
    """

    def __init__(
        self, listening: socket.socket, greeting: dict[str, Any], batcher: Batcher | None, outputs: Sequence[str] = ()
    ) -> None:
        self.batcher = batcher
        self.outputs = outputs
        self._listening = listening
        self._greeting = frame(greeting)
        self._counted: Batch | None = None
        self.connections: set[Connection] = set()
        self.none_left: Callable[[], None] = lambda: None  # called when the last connection has ended

    async def serve(self) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listening)
            try:
                await self._welcome(connection)
            except (OSError, ArenaError) as error:
                log.error("a worker could not connect: %s", error)
                connection.close()

    async def _welcome(self, connection: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        _check_user(connection)
        connection.settimeout(GREETED_WITHIN_S)  # the worker sends the descriptor as soon as it connects
        greeting, files, _, _ = socket.recv_fds(connection, len(GREETING), 1)
        if greeting != GREETING or len(files) != 1:
            raise ArenaError("it did not pass its memory")
        made = Connection(ArenaView(files[0]), self)
        socket.send_fds(connection, [GREETING], [made.arena.file])
        connection.setblocking(False)
        transport, _ = await loop.create_connection(lambda: made, sock=connection)
        transport.write(self._greeting)
        self.connections.add(made)

    def counts(self, batch: Batch | None) -> bool:
        """Whether this is the first call for this batch; the answers of a batch are sent one after the other."""
        new, self._counted = batch is not self._counted, batch
        return new

    def ended(self, connection: "Connection") -> None:
        """Remove a connection that has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self.none_left()


def _check_user(connection: socket.socket) -> None:
    """Raise ArenaError if another user has connected: an abstract socket has no permissions of its own."""
    if hasattr(socket, "SO_PEERCRED"):
        _, user, _ = _CREDENTIALS.unpack(
            connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        )
        if user not in (0, os.geteuid()):
            raise ArenaError(f"user {user}, who does not run this gateway, has connected")


class Connection(asyncio.Protocol):
    """The connection of one worker. `memory`: the worker's, with inputs. `arena`: this process's, for answers to it."""

    def __init__(self, memory: ArenaView, server: Server) -> None:
        self.arena = Arena()
        self._memory = memory
        self._server = server
        self._reader = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, BatchItem] = {}
        self._answers: dict[int, Block] = {}  # by offset
        self._ending: dict[int, tuple[Batch, int]] = {}  # cancelled calls whose batch still runs, and checks so far
        self._polling = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Execute each message. A worker that violates the protocol loses its connection."""
        try:
            for message in self._reader.feed(data):
                self._execute(message)
        except (FrameError, ArenaError, orjson.JSONDecodeError, ValueError, TypeError, KeyError, IndexError) as error:
            log.error("a worker violates the protocol, and its connection is closed: %r", error)
            assert self._transport is not None
            self._transport.abort()

    def connection_lost(self, error: Exception | None) -> None:
        for item in self._calls.values():
            item.cancel()
        self._calls.clear()
        self._memory.close()
        self.arena.close()
        self._server.ended(self)

    def _execute(self, message: Any) -> None:
        kind = message[0]
        if kind == CALL:
            self._call(*message[1:])
        elif kind == RETURN:
            for offset in message[1]:
                self.arena.give_back(self._answers.pop(offset))
        elif kind == CANCEL:
            item = self._calls.get(message[1])
            if item is not None:
                item.cancel()
        else:
            raise ValueError(f"there is no message {kind}")

    def _call(self, number: int, deadline_ns: int, alone: bool, inputs: list[Any]) -> None:
        feeds = dict(tensors.read(self._memory, one, copy=False) for one in inputs)
        if self._server.batcher is None:
            self._send([ERROR, number, *described(Overloaded("the version could not be loaded"))])
            return
        submit = self._server.batcher.submit_alone if alone else self._server.batcher.submit
        item = self._calls[number] = submit(feeds, deadline_ns)
        item.add_done_callback(lambda done: self._done(number, done))

    def _done(self, number: int, item: "asyncio.Future[Answer]") -> None:
        assert isinstance(item, BatchItem)
        if self._calls.pop(number, None) is None:
            return  # the worker is gone
        batch = item.batch
        if batch is not None and not batch.ended_ns and (item.cancelled() or item.exception() is not None):
            self._ending[number] = batch, 0
            self._poll()
        elif item.cancelled():
            self._send([FREE, number])
        elif (error := item.exception()) is not None:
            assert isinstance(error, Exception)
            self._send([ERROR, number, *described(error)])
        else:
            self._answer(number, item, item.result())

    def _answer(self, number: int, item: BatchItem, answer: Answer) -> None:
        named = list(zip(self._server.outputs, answer, strict=True))
        written = tensors.write(self.arena, [(name, result) for name, result in named if result is not None])
        if written is None:
            self._send([ERROR, number, *described(Overloaded("there is no shared memory left for the answer"))])
            return
        block, parts = written
        self._answers[block.offset] = block
        left = iter(parts)
        outputs = [None if result is None else next(left) for _, result in named]
        counts = self._server.counts(item.batch)
        run_ns = 0 if item.batch is None else item.batch.ended_ns - item.batch.started_ns
        self._send([ANSWER, number, outputs, answer.queued_ns, answer.batch_rows, run_ns, counts])

    def _poll(self) -> None:
        """Check later whether runs of cancelled calls have ended: until then they may read the inputs."""
        if not self._polling and self._ending:
            self._polling = True
            asyncio.get_running_loop().call_later(POLL_S, self._look)

    def _look(self) -> None:
        self._polling = False
        for number, (batch, polls) in list(self._ending.items()):
            if batch.ended_ns:
                del self._ending[number]
                self._send([FREE, number])
            elif polls == HUNG_POLLS:
                log.error("a run has not ended although it was told to: its process ends")
                os._exit(HUNG)
            else:
                self._ending[number] = batch, polls + 1
        self._poll()

    def _send(self, message: Any) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(frame(message))
