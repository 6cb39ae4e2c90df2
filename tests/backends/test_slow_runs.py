"""A version with a long run on the event loop moves to threads, unless the host was busy; deadlines are kept."""

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from onnxruntime import RunOptions

from gateway.backends.batch import BatchItem
from gateway.backends.batcher import NEVER_NS
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.in_worker import in_worker
from gateway.backends.loaded_version import load_version
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.onnx import Result
from gateway.backends.signature import Feeds
from gateway.backends.slow_runs import LONG_RUN_NS, SlowRunDetector
from gateway.backends.version import ModelVersion
from gateway.errors import DeadlineExceeded
from gateway.settings.model import ModelSettings
from gateway.shm.tally import Tally
from tests.backends import onnx_models

LONG_TURNS = 100_000  # some 70 ms
ANY = LoopLimits(names=("x",), rows=2**31)


def version_of(
    file: Path, reach: LoopLimits | None = None, max_delay: float = 0.0, tally: Tally | None = None
) -> ModelVersion:
    """A version in service that was found fit for the event loop."""
    loaded = load_version(file, ModelSettings(), file.parent / "warmup.json")
    rules = BatchingRules(loaded.rules.max_rows, max_delay)
    loaded = replace(loaded, rules=rules, loop_limits=reach or loaded.loop_limits)
    return in_worker("m", 1, loaded, tally or Tally())


def turns(count: int) -> Feeds:
    return {"x": np.array([count], np.int64)}


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("alone", [True, False], ids=["alone", "in a batch"])
def test_long_run_on_the_loop_moves_the_version_to_threads_for_good(
    tmp_path: Path, alone: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def scenario() -> None:
        version = version_of(onnx_models.looping(tmp_path / "model.onnx"), ANY)
        assert version.backend.on_loop
        assert not version.must_queue(turns(1))
        if alone:
            version.infer_now(turns(LONG_TURNS), NEVER_NS)
        else:
            first, second = version.infer(turns(LONG_TURNS), NEVER_NS), version.infer(turns(3), NEVER_NS)
            assert [(await first)[0].tolist(), (await second)[0].tolist()] == [[LONG_TURNS], [3]]
        assert version.must_queue(turns(1)), "not even until it is known who was to blame"
        await until(lambda: bool(caplog.records))
        await asyncio.sleep(0.01)
        assert version.must_queue(turns(1))
        for _ in range(3):
            assert (await version.infer(turns(5), NEVER_NS))[0].tolist() == [5]
        late = version.infer(turns(2**62), time.monotonic_ns() + 20_000_000)
        with pytest.raises(DeadlineExceeded):
            await late
        await version.close()

    with caplog.at_level(logging.WARNING):
        asyncio.run(scenario())
    (record,) = caplog.records
    assert "version 1 of 'm' blocked the event loop for" in record.getMessage()


def test_requests_behind_a_long_run_are_moved_to_threads_too(tmp_path: Path) -> None:
    async def scenario() -> None:
        tally = Tally()
        version = version_of(onnx_models.looping(tmp_path / "model.onnx"), ANY, tally=tally)
        answers = [version.infer(turns(count), NEVER_NS) for count in (LONG_TURNS, 1, LONG_TURNS, 2)]
        hopeless = version.infer(turns(2**62), time.monotonic_ns() + 500_000_000)
        assert [(await answer)[0].tolist() for answer in answers] == [[LONG_TURNS], [1], [LONG_TURNS], [2]]
        with pytest.raises(DeadlineExceeded):
            await hopeless
        await version.close()
        assert tally.read().waiting == 0

    asyncio.run(scenario())


def test_long_run_on_a_busy_host_does_not_move_the_version(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The run takes long by the clock, once, but uses no processor time."""
    asyncio.run(_stalled(tmp_path))
    assert not caplog.records


async def _stalled(tmp_path: Path) -> None:
    version = version_of(onnx_models.doubling(tmp_path / "model.onnx"))
    x = {"x": np.ones((1, 2), np.float32)}
    run = version.backend._run
    version.backend._run = lambda feeds, options: time.sleep(3 * LONG_RUN_NS / 1e9) or run(feeds, options)
    version.infer_now(x, NEVER_NS)
    version.backend._run = run
    assert not version.must_queue(x), "not even for a moment"
    assert version.infer_now(x, NEVER_NS)[0].tolist() == [[2, 2]]
    await version.close()


def test_request_beyond_reach_runs_in_a_thread_and_others_on_the_loop(tmp_path: Path) -> None:
    async def scenario() -> None:
        reach = LoopLimits(names=("x",), rows=64)
        version = version_of(onnx_models.doubling(tmp_path / "model.onnx"), reach)
        small, large = ({"x": np.ones((count, 2), np.float32)} for count in (2, 65))
        assert not version.must_queue(small)
        assert version.must_queue(large)
        threaded, here = version.infer(large, NEVER_NS), version.infer(small, NEVER_NS)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert here.done(), "on the loop"
        assert (await threaded)[0].shape == (65, 2)
        await until(lambda: not version.must_queue(small))
        await version.close()

    asyncio.run(scenario())


def test_deadline_is_kept_while_a_batch_forms(tmp_path: Path) -> None:
    async def scenario() -> None:
        version = version_of(onnx_models.doubling(tmp_path / "model.onnx"), max_delay=60.0)
        x = {"x": np.ones((1, 2), np.float32)}
        began = time.monotonic()
        patient = version.infer(x, NEVER_NS)
        hasty = version.infer(x, time.monotonic_ns() + 20_000_000)
        with pytest.raises(DeadlineExceeded):
            await asyncio.wait_for(hasty, 30)
        assert time.monotonic() - began < 30
        assert not patient.done()
        version.abandon()
        await version.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("patience_ns", [0, 1000])
def test_answer_after_its_deadline_is_deadline_exceeded(tmp_path: Path, patience_ns: int) -> None:
    async def scenario() -> None:
        version = version_of(onnx_models.doubling(tmp_path / "model.onnx"))
        x = {"x": np.ones((1, 2), np.float32)}
        with pytest.raises(DeadlineExceeded):
            version.infer_now(x, time.monotonic_ns() + patience_ns - 1000)
        mate, late = version.infer(x, NEVER_NS), version.infer(x, time.monotonic_ns())
        with pytest.raises(DeadlineExceeded):
            await late
        assert (await mate)[0].tolist() == [[2, 2]]
        await version.close()

    asyncio.run(scenario())


def test_repeated_run_has_inputs_of_its_own() -> None:
    """Those of a version's process are in its worker's memory, and become another call's once they are answered."""
    seen: list[float] = []
    answered = threading.Event()

    def run(feeds: Feeds, options: RunOptions | None) -> list[Result]:
        answered.wait(30)
        seen.append(float(feeds["x"][0]))
        return []

    async def scenario() -> None:
        memory = np.array([1.0])
        ended = asyncio.Event()
        item = BatchItem({"x": memory[:]}, 1, NEVER_NS, asyncio.get_running_loop())
        SlowRunDetector("m", run, 1).verify([item], LONG_RUN_NS, lambda slow: ended.set())
        memory[0] = 777.0
        answered.set()
        await asyncio.wait_for(ended.wait(), 30)

    asyncio.run(scenario())
    assert seen == [1.0]
