"""One ONNX graph from raw inputs to the outputs that the model's other versions have."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from automl_features import Encoder, GraphBuilder, onnx_type
from automl_signature import Port, Role, Signature
from onnx import TensorProto, helper
from training import OPSET

IR_VERSION = 8
ROWS = "rows"


def assemble(
    learner: Any,
    encoders: Sequence[Encoder],
    signature: Signature,
    classes: Sequence[int],
    labels: Sequence[str] | None,
) -> bytes:
    """The model as ONNX. `learner`: the trained part as ONNX, from `features` [rows, features] to its outputs.

    `classes`: the indices in `labels` that the learner's scores belong to, in its order; no other class is predicted.
    """
    graph = GraphBuilder()
    _add_features(graph, encoders, signature)
    inner = onnx.compose.add_prefix(learner, "learner_").graph
    renamed = inner.input[0].name
    graph.nodes.append(helper.make_node("Identity", ["automl_features"], [renamed], "automl_identity"))
    graph.nodes += inner.node
    graph.initializers += inner.initializer
    if labels is None:
        for port, _ in signature.outputs:
            _add_output(graph, port, inner.output[0].name)
    else:
        scores = _all_classes(graph, inner.output[-1].name, classes, len(labels))
        for port, role in signature.outputs:
            _add_class_output(graph, port, role, scores, labels)
    outputs = [port for port, _ in signature.outputs]
    made = helper.make_graph(
        _needed(graph.nodes, [port.name for port in outputs]),
        "model",
        [_declared(port) for port in signature.inputs],
        [_declared(port) for port in outputs],
        graph.initializers,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in sorted(OPSET.items())]
    model = helper.make_model(made, opset_imports=opsets, ir_version=IR_VERSION, producer_name="automl")
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString(deterministic=True))


def _add_features(graph: GraphBuilder, encoders: Sequence[Encoder], signature: Signature) -> None:
    ports = {port.name: port for port in signature.inputs}
    parts = []
    for encoder in encoders:
        port, tensor = ports[encoder.name], encoder.name
        if len(port.shape) == 1:
            tensor = graph.add("Unsqueeze", [tensor, graph.constant(np.array([1]))])
        if port.dtype is not object and port.dtype is not np.float32:
            tensor = graph.add("Cast", [tensor], to=TensorProto.FLOAT)
        parts.append(encoder.add_to(graph, tensor))
    graph.nodes.append(helper.make_node("Concat", parts, ["automl_features"], "automl_concat", axis=1))


def _all_classes(graph: GraphBuilder, scores: str, classes: Sequence[int], count: int) -> str:
    """The learner's scores in the order of the labels, with 0 for classes that it does not know."""
    if list(classes) == list(range(count)):
        return scores
    first = graph.add("Gather", [scores, graph.constant(np.array([0]))], axis=1)
    zero = graph.add("Mul", [first, graph.constant(np.float32(0))])
    places = [list(classes).index(label) if label in classes else len(classes) for label in range(count)]
    return graph.add("Gather", [graph.add("Concat", [scores, zero], axis=1), graph.constant(np.array(places))], axis=1)


def _add_class_output(graph: GraphBuilder, port: Port, role: Role, scores: str, labels: Sequence[str]) -> None:
    if role is Role.SCORES:
        graph.nodes.append(
            helper.make_node("Cast", [scores], [port.name], f"automl_{port.name}", to=onnx_type(port.dtype))
        )
        return
    if role is Role.SCORE:
        _add_output(graph, port, graph.add("Gather", [scores, graph.constant(np.array([1]))], axis=1))
        return
    label = graph.add("ArgMax", [scores], axis=1, keepdims=0)
    if port.dtype is object:
        label = graph.add("Gather", [graph.constant(np.array(labels, object)), label], axis=0)
    _add_output(graph, port, label)


def _add_output(graph: GraphBuilder, port: Port, value: str) -> None:
    """One value for each row, in the output's shape and type."""
    shaped = graph.add("Reshape", [value, graph.constant(np.array([-1] if len(port.shape) == 1 else [-1, 1]))])
    if port.dtype is object:
        graph.nodes.append(helper.make_node("Identity", [shaped], [port.name], f"automl_{port.name}"))
    else:
        graph.nodes.append(
            helper.make_node("Cast", [shaped], [port.name], f"automl_{port.name}", to=onnx_type(port.dtype))
        )


def _declared(port: Port) -> Any:
    shape = [
        ROWS,
        *(size if size is not None else f"{port.name}_{axis}" for axis, size in enumerate(port.shape[1:], 1)),
    ]
    return helper.make_tensor_value_info(port.name, onnx_type(port.dtype), shape)


def _needed(nodes: Sequence[Any], outputs: Sequence[str]) -> list[Any]:
    """The nodes that the outputs depend on."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            wanted |= set(node.input)
            kept.append(node)
    return kept[::-1]
