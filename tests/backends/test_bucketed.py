"""Runs in buckets, on the CPU: every answer is the session's on the padded batch, and no one else's, whatever fails."""

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import helper

from gateway.backends.batcher import Batcher
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.bucketed import BucketedRunner, row_kinds
from gateway.backends.buckets import bucket_for, bucket_sizes
from gateway.backends.onnx import OnnxSession
from gateway.backends.signature import Feeds
from gateway.errors import GatewayError, InvalidRequest, ModelFailed
from gateway.shm.tally import Tally
from tests import zoo
from tests.backends import onnx_models
from tests.backends.onnx_models import FLOAT, INT64, save

CPU = ["CPUExecutionProvider"]
RULES = BatchingRules(12, concurrency=2)


def opened(folder: Path, make: Callable[[Path], Path]) -> OnnxSession:
    return OnnxSession(make(folder / "m" / "1" / "model.onnx"), 1, CPU)


def bucketed(session: OnnxSession, most: int = 12, concurrency: int = 2) -> BucketedRunner:
    kinds = row_kinds(session)
    assert kinds is not None
    return BucketedRunner(dict.fromkeys(bucket_sizes(most), session), kinds, concurrency)


def rows(count: int, start: float = 0.0) -> Feeds:
    return {"x": np.arange(start, start + 4 * count, dtype=np.float32).reshape(count, 4)}


def layers(path: Path) -> Path:
    """[n, 4] through a matrix and tanh: rounding differs with the batch's size."""
    matrix = helper.make_tensor("matrix", FLOAT, [4, 5], np.random.default_rng(0).standard_normal(20))
    nodes = [helper.make_node("MatMul", ["x", "matrix"], ["h"]), helper.make_node("Tanh", ["h"], ["y"])]
    return save(path, nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 5])}, [matrix])


def passing_on(path: Path) -> Path:
    """y = x: what ONNX Runtime might answer with its input's own memory."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])})


def dice(path: Path) -> Path:
    """y = x plus other random numbers each time."""
    nodes = [
        helper.make_node("RandomUniformLike", ["x"], ["noise"]),
        helper.make_node("Add", ["x", "noise"], ["y"]),
    ]
    return save(path, nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])})


@pytest.mark.parametrize(
    ("most", "sizes"), [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (8, (1, 2, 4, 8)), (48, (1, 2, 4, 8, 16, 32, 48))]
)
def test_sizes_are_powers_of_two_and_the_largest(most: int, sizes: tuple[int, ...]) -> None:
    assert bucket_sizes(most) == sizes
    for count in range(1, most + 1):
        size = bucket_for(count, sizes)
        assert size >= count and all(smaller < count for smaller in sizes if smaller < size)


@pytest.mark.parametrize("parts", [(1,), (1, 1), (1, 2), (5,), (2, 3, 4), (12,), (1,) * 11])
def test_a_batch_is_answered_as_the_session_answers_the_padded_one(tmp_path: Path, parts: tuple[int, ...]) -> None:
    session = opened(tmp_path, layers)
    runner = bucketed(session)
    feeds = [rows(count, 0.1 * index) for index, count in enumerate(parts)]
    whole = np.concatenate([part["x"] for part in feeds])
    size = bucket_for(len(whole), runner.sizes)
    (wanted,) = session.run({"x": np.concatenate([whole, np.repeat(whole[-1:], size - len(whole), axis=0)])})
    assert wanted is not None
    with runner.join(feeds) as joined:
        assert np.array_equal(joined["x"], whole)
        (joined_answer,) = runner.run(joined)
    (answer,) = runner.run({"x": whole})
    for found in (joined_answer, answer):
        assert found is not None and np.array_equal(found, wanted[: len(whole)])


def test_several_inputs_and_types(tmp_path: Path) -> None:
    session = opened(tmp_path, zoo.adding)
    a, b = (np.random.default_rng(seed).random((3, 3), np.float32) for seed in (0, 1))
    with bucketed(session).join([{"a": a[:1], "b": b[:1]}, {"b": b[1:], "a": a[1:]}]) as joined:
        (total,) = bucketed(session).run(joined)
    assert total is not None and np.array_equal(total, a + b)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (layers, True),
        (zoo.adding, True),
        (zoo.identity("UINT8"), False),  # its width is free
        (zoo.mixed, False),  # text
        (zoo.fixed, False),
        (zoo.scalar, False),
        (onnx_models.summing, False),
        (onnx_models.gathering, True),
    ],
)
def test_only_fixed_rows_of_numbers_have_memory_of_their_own(tmp_path: Path, make: Any, told: bool) -> None:
    assert (row_kinds(opened(tmp_path, make)) is not None) is told


def test_what_is_no_batch_goes_to_the_session_as_it_is(tmp_path: Path) -> None:
    session = opened(tmp_path, layers)
    runner = bucketed(session)
    for count in (0, 13, 100):
        (answer,) = runner.run(rows(count))
        (wanted,) = session.run(rows(count))
        assert answer is not None and wanted is not None and np.array_equal(answer, wanted)
    with pytest.raises(GatewayError):
        runner.run({"x": rows(1)["x"], "other": rows(1)["x"]})
    with pytest.raises(GatewayError):
        bucketed(opened(tmp_path / "b", zoo.adding)).run(
            {"a": np.zeros((3, 3), np.float32), "b": np.zeros((2, 3), np.float32)}
        )


def test_an_answer_stays_what_it_is_when_the_memory_is_lent_again(tmp_path: Path) -> None:
    runner = bucketed(opened(tmp_path, passing_on), concurrency=1)
    answers = []
    for start in range(50):
        with runner.join([rows(1, start), rows(2, start)]) as joined:
            answers.append(runner.run(joined)[0])
    for start, answer in enumerate(answers):
        assert answer is not None and np.array_equal(answer, np.concatenate([rows(n, start)["x"] for n in (1, 2)]))


def test_an_answer_in_lent_memory_is_copied_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As another ONNX Runtime might answer with an input that it passes on."""
    runner = bucketed(opened(tmp_path, passing_on), concurrency=1)
    monkeypatch.setattr(OnnxSession, "run", lambda self, feeds, options=None: [feeds["x"]])
    answers = []
    for start in (0.0, 5.0):
        with runner.join([rows(1, start), rows(2, start)]) as joined:
            answers.append(runner.run(joined)[0])
    assert answers[0] is not None and np.array_equal(answers[0][1:], rows(2)["x"])


def test_more_batches_than_memory_was_made_for_are_as_good(tmp_path: Path) -> None:
    runner = bucketed(opened(tmp_path, layers), concurrency=1)
    with runner.join([rows(3)]) as one, runner.join([rows(3, 7.0)]) as other, runner.join([rows(3, 9.0)]) as third:
        arrays = [feeds["x"] for feeds in (one, other, third)]
        assert not any(np.shares_memory(arrays[a], arrays[b]) for a, b in ((0, 1), (0, 2), (1, 2)))
        for feeds, start in ((one, 0.0), (other, 7.0), (third, 9.0)):
            assert np.array_equal(feeds["x"], rows(3, start)["x"])


def test_what_is_kept_has_a_bound(tmp_path: Path) -> None:
    def wide(path: Path) -> Path:
        """A row of 40 MB."""
        axes = helper.make_tensor("axes", INT64, [1], [1])
        node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=1)
        return save(path, [node], {"x": (FLOAT, ["n", 10_000_000])}, {"y": (FLOAT, ["n", 1])}, [axes])

    session = opened(tmp_path, wide)
    assert [free_again(bucketed(session, most, 4)) for most in (1, 2, 4, 8)] == [4, 3, 1, 0]


def free_again(runner: BucketedRunner) -> int:
    return len(runner._pool._free)


def test_memory_comes_back_from_a_run_that_fails(tmp_path: Path) -> None:
    runner = bucketed(opened(tmp_path, onnx_models.gathering), 4)
    for _ in range(3):
        with pytest.raises(InvalidRequest), runner.join([{"i": np.array([0, 99, 1])}]) as joined:
            runner.run(joined)
    with pytest.raises(InvalidRequest):
        runner.run({"i": np.array([0, 99, 1])})
    assert free_again(runner) == 2
    (answer,) = runner.run({"i": np.array([3, 2, 1])})
    assert answer is not None and answer.tolist() == [[6, 7], [4, 5], [2, 3]]


def test_memory_stays_with_a_run_until_it_has_ended(tmp_path: Path) -> None:
    runner = bucketed(opened(tmp_path, onnx_models.endless), 4)
    options, begun = onnxruntime.RunOptions(), threading.Event()

    def hang() -> None:
        with runner.join([rows(3)]) as joined:
            begun.set()
            runner.run(joined, options)

    with ThreadPoolExecutor(1) as threads:
        hanging = threads.submit(hang)
        assert begun.wait(10)
        assert free_again(runner) == 1
        options.terminate = True
        with pytest.raises(ModelFailed):
            hanging.result(10)
    assert free_again(runner) == 2


def test_each_caller_gets_its_own_rows_from_two_batches_at_once(tmp_path: Path) -> None:
    session = opened(tmp_path, layers)
    runner = bucketed(session)

    async def scenario() -> None:
        batcher = Batcher(runner.run, RULES, Tally(), threads, True, join=runner.join)
        generator = np.random.default_rng(3)
        for _ in range(20):
            sent = [rows(int(count), float(generator.integers(-3, 3))) for count in generator.integers(1, 5, 40)]
            patience_ns = time.monotonic_ns() + int(30e9)
            answers = await asyncio.gather(*(batcher.submit(feeds, patience_ns) for feeds in sent))
            for feeds, (answer,) in zip(sent, answers, strict=True):
                (wanted,) = session.run(feeds)
                assert answer is not None and wanted is not None and np.allclose(answer, wanted, atol=1e-6)

    with ThreadPoolExecutor(2) as threads:
        asyncio.run(scenario())
    assert free_again(runner) == 2


def test_a_poisoned_request_fails_alone_and_padding_repeats_none(tmp_path: Path) -> None:
    runner = bucketed(opened(tmp_path, onnx_models.gathering), 8)

    async def scenario() -> list[Any]:
        batcher = Batcher(runner.run, BatchingRules(8, concurrency=2), Tally(), threads, True, join=runner.join)
        until_ns = time.monotonic_ns() + int(30e9)
        found: list[Any] = []
        for indices in ([0, 3, 99, 1, 2], [1, 2, 3]):  # what is left of 99 in lent memory harms no one
            sent = (batcher.submit({"i": np.array([i])}, until_ns) for i in indices)
            found += await asyncio.gather(*sent, return_exceptions=True)
        return found

    with ThreadPoolExecutor(2) as threads:
        answers = asyncio.run(scenario())
    assert isinstance(answers.pop(2), InvalidRequest)
    assert [answer[0].tolist() for answer in answers] == [[[2 * i, 2 * i + 1]] for i in (0, 3, 1, 2, 1, 2, 3)]
    assert free_again(runner) == 2
