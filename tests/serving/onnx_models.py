"""Small ONNX models for the tests of one room."""

from collections.abc import Sequence
from pathlib import Path

import onnx
from onnx import TensorProto, helper

Shape = Sequence[int | str | None]
FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
    constants: Sequence[onnx.TensorProto] = (),
) -> Path:
    """Write a model of the given nodes; inputs and outputs as {name: (element type, shape)}."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, list(shape)) for name, (kind, shape) in outputs.items()],
        list(constants),
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def doubling(path: Path, rows: int | str | None = "n") -> Path:
    """y = x + x on [rows, 2]."""
    node = helper.make_node("Add", ["x", "x"], ["y"])
    return save(path, [node], {"x": (FLOAT, [rows, 2])}, {"y": (FLOAT, [rows, 2])})


def gathering(path: Path) -> Path:
    """y = the row of a table of 4 that `i` names; ONNX Runtime rejects other indices."""
    table = helper.make_tensor("table", FLOAT, [4, 2], range(8))
    node = helper.make_node("Gather", ["table", "i"], ["y"])
    return save(path, [node], {"i": (INT64, ["n"])}, {"y": (FLOAT, ["n", 2])}, [table])


def summing(path: Path) -> Path:
    """y = the sum of each row of x, whose width is free too."""
    axes = helper.make_tensor("axes", INT64, [1], [1])
    node = helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)
    return save(path, [node], {"x": (FLOAT, ["n", "width"])}, {"y": (FLOAT, ["n"])}, [axes])


def centring(path: Path) -> Path:
    """y = x less the mean of the batch: it declares a free first dimension, but its rows are not independent."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return save(path, nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})


def looping(path: Path) -> Path:
    """y = the number of turns taken, as many as x says: runs for as long as wanted."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Add", ["turns", "one"], ["more"])],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("turns", INT64, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("more", INT64, []),
        ],
        [helper.make_tensor("one", INT64, [], [1])],
    )
    nodes = [
        helper.make_node("Squeeze", ["x"], ["limit"]),
        helper.make_node("Loop", ["limit", "yes", "zero"], ["total"], body=body),
        helper.make_node("Unsqueeze", ["total", "axis"], ["y"]),
    ]
    constants = [
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
        helper.make_tensor("zero", INT64, [], [0]),
        helper.make_tensor("axis", INT64, [1], [0]),
    ]
    return save(path, nodes, {"x": (INT64, [1])}, {"y": (INT64, [1])}, constants)
