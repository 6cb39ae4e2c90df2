"""An ONNX session: what is served, what is refused and why, and the results of a run."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from gateway.backends.onnx import OnnxSession
from gateway.errors import InvalidRequest, ModelFailed, ModelUnavailable
from gateway.protocol.tensors import TensorSpec
from tests import zoo
from tests.backends import onnx_models

CPU = ["CPUExecutionProvider"]
Maker = Callable[[Path], Path]


def opened(folder: Path, make: Maker) -> OnnxSession:
    return OnnxSession(make(folder / "model.onnx"), 1, CPU)


def refusal(path: Path, providers: list[str] = CPU) -> str:
    with pytest.raises(ModelUnavailable) as caught:
        OnnxSession(path, 1, providers)
    return str(caught.value)


def numbers(*rows: list[float]) -> dict[str, Any]:
    return {"x": np.array(rows, np.float32)}


@pytest.mark.parametrize(
    ("make", "inputs", "outputs", "all_required"),
    [
        (
            zoo.mixed,
            (
                TensorSpec("x", "FP32", (-1, 3)),
                TensorSpec("count", "INT64", (-1, 1)),
                TensorSpec("name", "BYTES", (-1, 1)),
            ),
            (TensorSpec("scaled", "FP32", (-1, 3)), TensorSpec("same_name", "BYTES", (-1, 1))),
            True,
        ),
        (
            zoo.scalar,
            (TensorSpec("x", "FP32", (-1, 3)), TensorSpec("factor", "FP32", ())),
            (TensorSpec("y", "FP32", (-1, 3)),),
            True,
        ),
        (
            zoo.defaulted,
            (TensorSpec("x", "FP32", (-1, 3)),),
            (TensorSpec("y", "FP32", (-1, 3)),),
            True,
        ),
        (
            onnx_models.optional_output,
            (TensorSpec("x", "FP32", (-1, 3)),),
            (TensorSpec("y", "FP32", (-1, 3), optional=True),),
            False,
        ),
        (zoo.fixed, (TensorSpec("x", "FP32", (3, 2)),), (TensorSpec("y", "FP32", (2, 3)),), True),
    ],
)
def test_session_signature_matches_the_file(
    tmp_path: Path, make: Maker, inputs: tuple[TensorSpec], outputs: tuple[TensorSpec], all_required: bool
) -> None:
    session = opened(tmp_path, make)
    assert (session.signature.inputs, session.signature.outputs) == (inputs, outputs)
    assert session.all_required is all_required


@pytest.mark.parametrize("datatype", zoo.KINDS)
def test_every_protocol_datatype_is_reported_by_its_name(tmp_path: Path, datatype: str) -> None:
    signature = opened(tmp_path, zoo.identity(datatype)).signature
    assert signature.inputs == (TensorSpec("x", datatype, (-1, -1)),)
    assert signature.outputs == (TensorSpec("y", datatype, (-1, -1)),)


def test_free_dimensions_keep_their_names(tmp_path: Path) -> None:
    assert opened(tmp_path, zoo.recurrent).dimensions == {"x": ["batch", 4], "state": [2, "batch", 4]}


def test_an_initializer_may_be_overridden_by_its_name(tmp_path: Path) -> None:
    session = opened(tmp_path, zoo.defaulted)
    (omitted,) = session.run(numbers([1, 2, 3]))
    (sent,) = session.run({**numbers([1, 2, 3]), "offset": np.array([100], np.float32)})
    assert omitted is not None and omitted.tolist() == [[11, 12, 13]]
    assert sent is not None and sent.tolist() == [[101, 102, 103]]


def test_initializers_are_constants_in_ir_3_and_overridable_from_ir_4(tmp_path: Path) -> None:
    for version, overridable in ((3, []), (4, ["offset"]), (8, ["offset"])):
        file = zoo.defaulted(tmp_path / "model.onnx")
        model = onnx.load(file)
        model.ir_version = version
        file.write_bytes(model.SerializeToString())
        signature = OnnxSession(file, 1, CPU).signature
        assert [spec.name for spec in signature.inputs] == ["x"]
        assert list(signature.initializers) == overridable


def test_initializer_of_an_unsupported_type_cannot_be_overridden(tmp_path: Path) -> None:
    offset = helper.make_tensor("offset", TensorProto.BFLOAT16, [1], [1.0])
    nodes = [
        helper.make_node("Cast", ["offset"], ["wide"], to=onnx_models.FLOAT),
        helper.make_node("Add", ["x", "wide"], ["y"]),
    ]
    inputs = {"x": (onnx_models.FLOAT, ["n", 3]), "offset": (TensorProto.BFLOAT16, [1])}
    file = onnx_models.save(tmp_path / "m.onnx", nodes, inputs, {"y": (onnx_models.FLOAT, ["n", 3])}, [offset])
    assert OnnxSession(file, 1, CPU).signature.initializers == {}


@pytest.mark.parametrize(
    ("labels", "datatype", "expected"),
    [([3, 5, 7], "INT64", ("3", "5", "7")), (["cat", "dog", "eel"], "BYTES", ("cat", "dog", "eel"))],
)
def test_zip_map_output_is_a_score_matrix_with_labels(
    tmp_path: Path, labels: list[Any], datatype: str, expected: tuple[str, ...]
) -> None:
    session = opened(tmp_path, zoo.zip_map(labels))
    x = np.eye(3, dtype=np.float32) * 5
    session.learn_labels({"X": x[:1]})
    label, scores = session.signature.outputs
    assert (label.datatype, label.labels) == (datatype, ())
    assert (scores.datatype, scores.shape, scores.labels) == ("FP32", (-1, 3), expected)
    winners, matrix = session.run({"X": x})
    assert winners is not None and winners.tolist() == labels
    assert matrix is not None and (matrix.shape, matrix.dtype) == ((3, 3), np.float32)
    assert matrix.argmax(axis=1).tolist() == [0, 1, 2]
    assert matrix.sum(axis=1) == pytest.approx(1, rel=1e-5)


def test_zip_map_scores_are_in_the_order_of_the_labels(tmp_path: Path) -> None:
    session = opened(tmp_path, onnx_models.zip_mapping)
    session.learn_labels(numbers([0, 0, 0]))
    assert session.signature.outputs[0].labels == ("3", "5", "7")
    (matrix,) = session.run(numbers([0.1, 0.7, 0.2], [9, 8, 7]))
    assert np.array_equal(matrix, np.array([[0.1, 0.7, 0.2], [9, 8, 7]], np.float32))


def test_zip_map_without_rows_keeps_its_columns(tmp_path: Path) -> None:
    session = opened(tmp_path, onnx_models.zip_mapping)
    session.learn_labels(numbers([0, 0, 0]))
    (matrix,) = session.run({"x": np.empty((0, 3), np.float32)})
    assert matrix is not None and matrix.shape == (0, 3)


def test_learn_labels_changes_nothing_without_zip_maps(tmp_path: Path) -> None:
    session = opened(tmp_path, onnx_models.doubling)
    before = session.signature
    session.learn_labels(numbers([1, 2]))
    assert session.signature is before


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (zoo.half_known, "output 'y' is of type seq(tensor(float)), which cannot be sent over the protocol"),
        (
            onnx_models.map_input,
            "input 'x' is of type map(string,tensor(float)), which cannot be sent over the protocol",
        ),
    ],
)
def test_unsupported_input_or_output_type_is_refused_by_name(tmp_path: Path, make: Maker, reason: str) -> None:
    assert refusal(make(tmp_path / "model.onnx")) == reason


@pytest.mark.parametrize("content", [b"this is no model", b"", b"\x00" * 64])
def test_file_that_is_not_onnx_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    assert refusal(path).startswith(f"{path}: ONNX Runtime cannot load it: ")


def test_truncated_model_file_is_refused_by_name(tmp_path: Path) -> None:
    path = zoo.mixed(tmp_path / "model.onnx")
    path.write_bytes(path.read_bytes()[:-40])
    assert refusal(path).startswith(f"{path}: ONNX Runtime cannot load it: ")


def test_missing_model_file_is_refused_by_name(tmp_path: Path) -> None:
    assert str(tmp_path / "model.onnx") in refusal(tmp_path / "model.onnx")


def test_unknown_provider_is_refused_with_the_available_ones(tmp_path: Path) -> None:
    path = onnx_models.doubling(tmp_path / "model.onnx")
    message = refusal(path, ["CPUExecutionProvider", "AbacusExecutionProvider"])
    available = ", ".join(onnxruntime.get_available_providers())
    assert message == f"{path}: provider AbacusExecutionProvider is not in this onnxruntime; it has {available}"


def test_input_values_rejected_by_the_model_raise_invalid_request(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"the model rejects these inputs: .*99"):
        opened(tmp_path, onnx_models.gathering).run({"i": np.array([99])})


def test_failing_run_raises_model_failed(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="the model failed: "):
        opened(tmp_path, onnx_models.hiding_its_width).run(numbers([1, 2]))


def test_terminated_run_raises_and_the_session_stays_usable(tmp_path: Path) -> None:
    session = opened(tmp_path, onnx_models.looping)
    options = onnxruntime.RunOptions()
    options.terminate = True
    with pytest.raises(ModelFailed):
        session.run({"x": np.array([2**62])}, options)
    (turns,) = session.run({"x": np.array([3])})
    assert turns is not None and turns.tolist() == [3]
