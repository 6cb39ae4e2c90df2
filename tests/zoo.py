"""Models like those in production use, built with onnx.helper and skl2onnx in Triton's layout."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from gateway.protocol.tensors import DATATYPES
from tests.backends import onnx_models
from tests.backends.onnx_models import FLOAT, INT64, STRING, save

KINDS = {
    name: getattr(TensorProto, proto)
    for name, proto in {
        **{name: name for name in DATATYPES},
        "FP16": "FLOAT16",
        "FP32": "FLOAT",
        "FP64": "DOUBLE",
        "BYTES": "STRING",
    }.items()
}
BOTH = ("n", 3)


def identity(datatype: str) -> Callable[[Path], Path]:
    def make(path: Path) -> Path:
        kind = KINDS[datatype]
        node = helper.make_node("Identity", ["x"], ["y"])
        return save(path, [node], {"x": (kind, ["n", "width"])}, {"y": (kind, ["n", "width"])})

    return make


def adding(path: Path) -> Path:
    """Two inputs of one shape."""
    node = helper.make_node("Add", ["a", "b"], ["sum"])
    return save(path, [node], {"a": (FLOAT, BOTH), "b": (FLOAT, BOTH)}, {"sum": (FLOAT, BOTH)})


def mixed(path: Path) -> Path:
    """Inputs of three types, two outputs."""
    nodes = [
        helper.make_node("Cast", ["count"], ["floats"], to=FLOAT),
        helper.make_node("Mul", ["x", "floats"], ["scaled"]),
        helper.make_node("Identity", ["name"], ["same_name"]),
    ]
    inputs = {"x": (FLOAT, BOTH), "count": (INT64, ["n", 1]), "name": (STRING, ["n", 1])}
    return save(path, nodes, inputs, {"scaled": (FLOAT, BOTH), "same_name": (STRING, ["n", 1])})


def scalar(path: Path) -> Path:
    """A scalar input of shape []."""
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    return save(path, [node], {"x": (FLOAT, BOTH), "factor": (FLOAT, [])}, {"y": (FLOAT, BOTH)})


def recurrent(path: Path) -> Path:
    """A state of shape [2, batch, 4]: batched, but not along its first axis."""
    axes = helper.make_tensor("axes", INT64, [1], [0])
    nodes = [
        helper.make_node("Unsqueeze", ["x", "axes"], ["spread"]),
        helper.make_node("Add", ["state", "spread"], ["next_state"]),
        helper.make_node("ReduceSum", ["next_state", "axes"], ["y"], keepdims=0),
    ]
    inputs = {"x": (FLOAT, ["batch", 4]), "state": (FLOAT, [2, "batch", 4])}
    outputs = {"y": (FLOAT, ["batch", 4]), "next_state": (FLOAT, [2, "batch", 4])}
    return save(path, nodes, inputs, outputs, [axes])


def fixed(path: Path) -> Path:
    """A model without free dimensions."""
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    return save(path, [node], {"x": (FLOAT, [3, 2])}, {"y": (FLOAT, [2, 3])})


def transposing(path: Path) -> Path:
    """The output's first dimension is not the input's."""
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    return save(path, [node], {"x": (FLOAT, ["n", "width"])}, {"y": (FLOAT, ["width", "n"])})


def total(path: Path) -> Path:
    """One number, however many rows."""
    node = helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0, axes=[0, 1])
    return save(path, [node], {"x": (FLOAT, BOTH)}, {"y": (FLOAT, [])})


def defaulted(path: Path) -> Path:
    """An input with a default, which a request may leave out."""
    node = helper.make_node("Add", ["x", "offset"], ["y"])
    inputs = {"x": (FLOAT, BOTH), "offset": (FLOAT, [1])}
    return save(path, [node], inputs, {"y": (FLOAT, BOTH)}, [helper.make_tensor("offset", FLOAT, [1], [10.0])])


def pooling(path: Path) -> Path:
    """The means of the channels of large images."""
    nodes = [helper.make_node("GlobalAveragePool", ["x"], ["means"]), helper.make_node("Flatten", ["means"], ["y"])]
    return save(path, nodes, {"x": (FLOAT, ["n", 3, 224, 224])}, {"y": (FLOAT, BOTH)})


def logarithm(path: Path) -> Path:
    """The logarithm: NaN and minus infinity for suitable inputs."""
    node = helper.make_node("Log", ["x"], ["y"])
    return save(path, [node], {"x": (FLOAT, BOTH)}, {"y": (FLOAT, BOTH)})


def first_of_words(path: Path) -> Path:
    """Strings in, strings and numbers out."""
    nodes = [helper.make_node("StringSplit", ["text"], ["words", "count"], delimiter=" ")]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("text", STRING, ["n"])],
        [
            helper.make_tensor_value_info("count", INT64, ["n"]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(model, str(path))
    return path


def zip_map(labels: Sequence[Any]) -> Callable[[Path], Path]:
    """scikit-learn's classifier as exported by default: a sequence of maps."""

    def make(path: Path) -> Path:
        from skl2onnx import to_onnx
        from sklearn.linear_model import LogisticRegression

        generator = np.random.default_rng(1)
        x = generator.standard_normal((90, 3)).astype(np.float32)
        y = np.array(labels)[np.argmax(x, axis=1)]
        model = to_onnx(LogisticRegression().fit(x, y), x[:1], target_opset={"": 17, "ai.onnx.ml": 3})
        path.write_bytes(model.SerializeToString())
        return path

    return make


def half_known(path: Path) -> Path:
    """A sequence of tensors as output, which the protocol cannot carry."""
    node = helper.make_node("SequenceConstruct", ["x", "x"], ["y"])
    graph = helper.make_graph(
        [node],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, ["n"])],
        [helper.make_tensor_sequence_value_info("y", FLOAT, None)],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def garbage(path: Path) -> Path:
    path.write_bytes(b"this is no model")
    return path


MODELS: dict[str, Callable[[Path], Path]] = {
    **{f"identity_{datatype.lower()}": identity(datatype) for datatype in KINDS},
    "adding": adding,
    "mixed": mixed,
    "scalar": scalar,
    "recurrent": recurrent,
    "fixed": fixed,
    "transposing": transposing,
    "total": total,
    "defaulted": defaulted,
    "logarithm": logarithm,
    "words": first_of_words,
    "zip_map_int": zip_map([3, 5, 7]),
    "zip_map_str": zip_map(["cat", "dog", "eel"]),
    "doubling": onnx_models.doubling,
    "gathering": onnx_models.gathering,
    "summing": onnx_models.summing,
    "centring": onnx_models.centring,
    "looping": onnx_models.looping,
}
BROKEN: dict[str, Callable[[Path], Path]] = {"sequence": half_known, "garbage": garbage}
LABELLED = "labelled"
PATIENT = ("doubling", "summing", "mixed")  # these wait for company, so that batches are sure to form


def build(folder: Path) -> Path:
    """Write all of them to `folder`."""
    for name, make in {**MODELS, **BROKEN}.items():
        _add(folder, name, make)
    _add(folder, LABELLED, identity("FP32"))
    (folder / LABELLED / "model.yaml").write_text("prediction: {output: y, labels: [low, high]}\nmodality: tabular\n")
    _add(folder, "image", identity("BYTES"))
    (folder / "image" / "model.yaml").write_text("modality: image\n")
    for name in PATIENT:
        (folder / name / "model.yaml").write_text("batching: {max_delay: 50ms}\n")
    return folder


def _add(folder: Path, name: str, make: Callable[[Path], Path]) -> None:
    path = folder / name / "1" / "model.onnx"
    path.parent.mkdir(parents=True)
    make(path)
