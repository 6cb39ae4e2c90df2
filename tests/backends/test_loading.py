"""Loading a version: every error names the file, and generated warm-up inputs are bounded."""

import math
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from gateway.backends import loaded_version, warmup
from gateway.backends.loaded_version import LoadedVersion, load_version
from gateway.backends.signature import Feeds, Signature
from gateway.backends.warmup import MAX_ELEMENTS, warm_up
from gateway.errors import ModelFailed, ModelUnavailable
from gateway.protocol.tensors import TensorSpec
from gateway.settings.model import ModelSettings
from tests.backends import onnx_models
from tests.backends.onnx_models import place
from tests.backends.test_warmup import sample, warmed

ALIKE = "the warm-up rows are all alike, which proves nothing: put two different ones in warmup.json"


def load(file: Path) -> LoadedVersion:
    return load_version(file, ModelSettings(), file.parent.parent / "warmup.json")


def raising(error: Exception) -> Callable[..., Any]:
    def raises(*_: object) -> Any:
        raise error

    return raises


def test_loaded_version_has_the_sha256_of_its_file(tmp_path: Path) -> None:
    file = place(tmp_path, "m", 1, onnx_models.doubling)
    assert load(file).sha256 == sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (loaded_version, "OnnxSession"),
        (loaded_version, "warm_up"),
        (warmup, "_run_us"),
        (warmup, "_unbatchable_reason"),
        (loaded_version, "digest_of"),
    ],
)
@pytest.mark.parametrize(
    "error", [OSError("the disk is gone"), MemoryError(), RuntimeError("raw"), ModelFailed("the model failed: flaky")]
)
def test_any_error_while_loading_names_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: Any, name: str, error: Exception
) -> None:
    file = place(tmp_path, "m", 1, onnx_models.doubling)
    monkeypatch.setattr(module, name, raising(error))
    with pytest.raises(ModelUnavailable) as caught:
        load(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert type(error).__name__ in str(caught.value)
    assert str(error) in str(caught.value)


def test_unreadable_warmup_json_is_named(tmp_path: Path) -> None:
    file = place(tmp_path, "m", 1, onnx_models.doubling)
    folder = tmp_path / "m" / "warmup.json"
    folder.mkdir()
    with pytest.raises(ModelUnavailable) as caught:
        load(file)
    assert str(folder) in str(caught.value)


class Picky:
    """A session that fails on everything, and keeps the shapes that it was asked to run."""

    def __init__(self, *shape: int | str) -> None:
        self.dimensions = {"x": list(shape)}
        self.signature = Signature([TensorSpec("x", "FP32", (-1,) * len(shape))], [])
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Feeds) -> Any:
        self.shapes.append(feeds["x"].shape)
        raise ModelFailed("no")


def tried(tmp_path: Path, *shape: int | str) -> list[tuple[int, ...]]:
    session: Any = Picky(*shape)
    assert "made-up inputs do not run" in warm_up(session, tmp_path / "warmup.json", 8).unbatchable_reason
    return session.shapes


def test_generated_warm_up_inputs_stay_below_the_size_limit(tmp_path: Path) -> None:
    shapes = tried(tmp_path, "n", "a", "b", "c", "d")
    assert {math.prod(shape) for shape in shapes} == {1, 4**4, 16**4}
    assert tried(tmp_path, MAX_ELEMENTS + 1, "n") == []


def test_generated_warm_up_inputs_include_224_pixel_images(tmp_path: Path) -> None:
    assert (1, 3, 224, 224) in tried(tmp_path, "n", 3, "height", "width")


@pytest.mark.parametrize("row", [[1, 2, 3], ["NaN", 2, 3]])
def test_sample_of_identical_rows_proves_no_independence(tmp_path: Path, row: list[Any]) -> None:
    sample(tmp_path, [3, 3], row * 3)
    assert warmed(tmp_path, onnx_models.centring).unbatchable_reason == ALIKE


def test_sample_with_one_different_row_is_enough(tmp_path: Path) -> None:
    sample(tmp_path, [3, 2], [1, 2, 1, 2, 1, 3])
    assert warmed(tmp_path, onnx_models.doubling).unbatchable_reason == ""
