"""What a version's process does with the calls of its workers: which run at once, which share a batch, which wait."""

import asyncio
import os
import socket
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import uvloop
from onnxruntime import RunOptions

from gateway.backends.batcher import Batcher
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.onnx import Result
from gateway.backends.process import server
from gateway.backends.process.alone import AloneWatch
from gateway.backends.process.connection import Connection
from gateway.backends.process.frames import Frame, FrameReader, frame
from gateway.backends.process.protocol import ALONE, ANSWER, ANSWER_HEAD, CALL, CALL_HEAD, CANCEL, ERROR, FREE, raised
from gateway.backends.process.server import JOIN_NS, Server
from gateway.backends.process.tensors import TensorReader, TensorWriter
from gateway.backends.run_threads import RunThreads
from gateway.backends.signature import Feeds
from gateway.errors import DeadlineExceeded, ModelFailed
from gateway.shm.arena import Arena, ArenaView
from gateway.shm.tally import Tally

PATIENCE_S = 30.0
Started = tuple[int, list[int]]  # rows of a run, and the mark of each worker meanwhile


class Worker:
    """A worker's end of a connection to `server`, in the same process."""

    def __init__(self, server: Server) -> None:
        self._arena = Arena()
        self._writer = TensorWriter(self._arena)
        self._frames = FrameReader()
        self._own, self._theirs = socket.socketpair()
        self._own.setblocking(False)
        self.connection = Connection(ArenaView(os.dup(self._arena.file)), server)
        server.connections.add(self.connection)
        self._memory = ArenaView(os.dup(self.connection.arena.file))
        self.answers = TensorReader(self._memory, ["y"])

    async def start(self) -> None:
        await asyncio.get_running_loop().create_connection(lambda: self.connection, sock=self._theirs)

    def mark(self) -> int:
        """The number of the call that is marked as alone in the process."""
        (number,) = ALONE.unpack(self._memory.read(0, ALONE.size))
        return int(number)

    def call(self, number: int, deadline_ns: int, *, alone: bool = False) -> bytes:
        """The frame of a call on one row of this number."""
        written = self._writer.write([("x", np.full((1, 2), number, np.float32))])
        assert written is not None
        block, layout = written
        return frame(CALL, number, CALL_HEAD.pack(alone, deadline_ns, 0, block.offset) + layout)

    def send(self, data: bytes) -> None:
        """Send it now, before the process receives anything."""
        assert self._own.send(data) == len(data)

    async def asked(self, data: bytes, answers: int) -> list[Frame]:
        """The frames that come back."""
        loop = asyncio.get_running_loop()
        self.send(data)
        found: list[Frame] = []
        async with asyncio.timeout(PATIENCE_S):
            while len(found) < answers:
                received = await loop.sock_recv(self._own, 1 << 16)
                assert received, "the process has closed the connection"
                found += self._frames.feed(received)
        return found

    def end(self) -> None:
        self._own.close()
        self._memory.close()
        self._arena.close()


class Bench:
    """A process with workers, whose runs note their rows and the workers' marks meanwhile. Runs of 13 and 15 fail, one
    of 14 gives an output too many. Those in threads wait for `go`. `on_loop`: whether any run on the event loop.
    """

    def __init__(self, *, on_loop: bool) -> None:
        self.runs: list[Started] = []
        self.in_threads = 0
        self.go = threading.Event()
        self.workers: list[Worker] = []
        rules = BatchingRules(max_rows=8, max_delay_s=0.0, concurrency=1)
        batcher = threaded = Batcher(self._run, rules, Tally(), RunThreads(1, "t"), True)
        if on_loop:
            batcher = Batcher(self._run, rules, Tally(), None, True, limits=LoopLimits(), threaded=threaded)
        batcher.set_watch(AloneWatch())
        self._listening = socket.socket()
        self.server = Server(self._listening, {}, batcher, ["y"])

    def _run(self, feeds: Feeds, options: RunOptions | None) -> list[Result]:
        self.runs.append((len(feeds["x"]), [worker.mark() for worker in self.workers]))
        if threading.current_thread() is not threading.main_thread():
            self.in_threads += 1
            self.go.wait(PATIENCE_S)
        if feeds["x"][0, 0] == 13:
            raise ModelFailed("unlucky")
        if feeds["x"][0, 0] == 15:
            raise ModelFailed("no text: \udc80")
        return [feeds["x"] * 2] * (2 if feeds["x"][0, 0] == 14 else 1)

    async def end(self) -> None:
        """End all runs and connections."""
        self.go.set()
        self._listening.close()
        ended = asyncio.Event()
        self.server.none_left = ended.set
        connected = bool(self.server.connections)
        for worker in self.workers:
            worker.end()
        if connected:
            await asyncio.wait_for(ended.wait(), PATIENCE_S)

    async def worker(self) -> Worker:
        worker = Worker(self.server)
        await worker.start()
        self.workers.append(worker)
        return worker


def on_uvloop(scenario: Callable[[Bench], Coroutine[Any, Any, None]], *, on_loop: bool = True) -> None:
    async def main() -> None:
        bench = Bench(on_loop=on_loop)
        try:
            await scenario(bench)
        finally:
            await bench.end()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            await asyncio.sleep(0)


def later_ns() -> int:
    return time.monotonic_ns() + int(PATIENCE_S * 1e9)


@pytest.mark.parametrize("workers", [1, 2])
def test_call_that_comes_alone_is_marked_while_it_runs_and_answered(workers: int) -> None:
    async def scenario(bench: Bench) -> None:
        first, *others = [await bench.worker() for _ in range(workers)]
        for number in (5, 6):
            ((kind, answered, payload),) = await first.asked(first.call(number, later_ns()), 1)
            assert (kind, answered) == (ANSWER, number)
            offset, _, run_ns, rows, counts = ANSWER_HEAD.unpack_from(payload)
            assert (rows, counts) == (1, True)
            assert run_ns > 0
            ((_, y),) = first.answers.read(offset, payload[ANSWER_HEAD.size :], copy=True)
            assert y is not None
            assert y.tolist() == [[2 * number, 2 * number]]
            assert first.mark() == 0
        assert bench.runs == [(1, [number] + [0] * len(others)) for number in (5, 6)]

    on_uvloop(scenario)


def test_calls_that_come_together_share_a_batch() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        found = await worker.asked(b"".join(worker.call(number, later_ns()) for number in (1, 2, 3)), 3)
        assert [(kind, number) for kind, number, _ in found] == [(ANSWER, 1), (ANSWER, 2), (ANSWER, 3)]
        counted = [ANSWER_HEAD.unpack_from(payload)[3:] for _, _, payload in found]
        assert counted == [(3, True), (3, False), (3, False)]
        assert bench.runs == [(3, [0])]

    on_uvloop(scenario)


def test_few_short_calls_that_come_together_run_one_after_the_other_each_marked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "JOIN_NS", int(PATIENCE_S * 1e9))  # however long a run is on a busy machine

    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        await worker.asked(worker.call(5, later_ns()), 1)
        assert 0 < bench.server.run_ns < PATIENCE_S * 1e9 / 3
        found = await worker.asked(b"".join(worker.call(number, later_ns()) for number in (1, 13, 2)), 3)
        assert [(kind, number) for kind, number, _ in found] == [(ANSWER, 1), (ERROR, 13), (ANSWER, 2)]
        assert [ANSWER_HEAD.unpack_from(found[at][2])[3:] for at in (0, 2)] == [(1, True), (1, True)]
        assert bench.runs == [(1, [number]) for number in (5, 1, 13, 2)]

    on_uvloop(scenario)


def test_calls_that_take_long_one_after_the_other_are_joined() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        bench.server.run_ns = JOIN_NS // 3
        await worker.asked(b"".join(worker.call(number, later_ns()) for number in range(4)), 4)
        assert bench.runs == [(4, [0])]

    on_uvloop(scenario)


def test_failure_of_a_call_that_comes_alone_is_reported_and_its_mark_removed() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        ((kind, number, payload),) = await worker.asked(worker.call(13, later_ns()), 1)
        assert (kind, number, worker.mark()) == (ERROR, 13, 0)
        error = raised(payload)
        assert (type(error), str(error)) == (ModelFailed, "unlucky")

    on_uvloop(scenario)


@pytest.mark.parametrize("together", [1, 3])
def test_answer_that_cannot_be_written_fails_its_call_and_leaves_the_connection(together: int) -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        calls = b"".join(worker.call(14 + more, later_ns()) for more in range(together))
        found = await worker.asked(calls, together)
        assert [(kind, number) for kind, number, _ in found] == [(ERROR, 14 + more) for more in range(together)]
        assert {type(raised(payload)) for _, _, payload in found} == {ModelFailed}
        ((kind, number, _),) = await worker.asked(worker.call(5, later_ns()), 1)
        assert (kind, number, worker.mark()) == (ANSWER, 5, 0)

    on_uvloop(scenario)


def test_batch_counts_with_the_first_answer_that_can_be_written() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        take, takes = worker.connection.arena.take, iter([False, True, True])
        worker.connection.arena.take = lambda size: take(size) if next(takes) else None  # type: ignore[method-assign]
        found = await worker.asked(b"".join(worker.call(number, later_ns()) for number in (1, 2, 3)), 3)
        assert [(kind, number) for kind, number, _ in found] == [(ERROR, 1), (ANSWER, 2), (ANSWER, 3)]
        assert [ANSWER_HEAD.unpack_from(payload)[4] for _, _, payload in found[1:]] == [True, False]

    on_uvloop(scenario)


def test_error_whose_text_is_no_unicode_is_reported_and_the_mark_removed() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        ((kind, number, payload),) = await worker.asked(worker.call(15, later_ns()), 1)
        assert (kind, number, worker.mark()) == (ERROR, 15, 0)
        assert str(raised(payload)) == "no text: ?"

    on_uvloop(scenario)


def test_calls_of_which_one_has_come_in_part_share_a_batch() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        first, second = worker.call(1, later_ns()), worker.call(2, later_ns())
        worker.connection.data_received(first + second[:20])
        worker.connection.data_received(second[20:])
        found = await worker.asked(b"", 2)
        assert [(kind, number) for kind, number, _ in found] == [(ANSWER, 1), (ANSWER, 2)]

    on_uvloop(scenario)


def test_call_whose_deadline_has_passed_is_not_run() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        ((kind, number, payload),) = await worker.asked(worker.call(4, time.monotonic_ns()), 1)
        assert (kind, number, type(raised(payload))) == (ERROR, 4, DeadlineExceeded)
        assert bench.runs == []

    on_uvloop(scenario)


def test_run_in_a_thread_leaves_the_loop_to_other_frames() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        worker.send(worker.call(1, later_ns()))
        await until(lambda: len(bench.runs) == 1)
        found = await worker.asked(worker.call(2, later_ns()) + frame(CANCEL, 2), 1)
        assert ([(kind, number) for kind, number, _ in found], bench.in_threads) == ([(FREE, 2)], 1)
        bench.go.set()
        ((kind, number, _),) = await worker.asked(b"", 1)
        assert (kind, number) == (ANSWER, 1)

    on_uvloop(scenario, on_loop=False)


def test_call_that_comes_while_another_must_be_alone_does_not_run_at_once() -> None:
    async def scenario(bench: Bench) -> None:
        worker = await bench.worker()
        worker.send(worker.call(2, later_ns(), alone=True))
        await until(lambda: len(bench.runs) == 1)
        assert bench.in_threads == 1
        worker.send(worker.call(3, later_ns()))
        await until(lambda: 3 in worker.connection._calls or len(bench.runs) > 1)
        assert bench.runs == [(1, [2])]
        bench.go.set()
        found = await worker.asked(b"", 2)
        assert [(kind, number) for kind, number, _ in found] == [(ANSWER, 2), (ANSWER, 3)]
        assert bench.runs == [(1, [2]), (1, [3])]

    on_uvloop(scenario)


def test_calls_of_two_workers_that_come_together_share_a_batch() -> None:
    async def scenario(bench: Bench) -> None:
        both = [await bench.worker() for _ in range(2)]
        for worker in both:
            worker.send(worker.call(5, later_ns()))
        for worker in both:
            ((kind, number, _),) = await worker.asked(b"", 1)
            assert (kind, number) == (ANSWER, 5)
        assert bench.runs == [(2, [0, 0])]

    on_uvloop(scenario)
