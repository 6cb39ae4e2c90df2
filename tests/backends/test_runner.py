"""Which versions are served in buckets: those on another device than the CPU, whose buckets answer as it does."""

import asyncio
import logging
import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.backends import bucket_sessions
from gateway.backends.batching_rules import BatchingRules
from gateway.backends.buckets import bucket_sizes
from gateway.backends.in_worker import in_worker
from gateway.backends.loaded_version import load_version
from gateway.backends.onnx import OnnxSession
from gateway.backends.run_buffers import Buffers
from gateway.backends.runner import default_concurrency, runner_for
from gateway.backends.signature import Feeds
from gateway.backends.warmup import warm_up
from gateway.settings.model import ModelSettings
from gateway.shm.tally import Tally
from tests.backends.onnx_models import place
from tests.backends.test_bucketed import RULES, dice, layers, opened, rows


@pytest.fixture(autouse=True)
def every_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU a small model takes about as long for one row as for four: no size would be worth it."""
    monkeypatch.setattr(bucket_sessions, "KEEP_RATIO", math.inf)


def test_the_cpu_is_served_without_buckets_unless_it_must(tmp_path: Path) -> None:
    session = opened(tmp_path, layers)
    warm = warm_up(session, tmp_path / "none", 12)
    rules = BatchingRules(12, concurrency=2)
    assert default_concurrency(session) == 1
    assert runner_for(session, warm, rules).buckets == ()
    assert runner_for(session, warm, rules, bucketed=True).buckets == (1, 2, 4, 8, 12)
    assert runner_for(session, warm, BatchingRules(), bucketed=True).buckets == ()


def test_one_that_is_answered_differently_is_served_without_buckets(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    session = opened(tmp_path, dice)
    warm = warm_up(opened(tmp_path / "other", layers), tmp_path / "none", 12)
    with caplog.at_level(logging.WARNING):
        assert runner_for(session, warm, RULES, bucketed=True).buckets == ()
    assert "1 rows are answered differently in 1" in caplog.text


@pytest.mark.parametrize("role", ["stable", "candidate"])
def test_a_version_on_another_device_is_served_in_buckets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, role: str
) -> None:
    monkeypatch.setattr(OnnxSession, "on_cpu", lambda _: False)
    ran: list[int] = []
    gathered: list[int] = []
    run, fill = OnnxSession.run, Buffers.fill

    def noting(self: OnnxSession, feeds: Feeds, options: Any = None) -> Any:
        ran.append(len(feeds["x"]))
        return run(self, feeds, options)

    def counting(self: Buffers, parts: Sequence[Feeds], size: int) -> int:
        gathered.append(len(parts))
        return fill(self, parts, size)

    loaded = load_version(place(tmp_path, "m", 1, layers), ModelSettings(), tmp_path / "none")
    most = loaded.rules.max_rows
    assert (loaded.rules.concurrency, loaded.runner.buckets) == (2, bucket_sizes(most))
    monkeypatch.setattr(OnnxSession, "run", noting)
    monkeypatch.setattr(Buffers, "fill", counting)
    session = loaded.session

    async def scenario() -> None:
        stopped = (lambda: False) if role == "candidate" else None
        version = in_worker("m", 1, loaded, Tally(), stopped, compared=True)
        until_ns = time.monotonic_ns() + int(30e9)
        sent = [rows(1, float(index)) for index in range(3)]
        answers = await asyncio.gather(*(version.infer(feeds, until_ns) for feeds in sent))
        for feeds, (answer,) in zip(sent, answers, strict=True):
            (wanted,) = run(session, feeds)
            assert answer is not None and wanted is not None and np.allclose(answer, wanted, atol=1e-6)
        await version.close()

    asyncio.run(scenario())
    assert most < 4 or (ran, gathered) == ([4], [3])


def test_model_yaml_says_how_many_run_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = place(tmp_path, "m", 1, layers)
    three = ModelSettings(concurrency=3)
    found = [load_version(file, settings, tmp_path / "none").rules.concurrency for settings in (ModelSettings(), three)]
    monkeypatch.setattr(OnnxSession, "on_cpu", lambda _: False)
    found += [
        load_version(file, settings, tmp_path / "none").rules.concurrency for settings in (ModelSettings(), three)
    ]
    assert found == [1, 3, 2, 3]
