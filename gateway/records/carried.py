"""What a prediction id carries of the prediction beside its one class: the rows of each output, in a few bytes.

    layout   for each output: a byte with its kind (bits 0 to 2), its form (3, 4) and a flag for several rows (5); of
             several rows their number (4); of labels the bytes of a row (2); then one value for each row

A class takes 1 or 2 bytes, a set of labels a bit for each, rounded up to bytes, a number 4 (float32), a ranked list 2,
its length; all lists of a request are of one length. Values that no longer fit are left out.
"""

import math
import struct
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from gateway.settings.model import Kind

MAX_BYTES: Final = 512  # of all outputs together
_KINDS: Final = tuple(Kind)
_MULTILABEL: Final = Kind.MULTILABEL  # looked up once: an enum's members take long
_REGRESSION: Final = Kind.REGRESSION
_RANKING: Final = Kind.RANKING
_KIND: Final = 0b111
_FORM_BIT: Final = 3
_NO_ROOM, _NARROW, _WIDE, _UNREAD = range(4)  # narrow: classes in 1 byte, and all other values; wide: classes in 2
_SEVERAL: Final = 1 << 5
_NUMBER_BYTES: Final = 4
_ROWS: Final = struct.Struct("<I")
_SEVERAL_HEAD: Final = struct.Struct("<BI")
_SHORT: Final = struct.Struct("<H")
_ONE_NUMBER: Final = struct.Struct("<Bf")
_ONE_NUMBER_HEAD: Final = _KINDS.index(_REGRESSION) | _NARROW << _FORM_BIT
_MAX_SHORT: Final = 0xFFFF
_MAX_FLOAT32: Final = 3.4e38


class Carried(NamedTuple):
    """What is carried of one output. `values`: one for each row, None for a row without one; of ranked lists one for
    all, their length. None: they did not fit; empty: there were none to read.

    A value is a class index, a tuple of label indices, or a number.
    """

    kind: Kind
    rows: int
    values: Sequence[Any] | None = ()


def one_number(value: float | None) -> bytes:
    """Encode the number of a single row: the same as `encoded` of it, for the most common case."""
    return _ONE_NUMBER.pack(_ONE_NUMBER_HEAD, _float32(value))


def encoded(outputs: Sequence[Carried]) -> bytes:
    """Encode what is carried of each output, the main one first."""
    left = MAX_BYTES - len(outputs) * (1 + _ROWS.size)
    parts: list[bytes] = []
    for kind, rows, values in outputs:
        form, packed = _packed(kind, values, left) if values else (_UNREAD if values is not None else _NO_ROOM, b"")
        if len(packed) > left:
            form, packed = _NO_ROOM, b""
        left -= len(packed)
        head = _KINDS.index(kind) | form << _FORM_BIT
        parts += (bytes((head,)) if rows == 1 else _SEVERAL_HEAD.pack(head | _SEVERAL, rows)), packed
    return b"".join(parts)


def decoded(payload: bytes) -> tuple[Carried, ...]:
    """Decode what `encoded` returned. Raises ValueError if it is in no form that this release knows."""
    try:
        return tuple(_outputs(payload))
    except (struct.error, IndexError) as error:
        raise ValueError(f"in no known form: {error}") from None


def _packed(kind: Kind, values: Sequence[Any], left: int) -> tuple[int, bytes]:
    """The form and the values in it; more than `left` bytes if they do not fit."""
    if len(values) > left:
        return _NO_ROOM, b""
    if kind is _REGRESSION:
        return _NARROW, struct.pack(f"<{len(values)}f", *map(_float32, values))
    if kind is _RANKING:
        return _NARROW, _SHORT.pack(min(values[0], _MAX_SHORT))
    if kind is _MULTILABEL:
        return _NARROW, _packed_labels(values)
    largest = max((value for value in values if value is not None), default=0)
    if largest < 0xFF:
        return _NARROW, bytes([0xFF if value is None else value for value in values])
    if largest < _MAX_SHORT:
        return _WIDE, struct.pack(f"<{len(values)}H", *(_MAX_SHORT if value is None else value for value in values))
    return _NO_ROOM, b""


def _packed_labels(values: Sequence[tuple[int, ...] | None]) -> bytes:
    """The number of bytes for a row, then a bit for each label; the first bit: the row's labels are known."""
    highest = max((max(value, default=0) for value in values if value is not None), default=0)
    size = (highest + 2 + 7) // 8
    if size > _MAX_SHORT:
        return bytes(MAX_BYTES + 1)
    rows = (0 if value is None else 1 | sum(2 << index for index in value) for value in values)
    return _SHORT.pack(size) + b"".join(row.to_bytes(size, "little") for row in rows)


def _float32(value: float | None) -> float:
    return math.nan if value is None or not abs(value) < _MAX_FLOAT32 else value


def _outputs(payload: bytes) -> Iterator[Carried]:
    at = 0
    while at < len(payload):
        head = payload[at]
        kind, form = _KINDS[head & _KIND], head >> _FORM_BIT & 3
        at += 1
        rows = 1
        if head & _SEVERAL:
            (rows,) = _ROWS.unpack_from(payload, at)
            at += _ROWS.size
        if form in (_NO_ROOM, _UNREAD):
            yield Carried(kind, rows, None if form == _NO_ROOM else ())
            continue
        values, at = _unpacked(kind, form, rows, payload, at)
        yield Carried(kind, rows, values)


def _unpacked(kind: Kind, form: int, rows: int, payload: bytes, at: int) -> tuple[list[Any], int]:
    """The values of one output, and where the next one begins."""
    if kind is _REGRESSION:
        numbers = struct.unpack_from(f"<{rows}f", payload, at)
        return [None if number != number else number for number in numbers], at + _NUMBER_BYTES * rows
    if kind is _RANKING:
        return [*_SHORT.unpack_from(payload, at)], at + _SHORT.size
    if kind is _MULTILABEL:
        (size,) = _SHORT.unpack_from(payload, at)
        at += _SHORT.size
        if not 0 < size * rows <= len(payload) - at:
            raise IndexError("the rows' labels are cut off")
        ends = range(at + size, at + size * (rows + 1), size)
        return [_labels(int.from_bytes(payload[end - size : end], "little")) for end in ends], at + size * rows
    size, none = (1, 0xFF) if form == _NARROW else (2, _MAX_SHORT)
    indices = struct.unpack_from(f"<{rows}{'B' if size == 1 else 'H'}", payload, at)
    return [None if index == none else index for index in indices], at + size * rows


def _labels(bits: int) -> tuple[int, ...] | None:
    return tuple(index for index in range(bits.bit_length() - 1) if bits >> index + 1 & 1) if bits & 1 else None
