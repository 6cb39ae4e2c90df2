"""The digest of a version covers every file that it reads; a missing one is reported."""

import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.backends.digest import digest_of, is_same_model, leads_out
from gateway.backends.loaded_version import load_version
from gateway.errors import ModelUnavailable
from gateway.settings.model import ModelSettings
from tests.backends import onnx_models

FLOAT = TensorProto.FLOAT


def scaling(path: Path, factor: float, location: str = "weights.bin") -> Path:
    """y = x by a matrix of `factor`, which lies in another file."""
    values = [helper.make_tensor_value_info(name, FLOAT, ["n", 40]) for name in ("x", "y")]
    matrix = numpy_helper.from_array(np.eye(40, dtype=np.float32) * np.float32(factor), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", values[:1], values[1:], [matrix])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    weights = path.parent / location
    weights.parent.mkdir(parents=True, exist_ok=True)
    weights.unlink(missing_ok=True)  # onnx appends
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    return path


def sha_of_loaded(file: Path) -> str:
    return load_version(file, ModelSettings(), file.parent.parent / "warmup.json").sha256


def test_digest_of_a_model_without_external_weights_is_its_sha256(tmp_path: Path) -> None:
    file = onnx_models.doubling(tmp_path / "m" / "1" / "model.onnx")
    assert sha_of_loaded(file) == digest_of(file) == sha256(file.read_bytes()).hexdigest()


@pytest.mark.parametrize("location", ["weights.bin", "deep/er/weights.bin"])
def test_different_external_weights_give_different_digests(tmp_path: Path, location: str) -> None:
    one = scaling(tmp_path / "m" / "1" / "model.onnx", 2, location)
    two = scaling(tmp_path / "m" / "2" / "model.onnx", 3, location)
    assert one.read_bytes() == two.read_bytes()
    assert sha_of_loaded(one) != sha_of_loaded(two)
    assert sha_of_loaded(one) == sha_of_loaded(one)
    assert sha_of_loaded(one) != sha256(one.read_bytes()).hexdigest()


def test_replaced_weights_give_another_digest_when_loaded_again(tmp_path: Path) -> None:
    file = scaling(tmp_path / "m" / "1" / "model.onnx", 2)
    before = sha_of_loaded(file)
    scaling(file, 3)
    assert sha_of_loaded(file) != before
    scaling(file, 2)
    assert sha_of_loaded(file) == before


def test_same_weights_under_another_file_name_give_another_digest(tmp_path: Path) -> None:
    one = scaling(tmp_path / "m" / "1" / "model.onnx", 2, "a.bin")
    two = scaling(tmp_path / "m" / "2" / "model.onnx", 2, "b.bin")
    assert sha_of_loaded(one) != sha_of_loaded(two)


def test_digest_follows_a_symlink_to_weights(tmp_path: Path) -> None:
    file = scaling(tmp_path / "m" / "1" / "model.onnx", 2)
    before = sha_of_loaded(file)
    weights = file.parent / "weights.bin"
    weights.rename(file.parent / "weights.v2")
    weights.symlink_to("weights.v2")
    assert sha_of_loaded(file) == before


def test_models_are_the_same_if_their_weights_are_too(tmp_path: Path) -> None:
    one, copy, other = (
        scaling(tmp_path / name / "model.onnx", factor) for name, factor in (("a", 2), ("b", 2), ("c", 3))
    )
    assert one.read_bytes() == other.read_bytes(), "the graph alone does not tell them apart"
    (copy.parent / "training.json").write_text("{}")
    assert is_same_model(one, copy) and not is_same_model(one, other)
    (copy.parent / "weights.bin").unlink()
    assert not is_same_model(one, copy)
    assert not is_same_model(one, tmp_path / "d" / "model.onnx")


def test_digest_ignores_files_that_the_model_does_not_read(tmp_path: Path) -> None:
    file = scaling(tmp_path / "m" / "1" / "model.onnx", 2)
    before = digest_of(file)
    (file.parent / "notes.bin").write_bytes(b"nothing to it")
    assert digest_of(file) == before


def test_missing_weights_file_is_reported_with_the_remedy(tmp_path: Path) -> None:
    file = scaling(tmp_path / "m" / "1" / "model.onnx", 2, "deep/weights.bin")
    shutil.rmtree(file.parent / "deep")
    with pytest.raises(ModelUnavailable) as caught:
        sha_of_loaded(file)
    assert str(caught.value) == (
        f"{file}: 'deep/weights.bin', which holds weights of it, is missing: put it into {file.parent}, or export the"
        " model with its weights inside"
    )


@pytest.mark.parametrize("location", ["../weights.bin", "deep/../../weights.bin", "/etc/weights.bin"])
def test_weights_outside_the_folder_are_refused(tmp_path: Path, location: str) -> None:
    """Whatever the release of ONNX Runtime, and whether they are there or not."""
    file = scaling(tmp_path / "m" / "1" / "model.onnx", 2, "weights.bin")
    (file.parent / "deep").mkdir()
    shutil.copy(file.parent / "weights.bin", file.parent.parent / "weights.bin")
    model = onnx.load(file, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = location if entry.key == "location" else entry.value
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelUnavailable, match=rf"'{location}', which holds weights of it, leads out of {file.parent}"):
        sha_of_loaded(file)


def test_weights_by_a_path_that_stays_in_the_folder_are_allowed() -> None:
    assert [leads_out(name) for name in ("w.bin", "deep/../w.bin", "..w", "..", "./../w")] == [False] * 3 + [True] * 2
