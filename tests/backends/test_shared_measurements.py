"""Measurements of a version by one worker are reused by the others while the same content is on disk."""

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import pytest

from gateway.backends import shared_measurements
from gateway.backends.loaded_version import LoadedVersion
from gateway.backends.loop_limits import LoopLimits
from gateway.backends.repository import Repository
from gateway.backends.shared_measurements import Measurement, Measurements
from gateway.backends.warmup import WarmUp
from gateway.worker.models import loader as module
from gateway.worker.models.loader import Loader
from tests.backends import onnx_models
from tests.deployed import WorkerBoards

KEY = "m", 1


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository whose files are treated as unchanged for long enough at once."""
    monkeypatch.setattr(shared_measurements, "MIN_AGE_NS", -(10**18))
    onnx_models.doubling(tmp_path / "models" / "m" / "1" / "model.onnx")
    return tmp_path / "models"


class Worker:
    """Loads as a worker does, and records which measurements it was given."""

    def __init__(self, models: Path, monkeypatch: pytest.MonkeyPatch, part: float = 0.0) -> None:
        self.told: list[Measurement | None] = []
        instruments = WorkerBoards().state
        instruments.measurements_path, instruments.start_fraction = models.parent / "shared.measured", part
        self.loader = Loader(Repository(models), instruments, {})
        self.meanwhile = lambda: None
        self._load = module.load_version
        monkeypatch.setattr(module, "load_version", self._counted)

    def load(self) -> LoadedVersion:
        return asyncio.run(self.loader.load(*KEY))

    def _counted(self, *given: Any) -> LoadedVersion:
        self.told.append(given[3] if len(given) > 3 else None)
        loaded = self._load(*given)
        self.meanwhile()
        return loaded


def test_second_worker_reuses_the_measurements_of_the_first(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        first = Worker(models, patch).load()
    other = Worker(models, monkeypatch)
    second = other.load()
    assert other.told[0] is not None
    assert second.warm_up == first.warm_up
    assert second.warm_up.row.keys() == first.warm_up.row.keys()
    assert (second.loop_limits, second.sha256, second.rules) == (first.loop_limits, first.sha256, first.rules)
    assert second.session.signature.outputs == first.session.signature.outputs


@pytest.mark.parametrize("what", ["the file", "the settings", "the sample"])
def test_changed_content_is_measured_again(what: str, models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        Worker(models, patch).load()
    if what == "the file":
        onnx_models.summing(models / "m" / "1" / "model.onnx")
    elif what == "the settings":
        (models / "m" / "model.yaml").write_text("batching: {max_size: 2}\n")
    else:
        row = '{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'
        (models / "m" / "warmup.json").write_text(row)
    other = Worker(models, monkeypatch)
    other.load()
    assert other.told == [None]


def test_version_replaced_while_loading_is_loaded_again_without_measurements(
    models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        first = Worker(models, patch).load()
    other = Worker(models, monkeypatch)
    other.meanwhile = lambda: os.utime(models / "m" / "1" / "model.onnx")
    assert other.load().sha256 == first.sha256
    assert [told is None for told in other.told] == [False, True]
    third = Worker(models, monkeypatch)
    third.load()
    assert third.told == [None], "nor was that told to anyone"


def test_recently_written_version_is_not_shared(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_measurements, "MIN_AGE_NS", 3_600_000_000_000)
    for _ in range(2):
        with monkeypatch.context() as patch:
            worker = Worker(models, patch)
            worker.load()
            assert worker.told == [None]


def test_torn_lines_and_other_providers_are_ignored(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shared = models.parent / "shared.measured"
    with monkeypatch.context() as patch:
        Worker(models, patch).load()
    whole = shared.read_bytes()
    shared.write_bytes(b'{"of": 1}\n[]\n\xff\n' + whole[: len(whole) // 2] + whole)
    other = Worker(models, monkeypatch)
    other.load()
    assert other.told[0] is not None
    shared.write_bytes(whole.replace(b"CPUExecutionProvider", b"CUDAExecutionProvider"))
    monkeypatch.undo()
    monkeypatch.setattr(shared_measurements, "MIN_AGE_NS", -(10**18))
    third = Worker(models, monkeypatch)
    began_s = time.process_time()
    loaded = third.load()
    assert loaded.warm_up.single_us > 0 and time.process_time() > began_s
    assert third.told[0] is not None and third.told[0].providers == ("CUDAExecutionProvider",)


def test_version_that_no_generated_input_fits_is_shared_too(tmp_path: Path) -> None:
    reach, nothing = LoopLimits("made-up inputs do not run"), float("nan")
    file = tmp_path / "shared"
    told = Measurement(WarmUp("no batches", nothing, nothing), reach, "ab", ("CPUExecutionProvider",))
    content = (("file", 1, 2, 3, 4),)
    Measurements(file, tmp_path).publish(content, told)
    found = Measurements(file, tmp_path).find(content)
    assert found is not None
    assert found.warm_up.unbatchable_reason == "no batches" and found.warm_up.single_us != found.warm_up.single_us
    assert found.loop_limits == reach


def test_workers_start_loading_at_different_models(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    orders = [Worker(models, monkeypatch, part).loader.load_order({"d", "b", "a", "c"}) for part in (0.0, 0.25, 0.5)]
    assert orders == [["a", "b", "c", "d"], ["b", "c", "d", "a"], ["c", "d", "a", "b"]]
