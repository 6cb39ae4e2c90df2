"""Reads what each tensor of an ONNX file's main graph is computed from, and adds inner tensors to a model's outputs."""

import mmap
from collections import deque
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.backends.onnx_file import attribute_fields, fields, text_of

# Numbers of fields in onnx.proto3.
_GRAPH_OF_MODEL: Final = 7
_NODE_OF_GRAPH, _OUTPUT_OF_GRAPH = 1, 12
_INPUT, _OUTPUT, _OP_TYPE, _ATTRIBUTE, _DOMAIN = 1, 2, 4, 5, 7
_GRAPHS_OF_ATTRIBUTE: Final = (6, 11)
_NAME_OF_VALUE: Final = 1
_KNOWN_DOMAINS: Final = (b"", b"ai.onnx", b"ai.onnx.ml", b"com.microsoft")  # operators without hidden graphs
_BYTES: Final = 2  # the wire type


@dataclass(frozen=True, slots=True)
class Node:
    """A node. `inputs`: include what subgraphs of the node read from outside. `opaque`: it computes by a subgraph or
    function whose tensors cannot be seen.
    """

    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    opaque: bool


def read_producers(path: Path) -> Mapping[str, Node]:
    """The node of the main graph that computes each tensor. Raises ValueError or IndexError if the file is damaged."""
    with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as data:
        nodes = [
            _node(data, begin, stop)
            for number, start, end in fields(data, 0, len(data))
            if number == _GRAPH_OF_MODEL
            for inner, begin, stop in fields(data, start, end)
            if inner == _NODE_OF_GRAPH
        ]
    return {name: node for node in nodes for name in node.outputs if name}


def with_outputs(model: bytes, tensors: Iterable[str]) -> bytes:
    """The model with these tensors added to its outputs; ONNX Runtime infers their types.

    Concatenated protocol buffer messages are read as one, with their lists joined.
    """
    values = (
        _field(_OUTPUT_OF_GRAPH, _field(_NAME_OF_VALUE, name.encode("utf-8", "surrogateescape"))) for name in tensors
    )
    return model + _field(_GRAPH_OF_MODEL, b"".join(values))


def _node(data: mmap.mmap, start: int, end: int) -> Node:
    texts: dict[int, list[str]] = {_INPUT: [], _OUTPUT: [], _OP_TYPE: [""]}
    domain, captured, inside = b"", list[str](), False
    for number, begin, stop in fields(data, start, end):
        if number in texts:
            texts[number].append(text_of(data[begin:stop]))
        elif number == _DOMAIN:
            domain = data[begin:stop]
        elif number == _ATTRIBUTE:
            for begin_graph, end_graph in _graphs(data, begin, stop):
                inside = True
                captured.extend(_captured_names(data, begin_graph, end_graph))
    inputs = (*texts[_INPUT], *captured)
    return Node(texts[_OP_TYPE][-1], inputs, tuple(texts[_OUTPUT]), inside or domain not in _KNOWN_DOMAINS)


def _graphs(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int]]:
    for number, begin, stop in attribute_fields(data, start, end):
        if number in _GRAPHS_OF_ATTRIBUTE:
            yield begin, stop


def _captured_names(data: mmap.mmap, start: int, end: int) -> Iterator[str]:
    """The names that a subgraph's nodes read and that it returns, some of which may be tensors of the outer graph."""
    for number, begin, stop in fields(data, start, end):
        if number == _NODE_OF_GRAPH:
            yield from _node(data, begin, stop).inputs
        elif number == _OUTPUT_OF_GRAPH:
            yield from (text_of(data[b:s]) for field, b, s in fields(data, begin, stop) if field == _NAME_OF_VALUE)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _BYTES) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


@dataclass(slots=True)
class Cone:
    """What a tensor is computed from: inner tensors, the nearest first, and their nodes."""

    tensors: list[str]
    nodes: list[Node]


def cone(producers: Mapping[str, Node], tensor: str, known: Container[str], most: int) -> Cone:
    """What `tensor` is computed from: up to about `most` tensors, stopping at those that are `known`."""
    found, seen, queue = Cone([], []), {tensor}, deque([tensor])
    while queue and len(found.tensors) < most:
        node = producers.get(queue.popleft())
        if node is None or node in found.nodes or any(name in known for name in node.outputs):
            continue
        found.nodes.append(node)
        for name in (*node.outputs, *node.inputs):
            if name in producers and name not in seen and name not in known:
                seen.add(name)
                found.tensors.append(name)
                queue.append(name)
    return found
