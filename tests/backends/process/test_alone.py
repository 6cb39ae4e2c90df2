"""A call that is tried alone shares neither a batch nor the process, and is known by its number when that ends."""

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

from gateway.backends.batch import BatchItem
from gateway.backends.batcher import Batcher
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.onnx import Result
from gateway.backends.process import connection, server
from gateway.backends.process.alone import AloneWatch
from gateway.backends.process.served_call import ServedCall
from gateway.backends.run_threads import RunThreads
from gateway.backends.signature import Feeds
from gateway.shm.arena import Arena, ArenaError, ArenaView
from gateway.shm.tally import Tally

PATIENCE_S = 30.0


class Runs:
    """Runs that end when told to, and what was inside and marked at each begin."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.rows: list[int] = []
        self.inside = 0
        self.most = 0
        self._lock = threading.Lock()

    def run(self, feeds: Feeds, options: RunOptions | None) -> list[Result]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.rows.append(len(feeds["x"]))
        self.go.wait(PATIENCE_S)
        with self._lock:
            self.inside -= 1
        return [feeds["x"]]


def on_uvloop(scenario: Callable[[Runs, Batcher, list[int]], Coroutine[Any, Any, None]]) -> None:
    async def main() -> None:
        runs, marks = Runs(), list[int]()
        rules = BatchingRules(max_rows=4, max_delay_s=0.0, concurrency=2)
        batcher = Batcher(runs.run, rules, Tally(), RunThreads(2, "t"), True)
        batcher.set_watch(AloneWatch())
        await scenario(runs, batcher, marks)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def put(batcher: Batcher, number: int, marks: list[int], *, alone: bool) -> ServedCall:
    deadline_ns = time.monotonic_ns() + int(PATIENCE_S * 1e9)
    feeds = {"x": np.full((1, 2), number, np.float32)}
    call = ServedCall(number, feeds, deadline_ns, asyncio.get_running_loop(), marks.append, lambda _: None)
    batcher.put(call, alone=alone)
    return call


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not what():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("alone_first", [True, False])
def test_nothing_runs_beside_a_call_that_runs_alone(alone_first: bool) -> None:
    async def scenario(runs: Runs, batcher: Batcher, marks: list[int]) -> None:
        calls: list[BatchItem] = [put(batcher, 1, marks, alone=alone_first)]
        await until(lambda: runs.inside == 1)
        calls += [put(batcher, number, marks, alone=not alone_first or number == 2) for number in (2, 3)]
        await asyncio.sleep(0.05)
        assert (runs.inside, marks) == (1, [1])
        runs.go.set()
        await asyncio.wait_for(asyncio.gather(*calls), PATIENCE_S)
        assert runs.most == 1
        assert runs.rows == [1, 1, 1]
        assert marks == [1, 0, 2, 0, 3, 0]

    on_uvloop(scenario)


def test_calls_that_run_together_or_at_once_are_not_marked() -> None:
    async def scenario(runs: Runs, batcher: Batcher, marks: list[int]) -> None:
        calls = [put(batcher, number, marks, alone=False) for number in (1, 2)]
        await until(lambda: runs.inside == 1)
        calls.append(put(batcher, 3, marks, alone=False))
        await until(lambda: runs.inside == 2)
        runs.go.set()
        await asyncio.wait_for(asyncio.gather(*calls), PATIENCE_S)
        assert runs.rows == [2, 1]
        assert marks in ([], [3, 0])  # the first run may be over before the other

    on_uvloop(scenario)


class InThreads(Runs):
    """Runs of which only those in threads wait."""

    def run(self, feeds: Feeds, options: RunOptions | None) -> list[Result]:
        if threading.current_thread() is threading.main_thread():
            self.rows.append(-len(feeds["x"]))
            return [feeds["x"]]
        return super().run(feeds, options)


def test_nothing_runs_on_the_loop_beside_a_call_that_runs_alone() -> None:
    async def scenario(_: Runs, threaded: Batcher, marks: list[int]) -> None:
        runs = InThreads()
        rules = BatchingRules(max_rows=4, max_delay_s=0.0, concurrency=2)
        threaded = Batcher(runs.run, rules, Tally(), RunThreads(2, "t"), True)
        batcher = Batcher(runs.run, rules, Tally(), None, True, limits=LoopLimits(), threaded=threaded)
        batcher.set_watch(AloneWatch())
        calls = [put(batcher, number, marks, alone=number == 2) for number in (1, 2, 3)]
        await until(lambda: runs.inside == 1)
        calls.append(put(batcher, 4, marks, alone=False))
        await asyncio.sleep(0.02)
        assert (runs.rows, marks) == ([1], [2])
        runs.go.set()
        await asyncio.wait_for(asyncio.gather(*calls), PATIENCE_S)
        assert runs.rows == [1, 3]
        await asyncio.wait_for(put(batcher, 5, marks, alone=False), PATIENCE_S)
        assert runs.rows[-1] == -1  # on the loop again

    on_uvloop(scenario)


def test_connection_without_memory_for_the_mark_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Arena] = []

    class Full(Arena):
        def __init__(self) -> None:
            super().__init__(limit=0)
            made.append(self)

    monkeypatch.setattr(connection, "Arena", Full)
    arena = Arena()
    memory = ArenaView(os.dup(arena.file))
    with socket.socket(socket.AF_UNIX) as listening, pytest.raises(ArenaError, match="no shared memory"):
        connection.Connection(memory, server.Server(listening, {}, None))
    assert made[0].file == -1
    memory.close()
    arena.close()
