"""What may run on the event loop: only models that no request can make run longer than was measured."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from gateway.backends.loaded_version import load_version
from gateway.backends.loop_limits import LoopLimits
from gateway.settings.model import BatchingSettings, ModelSettings
from loadtests import models as loadtest_models
from tests.backends import onnx_models, stretching

SHIPPED = sorted(Path("models").glob("*/[0-9]*/model.onnx"))
SIZED = ("Range", "ConstantOfShape", "Expand", "Tile", "Resize", "Pad", "TopK", "OneHot")
STRETCHED: dict[str, tuple[Callable[[Path], Path], str]] = {
    "loop": (onnx_models.looping, "operator Loop"),
    "if": (stretching.branching, "operator If"),
    "scan": (stretching.scanning, "operator Scan"),
    "free height and width": (stretching.convolving, r"input 'x' is of any size, \[-1, 1, -1, -1\]: .*warmup.json"),
    "free width": (partial(stretching.convolving, height=8), r"input 'x' is of any size"),
    "layers": (onnx_models.layered, "input 'state' is of any size"),
    "nonzero": (partial(stretching.sized, operator="NonZero"), "operator NonZero"),
    "default size": (stretching.overridable, "operator Expand takes a size that is computed from values: 'size'"),
    "function": (stretching.calling_a_function, "operator own.Twice"),
    **{name: (partial(stretching.sized, operator=name), f"operator {name} takes a size") for name in SIZED},
}


def reach_of(file: Path, settings: ModelSettings | None = None) -> LoopLimits:
    return load_version(file, settings or ModelSettings(), file.parent.parent / "warmup.json").loop_limits


@pytest.mark.parametrize(("make", "obstacle"), STRETCHED.values(), ids=STRETCHED)
def test_model_with_unbounded_run_time_runs_in_threads(
    tmp_path: Path, make: Callable[[Path], Path], obstacle: str
) -> None:
    assert re.search(obstacle, reach_of(make(tmp_path / "m" / "1" / "model.onnx")).off_loop_reason)


@pytest.mark.parametrize("make", [onnx_models.doubling, stretching.shaped, stretching.tokenizing])
def test_model_with_bounded_run_time_runs_on_the_event_loop(tmp_path: Path, make: Callable[[Path], Path]) -> None:
    assert reach_of(make(tmp_path / "m" / "1" / "model.onnx")).off_loop_reason == ""


@pytest.mark.parametrize("file", SHIPPED, ids=str)
def test_the_shipped_models_run_on_the_event_loop(file: Path) -> None:
    reach = reach_of(file)
    assert reach.off_loop_reason == ""
    assert reach.rows >= 32


def test_benchmark_model_runs_on_the_event_loop_with_large_batches(tmp_path: Path) -> None:
    reach = reach_of(loadtest_models.tiny(tmp_path))
    assert reach.off_loop_reason == ""
    assert reach.rows >= 64


def test_full_size_input_in_warmup_json_makes_the_model_bounded(tmp_path: Path) -> None:
    file = stretching.convolving(tmp_path / "m" / "1" / "model.onnx")
    tensor = {"name": "x", "datatype": "FP32", "shape": [2, 1, 6, 5], "data": list(range(60))}
    (tmp_path / "m" / "warmup.json").write_text(json.dumps({"inputs": [tensor]}))
    reach = reach_of(file, ModelSettings(batching=BatchingSettings(max_size=4)))  # 32 rows take about a millisecond
    assert reach.off_loop_reason == ""
    assert reach.allows({"x": np.zeros((1, 1, 6, 5), np.float32)})
    assert reach.allows({"x": np.zeros((1, 1, 5, 6), np.float32)})
    assert not reach.allows({"x": np.zeros((1, 1, 6, 6), np.float32)})
    assert not reach.allows({"x": np.zeros((1, 1, 1, 31), np.float32)})


def test_slow_full_size_input_in_warmup_json_is_an_obstacle(tmp_path: Path) -> None:
    file = stretching.convolving(tmp_path / "m" / "1" / "model.onnx")
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 1, 64, 64], "data": [0.5] * 4096}
    (tmp_path / "m" / "warmup.json").write_text(json.dumps({"inputs": [tensor]}))
    assert "a run takes" in reach_of(file).off_loop_reason


def test_warmup_json_does_not_bound_a_loop_operator(tmp_path: Path) -> None:
    file = onnx_models.looping(tmp_path / "m" / "1" / "model.onnx")
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [1]}
    (tmp_path / "m" / "warmup.json").write_text(json.dumps({"inputs": [tensor]}))
    assert "operator Loop" in reach_of(file).off_loop_reason


def test_request_with_more_rows_than_fit_a_millisecond_is_not_covered(tmp_path: Path) -> None:
    reach = reach_of(loadtest_models.tiny(tmp_path))
    assert reach.allows({"x": np.zeros((reach.rows, 64), np.float32)})
    assert not reach.allows({"x": np.zeros((reach.rows + 1, 64), np.float32)})
    assert reach.rows < 100_000


def test_request_with_longer_texts_than_fit_a_millisecond_is_not_covered() -> None:
    reach = reach_of(Path("models/tickets/2/model.onnx"))
    assert reach.allows({"text": np.array([["where is my parcel"]], object)})
    assert not reach.allows({"text": np.array([["x" * 65_537]], object)})
    assert not reach.allows({"text": np.array([["a"], ["b " * (reach.length // 2)]], object)})
    assert not reach.allows({"text": np.array([["x"] * 1] * (reach.rows + 1), object)})
