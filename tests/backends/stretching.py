"""Models whose run time the inputs can stretch, and some whose run time they cannot."""

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.backends.onnx_models import FLOAT, INT64, STRING, Shape, save

BOOL = TensorProto.BOOL


def constant(name: str, value: Any, dtype: Any = np.int64) -> onnx.TensorProto:
    return numpy_helper.from_array(np.array(value, dtype), name)


def convolving(path: Path, height: int | str = "height", width: int | str = "width") -> Path:
    """Two convolutions over an image whose height and width are free, then its mean by channel."""
    generator = np.random.default_rng(0)
    kernels = [
        numpy_helper.from_array(generator.standard_normal((64, channels, 3, 3)).astype(np.float32) / 20, name)
        for name, channels in (("first", 1), ("second", 64))
    ]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["hidden"], pads=[1, 1, 1, 1]),
        helper.make_node("Conv", ["hidden", "second"], ["features"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["features"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["y"]),
    ]
    return save(path, nodes, {"x": (FLOAT, ["n", 1, height, width])}, {"y": (FLOAT, ["n", 64])}, kernels)


def branching(path: Path) -> Path:
    """y = x; where x is above 1,000,000, a product of large matrices is computed as well."""
    cheap = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["kept"])], "cheap", [], [_value("kept", FLOAT, [1, 4])]
    )
    size = constant("size", [2000, 2000])
    dear_nodes = [
        helper.make_node("ReduceMax", ["x"], ["most"], keepdims=0),
        helper.make_node("Expand", ["most", "size"], ["square"]),
        helper.make_node("MatMul", ["square", "square"], ["product"]),
        helper.make_node("ReduceMax", ["product"], ["least"], keepdims=0),
        helper.make_node("Min", ["x", "least"], ["bounded"]),
    ]
    dear = helper.make_graph(dear_nodes, "dear", [], [_value("bounded", FLOAT, [1, 4])], [size])
    nodes = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Greater", ["largest", "limit"], ["is_large"]),
        helper.make_node("If", ["is_large"], ["y"], then_branch=dear, else_branch=cheap),
    ]
    limit = constant("limit", 1e6, np.float32)
    return save(path, nodes, {"x": (FLOAT, [1, 4])}, {"y": (FLOAT, [1, 4])}, [limit])


def scanning(path: Path) -> Path:
    """The running sum of as many numbers as there are."""
    body = helper.make_graph(
        [helper.make_node("Add", ["before", "one"], ["after"]), helper.make_node("Identity", ["after"], ["told"])],
        "body",
        [_value("before", FLOAT, []), _value("one", FLOAT, [])],
        [_value("after", FLOAT, []), _value("told", FLOAT, [])],
    )
    nodes = [helper.make_node("Scan", ["zero", "x"], ["sum", "y"], body=body, num_scan_inputs=1)]
    return save(path, nodes, {"x": (FLOAT, ["n"])}, {"y": (FLOAT, ["n"])}, [constant("zero", 0, np.float32)])


def sized(path: Path, operator: str) -> Path:
    """y = one number of the result of `operator`, whose size x sets."""
    makers = {
        "Range": [helper.make_node("Range", ["zero", "first", "one"], ["made"])],
        "ConstantOfShape": [helper.make_node("ConstantOfShape", ["x"], ["made"])],
        "Expand": [helper.make_node("Expand", ["row", "x"], ["made"])],
        "Tile": [helper.make_node("Tile", ["row", "x"], ["made"])],
        "Resize": [helper.make_node("Resize", ["row", "", "", "x"], ["made"])],
        "Pad": [
            helper.make_node("Concat", ["x", "x"], ["pads"], axis=0),
            helper.make_node("Pad", ["row", "pads"], ["made"]),
        ],
        "TopK": [helper.make_node("TopK", ["row", "x"], ["made", "indices"])],
        "OneHot": [helper.make_node("OneHot", ["x", "first", "values"], ["made"])],
        "NonZero": [helper.make_node("NonZero", ["x"], ["made"])],
    }
    nodes = [
        helper.make_node("Squeeze", ["x"], ["first"]),
        *makers[operator],
        helper.make_node("Size", ["made"], ["size"]),
        helper.make_node("Unsqueeze", ["size", "axis"], ["y"]),
    ]
    constants = [
        constant("zero", 0),
        constant("one", 1),
        constant("axis", [0]),
        constant("row", [1.0], np.float32),
        constant("values", [0.0, 1.0], np.float32),
    ]
    return save(path, nodes, {"x": (INT64, [1])}, {"y": (INT64, [1])}, constants)


def shaped(path: Path) -> Path:
    """y = x twice over, by sizes that follow from x's shape and from constants alone."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Constant", [], ["two"], value=constant("", [1, 2])),
        helper.make_node("Mul", ["shape", "two"], ["wide"]),
        helper.make_node("Concat", ["x", "x"], ["both"], axis=1),
        helper.make_node("Reshape", ["both", "wide"], ["reshaped"]),
        helper.make_node("Expand", ["reshaped", "wide"], ["y"]),
    ]
    return save(path, nodes, {"x": (FLOAT, ["n", 4])}, {"y": (FLOAT, ["n", 8])})


def overridable(path: Path) -> Path:
    """y = x expanded to a size that has a default, which a request may replace."""
    node = helper.make_node("Expand", ["x", "size"], ["y"])
    inputs: dict[str, tuple[int, Shape]] = {"x": (FLOAT, ["n", 1]), "size": (INT64, [2])}
    return save(path, [node], inputs, {"y": (FLOAT, ["n", "width"])}, [constant("size", [1, 4])])


def tokenizing(path: Path) -> Path:
    """y = the words of a text, as many as it has."""
    node = helper.make_node("StringSplit", ["x"], ["words", "y"], delimiter=" ")
    value = helper.make_tensor_value_info
    graph = helper.make_graph([node], "g", [value("x", STRING, ["n"])], [value("y", INT64, ["n"])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def calling_a_function(path: Path) -> Path:
    """y = x + x by a function that the model defines."""
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    twice = helper.make_function("own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1])
    graph = helper.make_graph(
        [helper.make_node("Twice", ["x"], ["y"], domain="own")],
        "g",
        [_value("x", FLOAT, ["n", 2])],
        [_value("y", FLOAT, ["n", 2])],
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[twice], ir_version=8), str(path))
    return path


def _value(name: str, kind: int, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, list(shape))
