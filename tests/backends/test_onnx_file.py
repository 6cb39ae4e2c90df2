"""The reader of ONNX files against the `onnx` package, on models of every shape."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from gateway.backends.onnx_file import read_onnx_file
from gateway.errors import ModelUnavailable

SHIPPED = sorted((Path(__file__).parents[2] / "models").glob("*/*/model.onnx"))


def operators(graph: onnx.GraphProto) -> set[str]:
    found = {node.op_type for node in graph.node}
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                found |= operators(inner)
    return found


def big_model() -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.full((64, 64), index, np.float32), f"weight_{index}") for index in range(2)]
    nodes = [
        helper.make_node("MatMul", ["x", "weight_0"], ["h"]),
        helper.make_node("MatMul", ["h", "weight_1"], ["y"]),
    ]
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 64]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "big", value[:1], value[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])


@pytest.mark.parametrize("file", SHIPPED, ids=lambda file: "/".join(file.parts[-3:-1]))
def test_operators_of_shipped_models_are_those_onnx_reads(file: Path) -> None:
    read = read_onnx_file(file)
    assert read.operators == operators(onnx.load(file).graph)
    assert read.external == ()


def test_external_files_are_listed_once_each(tmp_path: Path) -> None:
    model = big_model()
    for index, tensor in enumerate(model.graph.initializer):
        onnx.external_data_helper.set_external_data(tensor, location=f"part_{1 - index}.bin")
        tensor.data_location = TensorProto.EXTERNAL
    onnx.save(model, tmp_path / "model.onnx")
    assert read_onnx_file(tmp_path / "model.onnx").external == ("part_0.bin", "part_1.bin")


def test_operators_inside_subgraphs_and_functions_are_found(tmp_path: Path) -> None:
    yes = helper.make_graph(
        [helper.make_node("Abs", ["x"], ["yes"])],
        "yes", [], [helper.make_tensor_value_info("yes", TensorProto.FLOAT, ["n"])],
    )  # fmt: skip
    no = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["no"])],
        "no", [], [helper.make_tensor_value_info("no", TensorProto.FLOAT, ["n"])],
    )  # fmt: skip
    nodes = [
        helper.make_node("If", ["chosen"], ["h"], then_branch=yes, else_branch=no),
        helper.make_node("twice", ["h"], ["y"], domain="ours"),
    ]
    graph = helper.make_graph(
        nodes,
        "nested",
        [
            helper.make_tensor_value_info("chosen", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ours", 1)]
    twice = helper.make_function(
        "ours", "twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], opsets[:1]
    )
    onnx.save(helper.make_model(graph, opset_imports=opsets, functions=[twice]), tmp_path / "model.onnx")
    assert read_onnx_file(tmp_path / "model.onnx").operators == {"If", "Abs", "Neg", "twice", "Add"}


def test_truncated_file_is_refused_or_yields_fewer_operators(tmp_path: Path) -> None:
    whole = big_model().SerializeToString()
    file = tmp_path / "model.onnx"
    for length in range(0, len(whole), 97):
        file.write_bytes(whole[:length])
        try:
            assert read_onnx_file(file).operators <= {"MatMul"}
        except ModelUnavailable as error:
            assert str(file) in str(error)


def external(name: str, location: str) -> TensorProto:
    tensor = numpy_helper.from_array(np.zeros(4, np.float32), name)
    onnx.external_data_helper.set_external_data(tensor, location=location)
    tensor.ClearField("raw_data")
    return tensor


def test_external_files_are_found_wherever_a_tensor_is_allowed(tmp_path: Path) -> None:
    value = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "y")]
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["c"], value=external("c", "in/branch.bin"))], "inner", [], value[1:],
        [external("w", "subgraph.bin")],
    )  # fmt: skip
    sparse = onnx.SparseTensorProto(dims=[4])
    sparse.values.CopyFrom(external("values", "values.bin"))
    sparse.indices.CopyFrom(external("indices", "indices.bin"))
    nodes = [
        helper.make_node("Constant", [], ["k"], value=external("k", "constant.bin")),
        helper.make_node("If", ["k"], ["y"], then_branch=inner, else_branch=inner),
    ]
    left = external("left", "no_longer_read.bin")
    left.data_location = TensorProto.DEFAULT
    graph = helper.make_graph(nodes, "g", value[:1], value[1:], [left], sparse_initializer=[sparse])
    function = helper.make_function(
        "ours", "f", [], ["o"], [helper.make_node("Constant", [], ["o"], value=external("f", "function.bin"))],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, functions=[function]), tmp_path / "model.onnx")
    assert read_onnx_file(tmp_path / "model.onnx").external == (
        "constant.bin", "function.bin", "in/branch.bin", "indices.bin", "subgraph.bin", "values.bin",
    )  # fmt: skip
