"""Small ONNX models for tests."""

import platform
from collections.abc import Callable, Sequence
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

Shape = Sequence[int | str | None]
FLOAT = TensorProto.FLOAT
INT64 = TensorProto.INT64
STRING = TensorProto.STRING
INT64_MIN = -(2**63)
OPSETS = [helper.make_opsetid("", 18), helper.make_opsetid("ai.onnx.ml", 3)]

needs_trap = pytest.mark.skipif(  # no other file is known that kills on every processor; CI runs on x86
    platform.machine().lower() not in {"x86_64", "amd64"}, reason="the file kills by a trap that only x86 has"
)


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


def place(repository: Path, name: str, version: int, make: Callable[[Path], Path]) -> Path:
    """Put a model where a repository has its versions."""
    path = repository / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    return make(path)


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
    """y = x minus the mean of the batch: it declares a free first dimension, but its rows are not independent."""
    nodes = [
        helper.make_node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
        helper.make_node("Sub", ["x", "mean"], ["y"]),
    ]
    return save(path, nodes, {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])})


def looping(path: Path) -> Path:
    """y = the number of loop turns, which x sets: runs as long as a test wants."""
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


def scaling(factor: float) -> Callable[[Path], Path]:
    """y = x times `factor` on [n, 2]: versions of one model that can be told apart."""

    def make(path: Path) -> Path:
        node = helper.make_node("Mul", ["x", "factor"], ["y"])
        constants = [helper.make_tensor("factor", FLOAT, [1], [factor])]
        return save(path, [node], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])}, constants)

    return make


def hiding_its_width(path: Path) -> Path:
    """y = x by a matrix of 5 rows: x declares a free width, but only 5 will do."""
    matrix = helper.make_tensor("matrix", FLOAT, [5, 2], range(10))
    node = helper.make_node("MatMul", ["x", "matrix"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n", "width"])}, {"y": (FLOAT, ["n", 2])}, [matrix])


def layered(path: Path) -> Path:
    """A state whose first dimension is free too, but counts layers instead of rows."""
    node = helper.make_node("Add", ["x", "state"], ["y"])
    inputs = {"x": (FLOAT, ["batch", 4]), "state": (FLOAT, ["layers", "batch", 4])}
    return save(path, [node], inputs, {"y": (FLOAT, ["layers", "batch", 4])})


def crashing(path: Path) -> Path:
    """Divides the least integer by -1 as it is loaded: on x86 that traps, and ONNX Runtime dies of SIGFPE."""
    constants = [helper.make_tensor("least", INT64, [1], [INT64_MIN]), helper.make_tensor("minus", INT64, [1], [-1])]
    nodes = [helper.make_node("Div", ["least", "minus"], ["q"]), helper.make_node("Add", ["x", "q"], ["y"])]
    return save(path, nodes, {"x": (INT64, ["n"])}, {"y": (INT64, ["n"])}, constants)


def zip_mapping(path: Path) -> Path:
    """scikit-learn's ZipMap as the only output."""
    node = helper.make_node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", classlabels_int64s=[3, 5, 7])
    scores = helper.make_map_type_proto(INT64, helper.make_tensor_type_proto(FLOAT, []))
    output = helper.make_value_info("scores", helper.make_sequence_type_proto(scores))
    return _save_typed(path, node, helper.make_tensor_value_info("x", FLOAT, ["n", 3]), output)


def optional_output(path: Path) -> Path:
    """An output that the model may leave out."""
    kind = helper.make_optional_type_proto(helper.make_tensor_type_proto(FLOAT, ["n", 3]))
    node = helper.make_node("Optional", ["x"], ["y"])
    x = helper.make_tensor_value_info("x", FLOAT, ["n", 3])
    return _save_typed(path, node, x, helper.make_value_info("y", kind))


def map_input(path: Path) -> Path:
    """A map as input, which the protocol cannot carry."""
    kind = helper.make_map_type_proto(STRING, helper.make_tensor_type_proto(FLOAT, []))
    node = helper.make_node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", string_vocabulary=["a", "b"])
    y = helper.make_tensor_value_info("y", FLOAT, [1, 2])
    return _save_typed(path, node, helper.make_value_info("x", kind), y)


def _save_typed(path: Path, node: onnx.NodeProto, x: onnx.ValueInfoProto, y: onnx.ValueInfoProto) -> Path:
    graph = helper.make_graph([node], "g", [x], [y])
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=OPSETS, ir_version=8), str(path))
    return path


def endless(path: Path) -> Path:
    """y = x + x on [n, 4], after more turns of a loop than anyone waits for."""
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Identity", ["kept"], ["still"])],
        "body",
        [
            helper.make_tensor_value_info("turn", INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("kept", FLOAT, []),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("still", FLOAT, []),
        ],
    )
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["start"], keepdims=0),
        helper.make_node("Loop", ["turns", "yes", "start"], ["kept_on"], body=body),
        helper.make_node("Sub", ["kept_on", "start"], ["nothing"]),
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Add", ["twice", "nothing"], ["y"]),
    ]
    constants = [
        helper.make_tensor("turns", INT64, [], [2**62]),
        helper.make_tensor("yes", TensorProto.BOOL, [], [True]),
    ]
    return save(path, nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])}, constants)


def trapping(path: Path) -> Path:
    """y = x + x on [n, 4]; on x86 a value below 0 makes it divide the least integer by -1, which kills the process."""
    nodes = [
        helper.make_node("ReduceMin", ["x"], ["least_x"], keepdims=0),
        helper.make_node("Less", ["least_x", "zero"], ["below"]),
        helper.make_node("Where", ["below", "minus", "one"], ["divisor"]),
        helper.make_node("Div", ["least", "divisor"], ["quotient"]),
        helper.make_node("Mul", ["quotient", "none"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["nothing_f"], to=FLOAT),
        helper.make_node("Add", ["x", "x"], ["twice"]),
        helper.make_node("Add", ["twice", "nothing_f"], ["y"]),
    ]
    numbers = {"minus": -1, "one": 1, "none": 0, "least": INT64_MIN}
    constants = [helper.make_tensor(name, INT64, [], [value]) for name, value in numbers.items()]
    constants.append(helper.make_tensor("zero", FLOAT, [], [0.0]))
    return save(path, nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 4])}, constants)
