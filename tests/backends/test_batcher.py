"""The batcher on real sessions: whatever shares a batch, each caller gets what it would have got alone."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.backends.batcher import Batcher
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.onnx import OnnxSession
from gateway.backends.signature import Feeds
from gateway.errors import DeadlineExceeded, InvalidRequest
from gateway.shm.tally import Tally, Totals
from tests.backends import onnx_models

CPU = ["CPUExecutionProvider"]
Scenario = Callable[["Bench"], Coroutine[Any, Any, None]]


class Bench:
    """A batcher on a session, and a count of what it ran."""

    def __init__(self, session: OnnxSession, rules: BatchingRules, threaded: bool, uniform: bool) -> None:
        self._tally = Tally()
        self.threads = ThreadPoolExecutor(rules.concurrency) if threaded else None
        self.batcher = Batcher(session.run, rules, self._tally, self.threads, uniform)

    @property
    def counted(self) -> Totals:
        return self._tally.read()

    def submit(self, patience_s: float = 30.0, **feeds: Any) -> "asyncio.Future[Any]":
        return self.batcher.submit(dict(feeds), time.monotonic_ns() + int(patience_s * 1e9))


def play(
    scenario: Scenario, session: OnnxSession, rules: BatchingRules, *, threaded: bool = False, uniform: bool = True
) -> None:
    async def run() -> None:
        bench = Bench(session, rules, threaded, uniform)
        try:
            await scenario(bench)
            assert bench.batcher.idle
        finally:
            if bench.threads is not None:
                bench.threads.shutdown()

    asyncio.run(run())


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxSession]:
    folder = tmp_path_factory.mktemp("models")
    makers = {
        "doubling": onnx_models.doubling,
        "gathering": onnx_models.gathering,
        "summing": onnx_models.summing,
        "looping": onnx_models.looping,
    }
    return {name: OnnxSession(maker(folder / f"{name}.onnx"), 1, CPU) for name, maker in makers.items()}


def rows(count: int, start: float = 0.0, width: int = 2) -> Any:
    return np.arange(start, start + count * width, dtype=np.float32).reshape(count, width)


@pytest.mark.parametrize("threaded", [False, True])
def test_requests_of_one_loop_turn_share_a_batch(models: dict[str, OnnxSession], threaded: bool) -> None:
    async def scenario(bench: Bench) -> None:
        inputs = [rows(size, 10.0 * size) for size in (1, 2, 3)]
        answers = await asyncio.gather(*(bench.submit(x=x) for x in inputs))
        for x, (y,) in zip(inputs, answers, strict=True):
            assert np.array_equal(y, x * 2)
        assert bench.counted.batches[6][0] == 1
        assert bench.counted.rows == 6
        assert bench.counted.batches.keys() == {6}
        assert sum(bench.counted.queue.counts) == 3

    play(scenario, models["doubling"], BatchingRules(32), threaded=threaded)


def test_batch_never_exceeds_max_rows(models: dict[str, OnnxSession]) -> None:
    async def scenario(bench: Bench) -> None:
        await asyncio.gather(*(bench.submit(x=rows(3)) for _ in range(5)))
        assert bench.counted.batches.keys() == {6, 3}

    play(scenario, models["doubling"], BatchingRules(8))


def test_a_request_larger_than_a_batch_runs_alone(models: dict[str, OnnxSession]) -> None:
    async def scenario(bench: Bench) -> None:
        (large,), (small,) = await asyncio.gather(bench.submit(x=rows(50)), bench.submit(x=rows(1)))
        assert (large.shape, small.shape) == ((50, 2), (1, 2))
        assert bench.counted.rows == 51
        assert bench.counted.batches.keys() == {8, 1}

    play(scenario, models["doubling"], BatchingRules(8))


def test_request_without_rows_gets_an_empty_answer(models: dict[str, OnnxSession]) -> None:
    async def scenario(bench: Bench) -> None:
        (empty,), (other,) = await asyncio.gather(bench.submit(x=rows(0)), bench.submit(x=rows(1)))
        assert (empty.shape, other.shape) == ((0, 2), (1, 2))

    play(scenario, models["doubling"], BatchingRules(8))


@pytest.mark.parametrize("threaded", [False, True])
def test_requests_of_different_widths_do_not_share_a_batch(models: dict[str, OnnxSession], threaded: bool) -> None:
    async def scenario(bench: Bench) -> None:
        inputs = [rows(1, width=width) for width in (2, 5, 2, 5, 2)]
        answers = await asyncio.gather(*(bench.submit(x=x) for x in inputs))
        for x, (y,) in zip(inputs, answers, strict=True):
            assert np.array_equal(y, x.sum(axis=1))
        assert sorted(bench.counted.batches) == [2, 3]

    play(scenario, models["summing"], BatchingRules(32), threaded=threaded, uniform=False)


@pytest.mark.parametrize("threaded", [False, True])
def test_failing_request_in_a_batch_fails_alone(models: dict[str, OnnxSession], threaded: bool) -> None:
    async def scenario(bench: Bench) -> None:
        indices = [0, 3, 99, 1]
        answers = await asyncio.gather(*(bench.submit(i=np.array([i])) for i in indices), return_exceptions=True)
        assert [answer[0].tolist() for answer in answers if not isinstance(answer, BaseException)] == [
            [[0, 1]],
            [[6, 7]],
            [[2, 3]],
        ]
        assert isinstance(answers[2], InvalidRequest)
        assert "99" in str(answers[2])

    play(scenario, models["gathering"], BatchingRules(32), threaded=threaded)


@pytest.mark.parametrize("threaded", [False, True])
def test_cancelled_caller_does_not_affect_the_others_in_its_batch(
    models: dict[str, OnnxSession], threaded: bool
) -> None:
    async def scenario(bench: Bench) -> None:
        futures = [bench.submit(x=rows(1, i)) for i in range(3)]
        futures[1].cancel()
        (first,), (last,) = await asyncio.gather(futures[0], futures[2])
        assert (first.tolist(), last.tolist()) == ([[0, 2]], [[4, 6]])
        assert bench.counted.rows == 2

    play(scenario, models["doubling"], BatchingRules(32), threaded=threaded)


def test_run_is_terminated_at_its_deadline(models: dict[str, OnnxSession]) -> None:
    endless = np.array([2**62])

    async def scenario(bench: Bench) -> None:
        with pytest.raises(DeadlineExceeded):
            await bench.submit(0.05, x=endless)
        (turns,) = await bench.submit(x=np.array([3]))  # the one thread is free again
        assert turns.tolist() == [3]

    play(scenario, models["looping"], BatchingRules(), threaded=True)


def test_request_that_expires_in_the_queue_is_not_run(models: dict[str, OnnxSession]) -> None:
    async def scenario(bench: Bench) -> None:
        late, in_time = bench.submit(-1.0, x=rows(1)), bench.submit(x=rows(1))
        with pytest.raises(DeadlineExceeded):
            await late
        await in_time
        assert bench.counted.rows == 1

    play(scenario, models["doubling"], BatchingRules(8))


def test_each_request_ends_at_its_own_deadline_in_any_order(models: dict[str, OnnxSession]) -> None:
    endless = np.array([2**62])

    async def scenario(bench: Bench) -> None:
        ended: list[int] = []
        for number, patience_s in enumerate((0.4, 0.1, 0.3, 0.2, 0.102)):
            item = bench.submit(patience_s, x=endless)  # the first one runs, the others wait for its thread
            item.add_done_callback(lambda item, number=number: ended.append(number))  # type: ignore[misc]
        with pytest.raises(DeadlineExceeded):
            await bench.submit(0.35, x=endless)
        assert ended == [1, 4, 3, 2]
        assert bench.counted.waiting == 0, "who waits no longer leaves the queue, though a run hangs before it"
        (turns,) = await bench.submit(x=np.array([3]))
        assert (turns.tolist(), ended) == ([3], [1, 4, 3, 2, 0])

    play(scenario, models["looping"], BatchingRules(), threaded=True)


def test_close_deadlines_do_not_keep_the_loop_busy(models: dict[str, OnnxSession]) -> None:
    """uvloop fires a timer of less than a millisecond at once."""

    async def scenario() -> int:
        tally, threads = Tally(), ThreadPoolExecutor(1)
        batcher = Batcher(models["looping"].run, BatchingRules(), tally, threads, True)
        alarms, now_ns = 0, time.monotonic_ns()
        expire = batcher.expire

        def counted(now_ns: int) -> int:
            nonlocal alarms
            alarms += 1
            return expire(now_ns)

        batcher.expire = counted  # type: ignore[method-assign]
        items = [batcher.submit({"x": np.array([2**62])}, now_ns + 10**7 + index * 100_000) for index in range(100)]
        await asyncio.wait(items)
        threads.shutdown()
        return alarms

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        assert runner.run(scenario()) <= 30  # 100 deadlines within 10 ms


def test_max_delay_waits_until_the_batch_is_full(models: dict[str, OnnxSession]) -> None:
    async def scenario(bench: Bench) -> None:
        first = bench.submit(x=rows(1))
        await asyncio.sleep(0)
        assert not first.done()
        await asyncio.wait_for(asyncio.gather(first, *(bench.submit(x=rows(1)) for _ in range(3))), 30)
        assert bench.counted.batches.keys() == {4}

    play(scenario, models["doubling"], BatchingRules(4, max_delay_s=60.0))


def test_groups_of_different_widths_take_turns(models: dict[str, OnnxSession]) -> None:
    order: list[int] = []

    async def scenario(bench: Bench) -> None:
        for width in (2, 2, 2, 5):
            future = bench.submit(x=rows(2, width=width))
            future.add_done_callback(lambda _, width=width: order.append(width))
        await asyncio.wait_for(bench.submit(x=rows(2, width=2)), 30)

    play(scenario, models["summing"], BatchingRules(4), uniform=False)
    assert order == [2, 2, 5, 2]


REQUEST = st.tuples(st.integers(0, 6), st.sampled_from([1, 2, 7]), st.booleans(), st.booleans())


@settings(max_examples=60, deadline=None)
@given(st.lists(REQUEST, max_size=25), st.booleans(), st.integers(1, 8), st.integers(1, 2))
def test_any_mix_of_requests_gets_the_same_answers_as_alone(
    models: dict[str, OnnxSession], requests: list[tuple[int, int, bool, bool]], threaded: bool, most: int, threads: int
) -> None:
    async def scenario(bench: Bench) -> None:
        expected: list[tuple[Feeds, asyncio.Future[Any]]] = []
        for index, (count, width, cancel, pause) in enumerate(requests):
            x = rows(count, index, width)
            future = bench.submit(x=x)
            if cancel:
                future.cancel()
            else:
                expected.append(({"x": x}, future))
            if pause:
                await asyncio.sleep(0)
        for feeds, future in expected:
            (y,) = await future
            assert np.allclose(y, feeds["x"].sum(axis=1), rtol=1e-5)
        while not bench.batcher.idle:
            await asyncio.sleep(0)

    play(scenario, models["summing"], BatchingRules(most, concurrency=threads), threaded=threaded, uniform=False)
