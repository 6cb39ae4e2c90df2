"""Tensors in shared memory: written to one block of an arena, described by their layout, read by the other side.

A layout is a JSON array of [name, dtype, shape, offset in the block, bytes], or null for an output that the model left
out. Texts are a JSON array in the block. Most requests have the same layout, so both sides keep those that they know.
A layout of the other side is not trusted: sizes must agree with shapes and lie within the memory.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from gateway.protocol.tensors import DATATYPES, Array
from gateway.shm.arena import Arena, ArenaError, ArenaView, Block

ALIGNMENT: Final = 64
TEXTS: Final = "O"
MOST_DIMENSIONS: Final = 32  # numpy's
SMALL: Final = 4096  # bytes; up to here a copy by way of a bytes object is faster
KEPT: Final = 256  # layouts; beyond, all are forgotten
KEPT_LONGEST: Final = 4096  # bytes of a kept layout
_DTYPES: Final = {kind.dtype.str: kind.dtype for kind in DATATYPES.values() if kind.code}
Named = tuple[str, Array | None]


@dataclass(frozen=True, slots=True)
class _Part:
    """A tensor in a block. `dtype` None: texts."""

    name: str
    dtype: "np.dtype[Any] | None"
    shape: tuple[int, ...]
    count: int
    start: int
    size: int


@dataclass(frozen=True, slots=True)
class _Layout:
    """The tensors of a block, None for those left out. `extent`: the bytes from the block's start to their end."""

    parts: tuple[_Part | None, ...]
    extent: int


class TensorWriter:
    """Writes tensors to blocks of `arena`."""

    def __init__(self, arena: Arena) -> None:
        self._arena = arena
        self._known: dict[Any, tuple[bytes, int, list[int]]] = {}

    def write(self, tensors: Sequence[Named]) -> tuple[Block, bytes] | None:
        """Write the tensors to one block; returns it and their layout, or None if there is no memory."""
        key = tuple([(name, None if array is None else (array.dtype, array.shape)) for name, array in tensors])
        arrays: list[Any] = [array for _, array in tensors if array is not None]
        known = self._known.get(key)
        if known is None:
            texts = [array.dtype.kind == TEXTS for array in arrays]
            arrays = [_as_json(array) if text else array for array, text in zip(arrays, texts, strict=True)]
            known = _laid_out(tensors, arrays)
            if not any(texts) and len(known[0]) <= KEPT_LONGEST:
                _keep(self._known, key, known)
        layout, extent, starts = known
        block = self._arena.take(extent)
        if block is None:
            return None
        try:
            for start, data in zip(starts, arrays, strict=True):
                _put(block.view, start, data)
        except BaseException:
            self._arena.give_back(block)
            raise
        return block, layout


class TensorReader:
    """Reads tensors from the other side's `memory`. `names`: those that there must be, None: any."""

    def __init__(self, memory: ArenaView, names: Sequence[str] | None = None) -> None:
        self.names = names
        self._memory = memory
        self._known: dict[bytes, _Layout] = {}

    def read(self, offset: int, layout: bytes, *, copy: bool) -> list[Named]:
        """The tensors with their names, of which those left out are "". Without `copy` they are views of the shared
        memory, which the caller must keep reserved. Raises ArenaError.
        """
        known = self._known.get(layout)
        if known is None:
            known = _parsed(layout, self.names)
            if len(layout) <= KEPT_LONGEST and all(part is None or part.dtype is not None for part in known.parts):
                _keep(self._known, layout, known)
        data: Any = self._memory.read(offset, known.extent)
        if copy:
            data = bytearray(data)
        return [("", None) if part is None else (part.name, _array(data, part)) for part in known.parts]


def _keep(known: dict[Any, Any], key: Any, value: Any) -> None:
    if len(known) >= KEPT:
        known.clear()
    known[key] = value


def _as_json(texts: Array) -> bytes:
    return orjson.dumps(texts.ravel().tolist())


def _laid_out(tensors: Sequence[Named], arrays: Sequence[Any]) -> tuple[bytes, int, list[int]]:
    """The layout, the bytes that it takes, and where each array begins. `arrays`: those that are there."""
    parts: list[list[Any] | None] = []
    starts, at, left = [], 0, iter(arrays)
    for name, array in tensors:
        if array is None:
            parts.append(None)
            continue
        data = next(left)
        code, size = (TEXTS, len(data)) if isinstance(data, bytes) else (array.dtype.str, array.nbytes)
        parts.append([name, code, array.shape, at, size])
        starts.append(at)
        at += -(-size // ALIGNMENT) * ALIGNMENT
    return orjson.dumps(parts), at, starts


def _put(view: memoryview, start: int, data: Any) -> None:
    if isinstance(data, bytes):
        view[start : start + len(data)] = data
    elif 0 < data.nbytes <= SMALL:
        view[start : start + data.nbytes] = data.tobytes()
    elif data.nbytes:
        np.frombuffer(view, data.dtype, data.size, start).reshape(data.shape)[...] = data


def _parsed(layout: bytes, names: Sequence[str] | None) -> _Layout:
    try:
        parts = tuple([None if one is None else _part(*one) for one in orjson.loads(layout)])
    except (TypeError, ValueError) as error:
        raise ArenaError(f"not the layout of tensors: {layout[:200]!r}: {error}") from None
    if names is not None and (
        len(parts) != len(names)
        or any(part is not None and part.name != name for part, name in zip(parts, names, strict=True))
    ):
        raise ArenaError(f"tensors {[part and part.name for part in parts]} instead of {list(names)}"[:400])
    return _Layout(parts, max((part.start + part.size for part in parts if part is not None), default=0))


def _part(name: Any, code: Any, shape: Any, start: Any, size: Any) -> _Part:
    shape = tuple(map(int, shape))
    count = math.prod(shape)
    if len(shape) > MOST_DIMENSIONS or min(shape, default=0) < 0 or not isinstance(name, str):
        raise ArenaError(f"a tensor cannot have the shape {shape}")
    if type(start) is not int or type(size) is not int or start < 0 or size < 0:
        raise ArenaError(f"there are no {size} bytes at {start}")
    if code == TEXTS:
        return _Part(name, None, shape, count, start, size)
    dtype = _DTYPES.get(code) or _fixed_width(code)
    if size != count * dtype.itemsize:
        raise ArenaError(f"{size} bytes cannot hold a tensor of {dtype} with shape {shape}")
    return _Part(name, dtype, shape, count, start, size)


def _array(data: Any, part: _Part) -> Array:
    if part.dtype is None:
        return _texts(bytes(data[part.start : part.start + part.size]), part)
    if not part.size:
        return np.empty(part.shape, part.dtype)
    array: Array = np.frombuffer(data, part.dtype, part.count, part.start).reshape(part.shape)
    return array


def _fixed_width(code: Any) -> Any:
    """The dtype of texts that are not UTF-8, such as |V12."""
    if isinstance(code, str) and code.startswith("|V") and code[2:].isdigit() and int(code[2:]) > 0:
        return np.dtype(code)
    raise ArenaError(f"a tensor cannot have the dtype {str(code)[:40]}")


def _texts(data: bytes, part: _Part) -> Array:
    try:
        texts = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        raise ArenaError(f"the block does not hold texts: {error}") from None
    if not isinstance(texts, list) or len(texts) != part.count or not all(isinstance(text, str) for text in texts):
        raise ArenaError(f"the block does not hold {part.count} texts")
    array = np.empty(part.count, object)
    array[:] = texts
    return array.reshape(part.shape)
