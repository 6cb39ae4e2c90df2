"""Proving that rows are independent: labels that agree by chance prove nothing; independent rows are batched."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.backends.batch_variants import join_rows
from gateway.backends.loaded_version import load_version
from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.repository import Repository
from gateway.backends.row_comparison import ALL_ROWS, find_row_axis, is_coarse
from gateway.backends.row_independence import ROWS_DEPENDENT, RUN_TIMED_OUT, RowIndependenceCheck
from gateway.backends.signature import Feeds
from gateway.settings.model import ModelSettings
from loadtests.models import flawed
from tests.backends import onnx_models
from tests.backends.labelling import INDEPENDENT, MIXING
from tests.backends.onnx_models import place
from tests.backends.test_warmup import CPU, loaded, sample, warmed


@pytest.mark.parametrize("make", MIXING.values(), ids=MIXING.keys())
def test_model_with_dependent_rows_is_not_batched(tmp_path: Path, make: object) -> None:
    version = loaded(tmp_path, make)  # type: ignore[arg-type]
    assert version.warm_up.unbatchable_reason
    assert version.rules.max_rows == 1


@pytest.mark.parametrize("make", INDEPENDENT.values(), ids=INDEPENDENT.keys())
def test_model_with_independent_rows_is_batched_by_labels(tmp_path: Path, make: object) -> None:
    version = loaded(tmp_path, make)  # type: ignore[arg-type]
    assert version.warm_up.unbatchable_reason == ""
    assert version.rules.max_rows > 1
    assert version.warm_up.rounding < 1e-5


def test_large_row_in_a_batch_changes_another_row_s_label(tmp_path: Path) -> None:
    """The quantised model used as evidence really returns another label beside another customer's request."""
    session = OnnxSession(MIXING["quantised"](tmp_path / "model.onnx"), 1, CPU)
    rows = np.random.default_rng(5).standard_normal((50, 8)).astype(np.float32)
    large = np.full((1, 8), 1e3, np.float32)
    alone = [session.run({"x": row[None]})[0] for row in rows]
    beside = [session.run({"x": np.concatenate([row[None], large])})[0] for row in rows]
    assert any(a is not None and b is not None and a[0] != b[0] for a, b in zip(alone, beside, strict=True))


def test_rows_of_warmup_json_are_scaled_too(tmp_path: Path) -> None:
    sample(tmp_path, [2, 8], [0.5, 1, 2, 3, 4, 5, 6, 7, 3, 1, 2, 9, 4, 5, 6, 7])
    assert loaded(tmp_path, MIXING["beyond a limit, label"]).warm_up.unbatchable_reason == ROWS_DEPENDENT


def test_integers_of_warmup_json_are_not_scaled(tmp_path: Path) -> None:
    rows = {"shape": [2, 3], "datatype": "INT64"}
    inputs = [{"name": "ids", "data": [7, 1, 2, 0, 5, 6], **rows}, {"name": "mask", "data": [1, 1, 0, 1, 1, 1], **rows}]
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "warmup.json").write_text(json.dumps({"inputs": inputs}))
    assert loaded(tmp_path, INDEPENDENT["tokens"]).warm_up.unbatchable_reason == ""


def test_dynamic_quantisation_is_given_as_the_reason(tmp_path: Path) -> None:
    for name in ("quantised", "quantised, scores", "quantised, weights outside"):
        folder = tmp_path / name
        folder.mkdir()
        assert "quantised dynamically" in loaded(folder, MIXING[name]).warm_up.unbatchable_reason


def test_operators_hidden_in_a_subgraph_are_an_obstacle(tmp_path: Path) -> None:
    assert "hidden in a If" in loaded(tmp_path, MIXING["inside an If"]).warm_up.unbatchable_reason


def test_loading_does_not_change_the_model_folder(tmp_path: Path) -> None:
    file = place(tmp_path, "m", 1, INDEPENDENT["linear, weights outside"])
    before = {path.name: path.read_bytes() for path in file.parent.iterdir()}
    load_version(file, ModelSettings(), tmp_path / "warmup.json")
    assert {path.name: path.read_bytes() for path in file.parent.iterdir()} == before


def test_independent_rows_are_proven_at_any_batch_size(tmp_path: Path) -> None:
    file = INDEPENDENT["linear"](tmp_path / "model.onnx")
    generator = np.random.default_rng(0)
    rows = [{"x": generator.standard_normal((1, 8)).astype(np.float32)} for _ in range(3)]
    session = OnnxSession(file, 1, CPU)
    assert [
        RowIndependenceCheck(session, rows, size, synthetic=True).dependence_reason for size in (1, 2, 3, 5, 7, 32, 33)
    ] == [""] * 7


@pytest.mark.parametrize(
    ("one", "other", "axis"),
    [
        ((3, 4), (7, 4), 0),
        ((12, 5), (28, 5), 0),  # four heads a row
        ((5, 3, 4), (5, 7, 4), 1),
        ((3,), (3,), ALL_ROWS),  # as many however many rows: of the batch, or of none
        ((), (), ALL_ROWS),
        ((9, 2), (11, 2), None),  # what was found
        ((3, 4), (7, 5), None),
        ((3,), (7, 1), None),
    ],
)
def test_follows_finds_the_axis_of_the_rows(one: tuple[int, ...], other: tuple[int, ...], axis: int | None) -> None:
    assert find_row_axis(np.zeros(one), 3, np.zeros(other), 7) == axis


@pytest.mark.parametrize(
    ("values", "coarse"),
    [
        (np.array([0.1, 0.7, 0.2], np.float32), False),
        (np.array([2.0, 1.0, 7.0], np.float32), True),
        (np.array([0.5, 0.5, 0.5, 0.25, 0.5], np.float32), True),
        (np.array([np.nan, np.inf, 0], np.float32), True),
        (np.array([1, 2, 3]), True),
        (np.array(["a", "b"], object), True),
        (np.empty((0, 3), np.float32), True),
        (None, True),
    ],
)
def test_is_coarse_recognises_values_that_agree_by_chance(values: np.ndarray | None, coarse: bool) -> None:
    assert is_coarse(values) is coarse


def test_model_whose_row_can_delay_others_is_not_batched(tmp_path: Path) -> None:
    """Its loop runs as long as a value says; the rows of warmup.json end soon."""
    flawed(tmp_path, "hangs", "m")
    sample(tmp_path, [2, 4], range(8))
    started = time.perf_counter()
    repository = Repository(tmp_path)
    version = load_version(repository.model_file("m", 2), ModelSettings(), repository.sample("m"))
    assert version.warm_up.unbatchable_reason == RUN_TIMED_OUT
    assert time.perf_counter() - started < 30


def test_model_whose_row_can_fail_others_is_batched(tmp_path: Path) -> None:
    for flaw in ("raises", "shape"):
        (tmp_path / flaw).mkdir()
        flawed(tmp_path / flaw, flaw, "m")
        sample(tmp_path / flaw, [2, 4], range(8))
        repository = Repository(tmp_path / flaw)
        version = load_version(repository.model_file("m", 2), ModelSettings(), repository.sample("m"))
        assert version.warm_up.unbatchable_reason == ""


def test_joined_repeats_rows_from_the_first() -> None:
    rows = [{"x": np.array([[value]])} for value in (1, 2)]
    assert join_rows(rows, 5)["x"].ravel().tolist() == [1, 2, 1, 2, 1]


@pytest.mark.parametrize(
    ("make", "shaking", "batched"),
    [
        (onnx_models.doubling, 0.0, True),
        (onnx_models.doubling, 1e-5, True),
        (onnx_models.doubling, 1e-4, True),
        (onnx_models.doubling, 0.1, False),
        (onnx_models.centring, 0.0, False),
        (onnx_models.centring, 1e-4, False),
    ],
)
def test_a_device_that_does_not_repeat_itself_is_no_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: object, shaking: float, batched: bool
) -> None:
    """`shaking`: by how much of a row's largest value equal runs differ, as on a GPU that adds in any order."""
    run, generator = OnnxSession.run, np.random.default_rng(2)

    def shaken(self: OnnxSession, feeds: Feeds, options: Any = None) -> list[Result]:
        (result,) = run(self, feeds, options)
        assert result is not None
        scale = np.max(np.abs(result), 1, initial=0.0, where=np.isfinite(result), keepdims=True)
        return [(result + scale * shaking * generator.uniform(-1, 1, result.shape)).astype(result.dtype)]

    monkeypatch.setattr(OnnxSession, "run", shaken)
    monkeypatch.setattr(OnnxSession, "on_cpu", lambda _: False)
    warm = warmed(tmp_path, make)  # type: ignore[arg-type]
    assert (warm.unbatchable_reason == "") is batched
