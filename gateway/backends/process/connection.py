"""The process's end of the connection of one worker: its calls, and the memory for the answers to it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, cast

from gateway.backends.batch import Answer, Batch, deadline_exceeded
from gateway.backends.batcher import Batcher
from gateway.backends.process.frames import FrameReader, frame
from gateway.backends.process.link import VIOLATIONS
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
    RETURN,
    described,
)
from gateway.backends.process.served_call import ServedCall
from gateway.backends.process.tensors import Named, TensorReader, TensorWriter
from gateway.backends.signature import Feeds
from gateway.errors import Overloaded
from gateway.shm.arena import Arena, ArenaError, ArenaView, Block

if TYPE_CHECKING:
    from gateway.backends.process.server import Server

log: Final = logging.getLogger("gateway.backends")


class Connection(asyncio.Protocol):
    """The connection of one worker. `memory`: the worker's, with inputs. `arena`: this process's, for answers to it.
    Raises ArenaError if there is no memory left.
    """

    def __init__(self, memory: ArenaView, server: "Server") -> None:
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
        self._server.begin_receiving()
        try:
            frames = list(self._frames.feed(data))
            for kind, number, payload in frames:
                self._execute(kind, number, payload, 0 if self._frames.amid_frame else len(frames))
        except VIOLATIONS as error:
            log.error("a worker violates the protocol, and its connection is closed: %r", error)
            assert self._transport is not None
            self._transport.abort()
        finally:
            self._server.end_receiving()

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        calls, self._calls = list(self._calls.values()), {}
        for call in calls:
            batch = call.batch
            call.cancel()
            if batch is not None and not batch.ended_ns:
                self._server.ending.wait_for(batch, lambda: None)
        self._memory.close()
        self.arena.close()
        self._server.ended(self)

    def _execute(self, kind: int, number: int, payload: bytes, together: int) -> None:
        """Execute one frame. `together`: how many have come with it, itself included; 0: one of them only in part."""
        if kind == CALL:
            alone, deadline_ns, read, offset = CALL_HEAD.unpack_from(payload)
            self._free(read)
            feeds = self._feeds(number, self._inputs.read(offset, payload[CALL_HEAD.size :], copy=False))
            if together and not alone and (batcher := self._server.runs_now(feeds, together)) is not None:
                self._run_now(number, feeds, deadline_ns, batcher)
            else:
                self._call(number, deadline_ns, alone, feeds)
        elif kind == RETURN:
            self._free(*COUNT.unpack(payload))
        elif kind == CANCEL:
            if (call := self._calls.get(number)) is not None:
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

    def _feeds(self, number: int, inputs: Sequence[Named]) -> Feeds:
        feeds = {name: array for name, array in inputs if array is not None}
        if len(feeds) != len(inputs) or number in self._calls:
            raise ValueError(f"call {number} cannot be made")
        return feeds

    def _run_now(self, number: int, feeds: Feeds, deadline_ns: int, batcher: Batcher) -> None:
        """Run a call at once, without a future, a batch and an iteration of the loop."""
        began_ns = time.monotonic_ns()
        if began_ns >= deadline_ns:
            self._send(ERROR, number, described(deadline_exceeded()))
            return
        self._mark_alone(number)
        try:
            answer = batcher.run_now(feeds, deadline_ns)
        except Exception as error:
            self._send(ERROR, number, described(error))
        else:
            self._server.run_ns = run_ns = time.monotonic_ns() - began_ns
            self._answer(number, answer, run_ns, None)
        finally:
            self._mark_alone(0)

    def _call(self, number: int, deadline_ns: int, alone: bool, feeds: Feeds) -> None:
        if self._server.batcher is None:
            self._send(ERROR, number, described(Overloaded("the version could not be loaded")))
            return
        call = ServedCall(number, feeds, deadline_ns, asyncio.get_running_loop(), self._mark_alone, self._done)
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
            # until it has ended, it may read the inputs
            self._server.ending.wait_for(batch, lambda: self._send(FREE, number))
        elif call.cancelled():
            self._send(FREE, number)
        elif error is not None:
            assert isinstance(error, Exception)
            self._send(ERROR, number, described(error))
        else:
            self._answer(number, call.result(), batch.ended_ns - batch.started_ns if batch else 0, batch)

    def _answer(self, number: int, answer: Answer, run_ns: int, batch: Batch | None) -> None:
        """Write an answer to the memory and announce it. `batch`: its own, if it was not alone."""
        try:
            written = self._outputs.write(list(zip(self._server.outputs, answer, strict=True)))
            if written is None:
                raise Overloaded("there is no shared memory left for the answer")
        except Exception as error:  # it is this call's, not the worker's nor that of others in its batch
            self._send(ERROR, number, described(error))
            return
        block, layout = written
        self._unread.append(block)
        counts = batch is None or self._server.counts(batch)
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
