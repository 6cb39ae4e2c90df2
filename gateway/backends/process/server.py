"""The server in a version's process: runs the calls of all workers, in batches that they share."""

import asyncio
import contextlib
import logging
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

import orjson

from gateway.backends.batch import Answer, Batch
from gateway.backends.batcher import Batcher
from gateway.backends.process.frames import FrameReader, frame
from gateway.backends.process.link import HELLO, VIOLATIONS, check_user, file_of
from gateway.backends.process.protocol import (
    ALONE,
    ANSWER,
    ANSWER_HEAD,
    CALL,
    CALL_HEAD,
    CANCEL,
    COUNT,
    ERROR,
    FREE,
    GREETING,
    RETURN,
    described,
)
from gateway.backends.process.served_call import ServedCall
from gateway.backends.process.start import HUNG
from gateway.backends.process.tensors import Named, TensorReader, TensorWriter
from gateway.errors import Overloaded
from gateway.shm.arena import Arena, ArenaError, ArenaView, Block

POLL_S: Final = 0.02  # between two checks whether the run of a cancelled call has ended
HUNG_POLLS: Final = 100  # after so many checks, a run that was told to end and goes on ends the process
GREETED_WITHIN_S: Final = 5.0
ACCEPT_AGAIN_S: Final = 0.1
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
        self._ending: list[_Ending] = []
        self._polling = False
        self._to_send: list[Connection] = []
        self._sending: asyncio.Handle | None = None
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

    def run_waiting(self) -> None:
        """A connection has passed on what it has received. Calls of several may share a batch: then wait for them."""
        if self.batcher is not None and len(self.connections) == 1:
            self.batcher.run_waiting()
        if self._sending is not None:
            self._sending.cancel()
            self._send_all()

    def send_soon(self, connection: "Connection") -> None:
        """Have the connection send its frames at the end of what runs now."""
        self._to_send.append(connection)
        if self._sending is None:
            self._sending = asyncio.get_running_loop().call_soon(self._send_all)

    def _send_all(self) -> None:
        self._sending = None
        connections, self._to_send = self._to_send, []
        for connection in connections:
            connection.send_all()

    def wait_for(self, batch: Batch, free: Callable[[], None]) -> None:
        """Call `free` when the batch has ended; it may run on after a call in it is over."""
        self._ending.append(_Ending(batch, free))
        self._poll()

    def _poll(self) -> None:
        if self._ending and not self._polling:
            self._polling = True
            asyncio.get_running_loop().call_later(POLL_S, self._look)

    def _look(self) -> None:
        self._polling = False
        ending, self._ending = self._ending, []
        for one in ending:
            if one.batch.ended_ns:
                one.free()
                continue
            if one.batch.options is not None and one.batch.options.terminate:
                one.polls += 1
            if one.polls > HUNG_POLLS:
                log.error("a run has not ended although it was told to: its process ends")
                os._exit(HUNG)
            self._ending.append(one)
        self._poll()

    def counts(self, batch: Batch | None) -> bool:
        """Whether this is the first call for this batch; the answers of a batch are sent one after the other."""
        new, self._counted = batch is not self._counted, batch
        return new

    def ended(self, connection: "Connection") -> None:
        """Remove a connection that has ended."""
        self.connections.discard(connection)
        if not self.connections:
            self.none_left()


@dataclass(slots=True)
class _Ending:
    """A batch that still runs although a call in it is over. `polls`: the number of checks since it was told to end."""

    batch: Batch
    free: Callable[[], None]
    polls: int = 0


class Connection(asyncio.Protocol):
    """The connection of one worker. `memory`: the worker's, with inputs. `arena`: this process's, for answers to it.
    Raises ArenaError if there is no memory left.
    """

    def __init__(self, memory: ArenaView, server: Server) -> None:
        self.arena = Arena()
        self._memory = memory
        self._server = server
        self._inputs = TensorReader(memory)
        self._outputs = TensorWriter(self.arena)
        alone = self.arena.take(ALONE.size)
        if alone is None:  # else the worker would take the first answer's bytes for it
            self.arena.close()
            raise ArenaError("there is no shared memory left")
        self._alone = alone  # the first block
        self._loop = asyncio.get_running_loop()
        self._frames = FrameReader()
        self._transport: asyncio.Transport | None = None
        self._calls: dict[int, ServedCall] = {}
        self._unread: deque[Block] = deque()  # the answers that the worker may still read, in order
        self._freed = 0  # the answers that it has read
        self._unsent: list[bytes] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Execute each frame. A worker that violates the protocol loses its connection."""
        try:
            for kind, number, payload in self._frames.feed(data):
                self._execute(kind, number, payload)
        except VIOLATIONS as error:
            log.error("a worker violates the protocol, and its connection is closed: %r", error)
            assert self._transport is not None
            self._transport.abort()
        self._server.run_waiting()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            batch = call.batch
            call.cancel()
            if batch is not None and not batch.ended_ns:
                self._server.wait_for(batch, lambda: None)
        self._memory.close()
        self.arena.close()
        self._server.ended(self)

    def _execute(self, kind: int, number: int, payload: bytes) -> None:
        if kind == CALL:
            alone, deadline_ns, read, offset = CALL_HEAD.unpack_from(payload)
            self._free(read)
            self._call(number, deadline_ns, alone, self._inputs.read(offset, payload[CALL_HEAD.size :], copy=False))
        elif kind == RETURN:
            self._free(*COUNT.unpack(payload))
        elif kind == CANCEL:
            call = self._calls.get(number)
            if call is not None:
                call.cancel()
        else:
            raise ValueError(f"there are no frames of kind {kind}")

    def _free(self, read: int) -> None:
        """Free the answers that the worker has read; `read`: how many since the connection was made."""
        if not 0 <= read - self._freed <= len(self._unread):
            raise ValueError(f"{read} answers cannot have been read")
        while self._freed < read:
            self._freed += 1
            self.arena.give_back(self._unread.popleft())

    def _call(self, number: int, deadline_ns: int, alone: bool, inputs: Sequence[Named]) -> None:
        feeds = {name: array for name, array in inputs if array is not None}
        if len(feeds) != len(inputs) or number in self._calls:
            raise ValueError(f"call {number} cannot be made")
        if self._server.batcher is None:
            self._send(ERROR, number, described(Overloaded("the version could not be loaded")))
            return
        call = ServedCall(number, feeds, deadline_ns, self._loop, self._mark_alone, self._done)
        self._calls[number] = call
        self._server.batcher.put(call, alone=alone)

    def _mark_alone(self, number: int) -> None:
        ALONE.pack_into(self._alone.view, 0, number)

    def _done(self, call: ServedCall) -> None:
        number, batch = call.number, call.batch
        if self._calls.pop(number, None) is None:
            return  # the worker is gone
        error = None if call.cancelled() else call.exception()
        failed = error is not None or call.cancelled()
        if failed and batch is not None and not batch.ended_ns:
            self._server.wait_for(batch, lambda: self._send(FREE, number))  # until then the run may read the inputs
        elif call.cancelled():
            self._send(FREE, number)
        elif error is not None:
            assert isinstance(error, Exception)
            self._send(ERROR, number, described(error))
        else:
            self._answer(number, batch, call.result())

    def _answer(self, number: int, batch: Batch | None, answer: Answer) -> None:
        written = self._outputs.write(list(zip(self._server.outputs, answer, strict=True)))
        if written is None:
            self._send(ERROR, number, described(Overloaded("there is no shared memory left for the answer")))
            return
        block, layout = written
        self._unread.append(block)
        counts = self._server.counts(batch)
        run_ns = 0 if batch is None else batch.ended_ns - batch.started_ns
        head = ANSWER_HEAD.pack(block.offset, answer.queued_ns, run_ns, answer.batch_rows, counts)
        self._send(ANSWER, number, head + layout)

    def _send(self, kind: int, number: int, payload: bytes = b"") -> None:
        """Send a frame with all others of this iteration of the loop."""
        if not self._unsent:
            self._server.send_soon(self)
        self._unsent.append(frame(kind, number, payload))

    def send_all(self) -> None:
        """Send the frames that wait."""
        unsent, self._unsent = self._unsent, []
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(b"".join(unsent))
