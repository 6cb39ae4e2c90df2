"""Warm-up: a version is batched only where its rows are proven independent, and otherwise says why not."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from onnx import helper

from gateway.backends.batching_rules import BatchingRules
from gateway.backends.loaded_version import LoadedVersion, load_version
from gateway.backends.onnx import OnnxSession, Result
from gateway.backends.repository import Repository
from gateway.backends.signature import Feeds
from gateway.backends.warmup import WarmUp, best_batch_size, warm_up
from gateway.errors import ModelFailed, ModelUnavailable
from gateway.protocol.tensors import DATATYPES
from gateway.settings.model import ModelSettings, PredictionSettings
from tests import zoo
from tests.backends import onnx_models
from tests.backends.onnx_models import FLOAT, INT64, place, save

CPU = ["CPUExecutionProvider"]
MIXED_UP = "rows run together differ from the same rows run apart"
FIXED = "an input has no free first dimension"
EAGER = ModelSettings.model_validate({"batching": {"max_size": 8, "max_delay": "250ms"}, "concurrency": 3})
Make = Callable[[Path], Path]


def warmed(folder: Path, make: Make, max_rows: int = 8) -> WarmUp:
    session = OnnxSession(place(folder, "m", 1, make), 1, CPU)
    return warm_up(session, folder / "m" / "warmup.json", max_rows)


def loaded(folder: Path, make: Make, settings: ModelSettings | None = None) -> LoadedVersion:
    repository = Repository(folder)
    place(folder, "m", 1, make)
    return load_version(repository.model_file("m", 1), settings or ModelSettings(), repository.sample("m"))


def sample(folder: Path, shape: Sequence[int], data: Sequence[Any], name: str = "x", datatype: str = "FP32") -> Path:
    """A V2 request in warmup.json."""
    file = folder / "m" / "warmup.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": list(data)}]}))
    return file


@pytest.mark.parametrize(
    "make",
    [
        onnx_models.doubling,
        onnx_models.summing,
        onnx_models.gathering,
        onnx_models.zip_mapping,
        zoo.adding,
        zoo.mixed,
        zoo.defaulted,  # its offset has an initializer, and is no input
        zoo.logarithm,  # NaN equals NaN here
        zoo.identity("FP16"),
        zoo.identity("BOOL"),
        zoo.identity("BYTES"),
    ],
)
def test_model_with_independent_rows_is_batched(tmp_path: Path, make: Make) -> None:
    warm = warmed(tmp_path, make)
    assert warm.unbatchable_reason == ""
    assert warm.single_us > 0
    assert warm.full_us > 0


@pytest.mark.parametrize(
    ("make", "obstacle"),
    [
        (onnx_models.centring, MIXED_UP),
        (zoo.transposing, MIXED_UP),
        (zoo.fixed, FIXED),
        (zoo.recurrent, FIXED),  # a state of [2, batch, 4]
        (zoo.scalar, FIXED),
        (onnx_models.looping, FIXED),
        (onnx_models.layered, "the first dimensions of its inputs differ"),
        (onnx_models.optional_output, "an input or output is optional"),
        (zoo.total, "an output has no free first dimension"),
    ],
)
def test_model_that_batching_would_break_is_not_batched(tmp_path: Path, make: Make, obstacle: str) -> None:
    warm = warmed(tmp_path, make)
    assert warm.unbatchable_reason == obstacle
    assert warm.full_us == warm.single_us  # it was run and measured all the same
    assert warm.single_us > 0


def test_model_with_cheap_extra_rows_gets_full_batches(tmp_path: Path) -> None:
    warm = warmed(tmp_path, onnx_models.doubling, max_rows=24)
    assert (warm.unbatchable_reason, warm.rows) == ("", 24)


def test_batching_rules_follow_the_measured_batch_size(tmp_path: Path) -> None:
    version = loaded(tmp_path, zoo.pooling, EAGER)  # images of 600 kB: whether joining them pays, the machine decides
    rows = version.warm_up.rows
    assert (version.warm_up.unbatchable_reason, version.rules.max_rows, version.rules.concurrency) == ("", rows, 3)
    assert (version.rules.max_delay_s == 0.0) is (rows == 1)
    assert (version.warm_up.full_us == version.warm_up.single_us) is (rows == 1)


@pytest.mark.parametrize(
    ("run_us", "size"),
    [
        (lambda rows: 100, 32),  # rows cost nothing
        (lambda rows: 10_000 + 1_000 * rows, 32),
        (lambda rows: 10_000 * rows, 2),  # hardly anything is saved, and the first would wait for the last
        (lambda rows: 1_000 * rows * (1 if rows == 1 else 1.6), 1),
        (lambda rows: 500 * rows * (1 if rows <= 8 else 1.2), 8),  # beyond 8 the caches are too small
        (lambda rows: 100 * rows + 50 * rows * (rows > 1), 1),  # joining costs more than it saves
        (lambda rows: 400_000 * rows**0.9, 4),  # which takes more than a second: none larger is tried
    ],
)
def test_best_batch_size_is_the_largest_that_pays(run_us: Callable[[int], float], size: int) -> None:
    assert best_batch_size(run_us(1), 32, run_us) == (size, pytest.approx(run_us(size)))


def test_best_batch_size_skips_sizes_that_would_take_too_long() -> None:
    tried: list[int] = []

    def run_us(rows: int) -> float:
        tried.append(rows)
        return 300_000.0 * rows

    best_batch_size(300_000.0, 32, run_us)
    assert tried == [2, 4]


def test_independence_is_not_tested_where_batching_is_off(tmp_path: Path) -> None:
    assert warmed(tmp_path, onnx_models.doubling, max_rows=1).unbatchable_reason == "batching is off"


def test_model_that_generated_inputs_do_not_fit_asks_for_warmup_json(tmp_path: Path) -> None:
    warm = warmed(tmp_path, onnx_models.hiding_its_width)
    assert warm.unbatchable_reason == "made-up inputs do not run on it: put a V2 request that does in warmup.json"
    assert math.isnan(warm.single_us) and math.isnan(warm.full_us)


def test_rows_of_warmup_json_replace_generated_inputs(tmp_path: Path) -> None:
    sample(tmp_path, [2, 5], range(10))
    warm = warmed(tmp_path, onnx_models.hiding_its_width)
    assert warm.unbatchable_reason == ""
    assert warm.single_us > 0


def test_rows_of_warmup_json_reveal_dependence(tmp_path: Path) -> None:
    sample(tmp_path, [2, 3], [1, 2, 3, 7, 5, 4])
    assert warmed(tmp_path, onnx_models.centring).unbatchable_reason == MIXED_UP


def test_initializer_in_warmup_json_is_not_split_into_rows(tmp_path: Path) -> None:
    """Such files were written from metadata that once listed initializers."""
    x = {"name": "x", "datatype": "FP32", "shape": [3, 3], "data": list(range(9))}
    offset = {"name": "offset", "datatype": "FP32", "shape": [1], "data": [5]}
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "warmup.json").write_text(json.dumps({"inputs": [offset, x]}))
    assert warmed(tmp_path, zoo.defaulted).unbatchable_reason == ""


def test_warmup_json_with_one_row_proves_nothing(tmp_path: Path) -> None:
    sample(tmp_path, [1, 2], [1, 2])
    warm = warmed(tmp_path, onnx_models.doubling)
    assert warm.unbatchable_reason == "warmup.json has one row: give it two different ones"
    assert warm.single_us > 0


def test_warmup_json_for_a_fixed_shape_model_is_run_whole(tmp_path: Path) -> None:
    sample(tmp_path, [3, 2], range(6))
    warm = warmed(tmp_path, zoo.fixed)
    assert warm.unbatchable_reason == FIXED
    assert warm.single_us > 0


@pytest.mark.parametrize(
    ("shape", "data", "name", "reason"),
    [
        ([2, 4], range(8), "x", "the model failed"),
        ([5], range(5), "x", "input 'x': shape is [5], the model takes [-1, -1]"),
        ([1, 5], range(5), "typo", "unknown input 'typo'"),
        ([1, 5], range(4), "x", "'x'"),
    ],
)
def test_warmup_json_that_does_not_run_is_named(
    tmp_path: Path, shape: list[int], data: range, name: str, reason: str
) -> None:
    file = sample(tmp_path, shape, data, name)
    with pytest.raises(ModelUnavailable) as caught:
        loaded(tmp_path, onnx_models.hiding_its_width)
    assert str(caught.value).startswith(f"{file}: ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"inputs": []}', "\ud83d"])
def test_warmup_json_that_is_not_a_request_is_named(tmp_path: Path, text: str) -> None:
    file = sample(tmp_path, [1, 2], [1, 2])
    file.write_text(text, errors="surrogatepass")
    with pytest.raises(ModelUnavailable) as caught:
        loaded(tmp_path, onnx_models.doubling)
    assert str(caught.value).startswith(f"{file}: ")


def test_labels_are_learned_from_warmup_json(tmp_path: Path) -> None:
    sample(tmp_path, [2, 3], [1, 2, 3, 4, 5, 6])
    (scores,) = loaded(tmp_path, onnx_models.zip_mapping).session.signature.outputs
    assert (scores.shape, scores.labels) == ((-1, 3), ("3", "5", "7"))


def test_batchable_version_uses_the_configured_rules(tmp_path: Path) -> None:
    version = loaded(tmp_path, onnx_models.doubling, EAGER)
    assert version.rules == BatchingRules(max_rows=8, max_delay_s=0.25, concurrency=3)


@pytest.mark.parametrize("make", [onnx_models.centring, zoo.recurrent, onnx_models.hiding_its_width])
def test_version_with_an_obstacle_is_not_batched_or_delayed(tmp_path: Path, make: Make) -> None:
    version = loaded(tmp_path, make, EAGER)
    assert version.rules == BatchingRules(max_rows=1, max_delay_s=0.0, concurrency=3)


def test_version_with_batching_off_is_not_batched(tmp_path: Path) -> None:
    version = loaded(tmp_path, onnx_models.doubling, ModelSettings(batching=False))
    assert (version.rules, version.warm_up.unbatchable_reason) == (BatchingRules(), "batching is off")


@pytest.mark.parametrize("make", [zoo.garbage, zoo.half_known, onnx_models.map_input])
def test_loading_error_names_the_file_once(tmp_path: Path, make: Make) -> None:
    with pytest.raises(ModelUnavailable) as caught:
        loaded(tmp_path, make)
    file = str(tmp_path / "m" / "1" / "model.onnx")
    assert str(caught.value).startswith(f"{file}: ")
    assert not str(caught.value).startswith(f"{file}: {file}")


def test_unknown_prediction_output_is_refused_with_the_existing_ones(tmp_path: Path) -> None:
    settings = ModelSettings(prediction=PredictionSettings(output="scores"))
    with pytest.raises(ModelUnavailable) as caught:
        loaded(tmp_path, zoo.recurrent, settings)
    file = tmp_path / "m" / "1" / "model.onnx"
    expected = f"{file}: model.yaml: prediction.output 'scores' is no output; there are y, next_state"
    assert str(caught.value) == expected


@pytest.mark.parametrize(("datatype", "lowest", "highest"), [("UINT8", 0, 255), ("INT8", -128, 127), ("INT64", 0, 1)])
def test_made_up_short_integers_have_all_their_values(tmp_path: Path, datatype: str, lowest: int, highest: int) -> None:
    def make(path: Path) -> Path:
        kind = zoo.KINDS[datatype]
        node = helper.make_node("Identity", ["x"], ["y"])
        return save(path, [node], {"x": (kind, ["n", 5000])}, {"y": (kind, ["n", 5000])})

    row = warmed(tmp_path, make).row["x"]
    assert (row.min(), row.max(), row.dtype) == (lowest, highest, DATATYPES[datatype].dtype)


def test_short_integers_that_must_be_few_are_found_too(tmp_path: Path) -> None:
    def make(path: Path) -> Path:
        """The row of a table of 4 that a byte names: most bytes it refuses."""
        table = helper.make_tensor("table", FLOAT, [4, 2], range(8))
        nodes = [helper.make_node("Cast", ["x"], ["i"], to=INT64), helper.make_node("Gather", ["table", "i"], ["y"])]
        return save(path, nodes, {"x": (zoo.KINDS["UINT8"], ["n"])}, {"y": (FLOAT, ["n", 2])}, [table])

    assert warmed(tmp_path, make).row["x"].max() <= 1


def test_a_batch_that_is_too_much_is_no_proof_against_smaller_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a device's memory is too small for it."""
    session = OnnxSession(place(tmp_path, "m", 1, onnx_models.doubling), 1, CPU)
    run = OnnxSession.run

    def bounded(self: OnnxSession, feeds: Feeds, options: Any = None) -> list[Result]:
        if len(feeds["x"]) > 16:
            raise ModelFailed("the model failed: Failed to allocate memory for requested buffer of size 9")
        return run(self, feeds, options)

    monkeypatch.setattr(OnnxSession, "run", bounded)
    warm = warm_up(session, tmp_path / "none", 64)
    assert warm.unbatchable_reason == "" and warm.rows <= 16
