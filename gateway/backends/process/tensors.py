"""Tensors in shared memory: written to one block of an arena, described by JSON, and read by the other side.

A description is [name, dtype, shape, offset, bytes]; texts are a JSON array in the block. Descriptions are not trusted:
sizes must agree with shapes and lie within the memory.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import orjson

from gateway.protocol.tensors import DATATYPES, Array
from gateway.shm.arena import Arena, ArenaError, ArenaView, Block

ALIGNMENT: Final = 64
TEXTS: Final = "O"
MOST_DIMENSIONS: Final = 32  # numpy's
_DTYPES: Final = {kind.dtype.str: kind.dtype for kind in DATATYPES.values() if kind.code}
Described = list[Any]


def write(arena: Arena, tensors: Iterable[tuple[str, Array]]) -> tuple[Block, list[Described]] | None:
    """Write the tensors to one block; returns it and their descriptions, or None if there is no memory."""
    parts: list[tuple[Described, Any]] = []
    at = 0
    for name, array in tensors:
        data: Any = array
        if array.dtype.kind == TEXTS:
            data = orjson.dumps(array.ravel().tolist())
            code, size = TEXTS, len(data)
        else:
            code, size = array.dtype.str, array.nbytes
        parts.append(([name, code, array.shape, at, size], data))
        at += -(-size // ALIGNMENT) * ALIGNMENT
    block = arena.take(at)
    if block is None:
        return None
    for described, data in parts:
        start, size = described[3], described[4]
        described[3] = block.offset + start
        if size:
            if isinstance(data, bytes):
                block.view[start : start + size] = data
            else:
                np.frombuffer(block.view, data.dtype, data.size, start).reshape(data.shape)[...] = data
    return block, [described for described, _ in parts]


def read(memory: ArenaView, described: Sequence[Any], *, copy: bool) -> tuple[str, Array]:
    """The name and the tensor. Without `copy` the tensor is a view of the shared memory, which the caller must keep
    reserved. Raises ArenaError.
    """
    try:
        name, code, shape, offset, size = described
        shape = tuple(map(int, shape))
        count = math.prod(shape)
        if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0 or not isinstance(name, str):
            raise ArenaError(f"a tensor cannot have the shape {shape}")
        if code == TEXTS:
            return name, _texts(bytes(memory.read(offset, size)), shape, count)
        dtype = _DTYPES.get(code) or _fixed_width(code)
        if size != count * dtype.itemsize:
            raise ArenaError(f"{size} bytes cannot hold a tensor of {dtype} with shape {shape}")
        if not size:
            return name, np.empty(shape, dtype)
        array = np.frombuffer(memory.read(offset, size), dtype, count).reshape(shape)
    except (TypeError, ValueError) as error:
        raise ArenaError(f"not the description of a tensor: {str(described)[:200]}: {error}") from None
    return name, array.copy() if copy else array


def _fixed_width(code: Any) -> Any:
    """The dtype of texts that are not UTF-8, such as |V12."""
    if isinstance(code, str) and code.startswith("|V") and code[2:].isdigit() and int(code[2:]) > 0:
        return np.dtype(code)
    raise ArenaError(f"a tensor cannot have the dtype {str(code)[:40]}")


def _texts(data: bytes, shape: tuple[int, ...], count: int) -> Array:
    texts = orjson.loads(data)
    if not isinstance(texts, list) or len(texts) != count or not all(isinstance(text, str) for text in texts):
        raise ArenaError(f"the block does not hold {count} texts")
    array = np.empty(count, object)
    array[:] = texts
    return array.reshape(shape)
