"""Reads from an ONNX file what a session does not tell: its operators, and the files with its weights.

Parses the protocol buffer's wire format itself: the `onnx` package would load all weights into memory. Field numbers:
https://github.com/onnx/onnx/blob/main/onnx/onnx.proto3
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.errors import ModelUnavailable

_VARINT: Final = 0
_FIXED64: Final = 1
_BYTES: Final = 2
_FIXED32: Final = 5

# For each kind of message, the fields that hold messages, by their numbers in onnx.proto3.
_MODEL: Final = "model"
_GRAPH: Final = "graph"
_FUNCTION: Final = "function"
_NODE: Final = "node"
_ATTRIBUTE: Final = "attribute"
_TENSOR: Final = "tensor"
_SPARSE: Final = "sparse tensor"
_INSIDE: Final = {
    _MODEL: {7: _GRAPH, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TENSOR: {},
}
_LISTS_OF_ATTRIBUTE: Final = (7, 8, 9)  # of floats, integers, strings
_OP_TYPE: Final = 4  # of a node
_EXTERNAL_DATA: Final = 13  # of a tensor: entries of key (1) and value (2)
_DATA_LOCATION: Final = 14  # of a tensor
_EXTERNAL: Final = b"\x01"  # a data location


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """The contents of a file. `operators`: the types of all nodes, including those of subgraphs and functions.
    `external`: the files with weights, relative to the model file's folder, sorted by name.
    """

    operators: frozenset[str]
    external: tuple[str, ...]


def read_onnx_file(path: Path) -> OnnxFile:
    """Read the file's structure without its weights. Raises ModelUnavailable if it is not an ONNX file."""
    operators: set[str] = set()
    external: set[str] = set()
    try:
        with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            for kind, number, value in _walk(_MODEL, mapped, 0, len(mapped)):
                if kind == _NODE and number == _OP_TYPE:
                    operators.add(text_of(value))
                elif kind == _TENSOR and number == _EXTERNAL_DATA:
                    external.add(text_of(value))
    except (ValueError, IndexError, RecursionError) as error:
        raise ModelUnavailable(f"{path} is not a complete ONNX file: {error}") from None
    return OnnxFile(frozenset(operators), tuple(sorted(external)))


def _walk(kind: str, data: mmap.mmap, start: int, end: int) -> Iterator[tuple[str, int, bytes]]:
    """Yield the kind of message, number and content of each wanted field, in nested messages too."""
    inside = _INSIDE[kind]
    if kind == _TENSOR:
        yield from ((kind, _EXTERNAL_DATA, location) for location in _locations(data, start, end))
        return
    for number, begin, stop in (attribute_fields if kind == _ATTRIBUTE else fields)(data, start, end):
        if number in inside:
            yield from _walk(inside[number], data, begin, stop)
        elif (kind, number) == (_NODE, _OP_TYPE):
            yield kind, number, data[begin:stop]


def _locations(data: mmap.mmap, start: int, end: int) -> list[bytes]:
    """The file that holds a tensor's weights; none if they are in the tensor, even if it still names a file."""
    found, is_external = list[bytes](), False
    for number, begin, stop in fields(data, start, end):
        if number == _DATA_LOCATION:
            is_external = data[begin:stop] == _EXTERNAL
        elif number == _EXTERNAL_DATA:
            entry = {field: data[b:s] for field, b, s in fields(data, begin, stop)}
            if entry.get(1) == b"location":
                found.append(entry.get(2, b""))
    return found if is_external else []


def fields(data: mmap.mmap | bytes, position: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number, start and end of each field of bytes or of an integer; other fields are skipped.

    Raises ValueError or IndexError if the message is damaged.
    """
    while position < end:
        tag, position = _varint(data, position)
        wire = tag & 7
        if wire == _VARINT:
            begin = position
            _, position = _varint(data, position)
            yield tag >> 3, begin, position
        elif wire == _FIXED64:
            position += 8
        elif wire == _FIXED32:
            position += 4
        elif wire == _BYTES:
            size, position = _varint(data, position)
            if position + size > end:
                raise ValueError(f"a field at byte {position} ends {position + size - end} bytes after its message")
            yield tag >> 3, position, position + size
            position += size
        else:
            raise ValueError(f"unknown wire type {wire} at byte {position}")


def attribute_fields(data: mmap.mmap | bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the fields of a node's attribute up to the first list: it holds one value, so no graph or tensor follows a
    list.

    A vocabulary is a list of a hundred thousand words, each a field of its own.
    """
    for field in fields(data, start, end):
        if field[0] in _LISTS_OF_ATTRIBUTE:
            return
        yield field


def text_of(content: bytes) -> str:
    """Decode text that need not be UTF-8, such as paths, and names in protocol buffers of version 2."""
    return content.decode("utf-8", "surrogateescape")


def _varint(data: mmap.mmap | bytes, position: int) -> tuple[int, int]:
    """The number at `position`, and the position after it."""
    byte = data[position]
    if byte < 0x80:
        return byte, position + 1
    value, shift = byte & 0x7F, 7
    while True:
        position += 1
        byte = data[position]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position + 1
        shift += 7
