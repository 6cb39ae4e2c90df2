"""Reads the nodes of an ONNX model's main graph: their operators, inputs and outputs.

Field numbers: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

import mmap
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.onnx_file import fields
from gateway.errors import ModelUnavailable

GRAPH: Final = 7  # of a model
NODE, INITIALIZER, SPARSE_INITIALIZER = 1, 5, 15  # of a graph
INPUT_NAME, OUTPUT_NAME, OPERATOR, DOMAIN = 1, 2, 4, 7  # of a node
TENSOR_NAME: Final = 8
SPARSE_VALUES: Final = 1  # of a sparse tensor: a tensor with its name
STANDARD: Final = "ai.onnx"  # the default domain


@dataclass(frozen=True, slots=True)
class GraphNode:
    """A node. `operator`: such as `MatMul`, with its domain if it is not ONNX's own, as `com.microsoft.Tokenizer`.
    `inputs` and `outputs`: the names of its inputs and outputs.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Graph:
    """The main graph, with its nodes in execution order. `constants`: the names of its weights."""

    nodes: tuple[GraphNode, ...]
    constants: frozenset[str]


def read_graph(path: Path) -> Graph:
    """Read the main graph without its weights' values. Raises ModelUnavailable if it is not an ONNX file."""
    nodes: list[GraphNode] = []
    constants: set[str] = set()
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for number, begin, end in fields(mapped, 0, len(mapped)):
                if number == GRAPH:
                    _read(mapped, begin, end, nodes, constants)
    except (ValueError, IndexError) as error:
        raise ModelUnavailable(f"{path} is not a complete ONNX file: {error}") from None
    return Graph(tuple(nodes), frozenset(constants))


def _read(data: mmap.mmap, start: int, stop: int, nodes: list[GraphNode], constants: set[str]) -> None:
    for number, begin, end in fields(data, start, stop):
        if number == NODE:
            nodes.append(_node(data, begin, end))
        elif number == INITIALIZER:
            constants.add(_name(data, begin, end))
        elif number == SPARSE_INITIALIZER:
            constants.update(
                _name(data, *inside[1:]) for inside in fields(data, begin, end) if inside[0] == SPARSE_VALUES
            )


def _node(data: mmap.mmap, start: int, stop: int) -> GraphNode:
    texts: dict[int, list[str]] = {INPUT_NAME: [], OUTPUT_NAME: [], OPERATOR: [], DOMAIN: []}
    for number, begin, end in fields(data, start, stop):
        if number in texts:
            texts[number].append(data[begin:end].decode())
    domain = "".join(texts[DOMAIN][-1:])
    prefix = "" if domain in ("", STANDARD) else f"{domain}."
    return GraphNode(prefix + "".join(texts[OPERATOR][-1:]), tuple(texts[INPUT_NAME]), tuple(texts[OUTPUT_NAME]))


def _name(data: mmap.mmap, start: int, stop: int) -> str:
    names = [data[begin:end].decode() for number, begin, end in fields(data, start, stop) if number == TENSOR_NAME]
    return "".join(names[-1:])
