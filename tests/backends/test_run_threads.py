"""Threads that cannot be started: waiting callers get an error, no slot is lost, and the next request tries again."""

import asyncio
import gc
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from gateway.backends.batcher import Batcher
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.onnx import OnnxSession
from gateway.backends.run_threads import RunThreads
from gateway.errors import ModelUnavailable, Overloaded
from gateway.shm.tally import Tally
from tests.backends import onnx_models

LATER_NS = 30 * 10**9


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> OnnxSession:
    file = onnx_models.doubling(tmp_path_factory.mktemp("threads") / "doubling.onnx")
    return OnnxSession(file, 1, ["CPUExecutionProvider"])


class Limit:
    """Limits how many more threads can be started."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, left: int = 0) -> None:
        self.left = left
        start = threading.Thread.start

        def started(thread: threading.Thread) -> None:
            if self.left <= 0:
                raise RuntimeError("can't start new thread")
            self.left -= 1
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", started)


@pytest.mark.parametrize("kind", [RunThreads, ThreadPoolExecutor])
def test_batcher_without_a_thread_fails_its_callers_and_recovers(
    session: OnnxSession, monkeypatch: pytest.MonkeyPatch, kind: Any
) -> None:
    limit = Limit(monkeypatch)
    tally = Tally()

    async def scenario() -> None:
        batcher = Batcher(session.run, BatchingRules(4), tally, kind(1, "of this test"), True)
        items = [batcher.submit(feeds(1), time.monotonic_ns() + LATER_NS) for _ in range(6)]
        refused = await asyncio.wait_for(asyncio.gather(*items, return_exceptions=True), 30)
        assert [type(error) for error in refused] == [Overloaded] * 6
        assert "no thread for the model to run in (can't start new thread)" in str(refused[0])
        assert batcher.idle
        assert batcher.spare
        limit.left = 1
        (doubled,) = await batcher.submit(feeds(3), time.monotonic_ns() + LATER_NS)
        assert np.array_equal(doubled, feeds(3)["x"] * 2)
        assert batcher.idle

    asyncio.run(scenario())
    read = tally.read()
    assert (read.waiting, sum(count for count, _ in read.batches.values())) == (0, 1)


def feeds(rows: int) -> dict[str, Any]:
    return {"x": np.ones((rows, 2), np.float32)}


def test_one_thread_runs_everything_when_no_more_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    Limit(monkeypatch, 1)
    threads, done = RunThreads(3, "of this test"), [threading.Event() for _ in range(5)]
    for event in done:
        threads.submit(event.set)
    assert all(event.wait(5) for event in done)


def test_start_fails_unless_all_threads_can_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    limit = Limit(monkeypatch, 2)
    with pytest.raises(ModelUnavailable, match="m-2: there are no threads for it to run in"):
        RunThreads(3, "m-2").start()
    limit.left = 3
    threads = RunThreads(3, "m-2")
    threads.start()
    assert limit.left == 0
    together = threading.Barrier(4)
    for _ in range(3):
        threads.submit(together.wait)
    together.wait(5)


def test_threads_end_with_the_last_reference() -> None:
    threads = RunThreads(2, "that end")
    threads.start()
    mine = [thread for thread in threading.enumerate() if "that end" in thread.name]
    assert len(mine) == 2
    done = threading.Event()
    threads.submit(done.set)
    assert done.wait(5)
    del threads
    gc.collect()
    for thread in mine:
        thread.join(5)
        assert not thread.is_alive()


def test_exception_in_a_run_does_not_end_the_thread() -> None:
    threads, done = RunThreads(1, "of this test"), threading.Event()
    threads.submit(lambda: [][0])
    threads.submit(done.set)
    assert done.wait(5)
