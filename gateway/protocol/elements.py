"""Converts the elements of one tensor from JSON lists and raw little-endian bytes to numpy arrays, and back.

A client's shape is not trusted: nothing is allocated before it has been compared with the size of the data.
Conversions are strict: numpy would accept the string "1.5", the number 1.5 as an INT32, and null as NaN; `struct`
refuses all three, and is faster. One exception: true and false count as 1 and 0 in a numeric tensor. `struct` accepts
them, and looking for them would take at least a fifth of the time to decode a list of 64 FP32.

Errors say what is wrong; the caller adds which tensor it is.
"""

import math
import reprlib
import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import pybase64

from gateway.errors import InvalidRequest
from gateway.protocol.tensors import DATATYPES, Array, Datatype

MAX_RANK: Final = 32
MAX_SHOWN_VALUE: Final = 60  # characters of a client's value in an error message
NON_FINITE: Final = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
FLOATS: Final = frozenset({"FP16", "FP32", "FP64"})
_INTEGERS: Final = frozenset({int})


class _JsonRepr(reprlib.Repr):
    """Python's repr, shortened, but null, true and false as in JSON, wherever they are in the value."""

    def repr_NoneType(self, value: None, level: int) -> str:
        return "null"

    def repr_bool(self, value: bool, level: int) -> str:
        return "true" if value else "false"


_ECHO: Final = _JsonRepr()
_ECHO.maxstring = _ECHO.maxother = MAX_SHOWN_VALUE
_ECHO.maxlist = MAX_RANK  # shows a shape in full
_ECHO.maxlevel = 1  # nested lists would multiply the output


def datatype_of(name: object) -> Datatype:
    """Return the datatype called `name`; raises InvalidRequest that lists the known ones."""
    datatype = DATATYPES.get(name) if type(name) is str else None
    if datatype is None:
        raise InvalidRequest(f"unknown datatype {short(name)}; known are {', '.join(DATATYPES)}")
    return datatype


def count_of(shape: object) -> int:
    """Return the number of elements of `shape`; raises InvalidRequest unless it is a list of integers >= 0."""
    if type(shape) is not list or len(shape) > MAX_RANK:
        raise InvalidRequest(f"shape must be a list of at most {MAX_RANK} integers, got {short(shape)}")
    if not _INTEGERS.issuperset(map(type, shape)) or min(shape, default=0) < 0:
        raise InvalidRequest(f"shape {short(shape)} must hold integers of 0 or more only")
    return math.prod(shape)


def array_of(buffer: bytes | memoryview, datatype: Datatype, shape: Sequence[int]) -> Array:
    """Return a view of `buffer`, whose size the caller has checked against `shape`."""
    try:
        return np.ndarray(shape, datatype.dtype, buffer)
    except ValueError as error:
        raise _unaddressable(shape, error) from None


def _reshaped(elements: Array, shape: Sequence[int]) -> Array:
    try:
        return elements.reshape(shape)
    except ValueError as error:
        raise _unaddressable(shape, error) from None


def _unaddressable(shape: Sequence[int], error: ValueError) -> InvalidRequest:
    """For shapes such as [0, 2**62], which have no elements but are larger than numpy can address."""
    return InvalidRequest(f"shape {short(shape)} is too large to address: {error}")


def from_json(data: object, datatype: Datatype, shape: list[int]) -> Array:
    """Convert a JSON `data` value (nested like the shape, or flat in row-major order) to an array of `shape`.

    Raises InvalidRequest.
    """
    count = count_of(shape)
    if type(data) is not list:
        if shape or isinstance(data, dict):
            raise InvalidRequest(f"data must be a list, got {short(data)}")
        data = [data]
    elif data and type(data[0]) is list:
        data = list(_flattened(data, shape))
    if len(data) != count:
        raise InvalidRequest(f"shape {short(shape)} needs {count} elements, data has {len(data)}")
    if not datatype.code:
        return _reshaped(_strings(data), shape)
    if datatype.code == "?":
        _check_booleans(data)
    try:
        packed = _packer(datatype.code, count).pack(*data)
    except (struct.error, OverflowError):
        packed = _packed_otherwise(data, datatype)
    return array_of(packed, datatype, shape)


def from_bytes(raw: memoryview, datatype: Datatype, shape: list[int]) -> Array:
    """Convert the raw little-endian bytes of one tensor to an array of `shape`; a view of `raw` if it is aligned.

    Raises InvalidRequest.
    """
    count = count_of(shape)
    if datatype.name == "BYTES":
        return _reshaped(_bytes_elements(raw, count), shape)
    size = count * datatype.dtype.itemsize
    if len(raw) != size:
        raise InvalidRequest(
            f"{datatype.name} of shape {short(shape)} needs {size} bytes, binary_data_size is {len(raw)}"
        )
    array = array_of(raw, datatype, shape)
    if not array.flags.aligned:  # the tensor starts wherever the JSON ends
        array = array.copy()
    if datatype.code == "?" and count and array.view(np.uint8).max() > 1:
        raise InvalidRequest(f"a BOOL byte must be 0 or 1, found {array.view(np.uint8).max()}")
    return array


def from_base64(array: Array, datatype: Datatype) -> Array:
    """Decode BYTES elements from standard Base64; raises InvalidRequest."""
    if datatype.name != "BYTES":
        raise InvalidRequest(f"content_type base64 is for BYTES, not for {datatype.name}")
    decoded = np.empty(array.shape, object)
    flat = decoded.reshape(-1)  # a view, since a new array is contiguous
    for index, element in enumerate(array.ravel()):
        try:
            flat[index] = pybase64.b64decode(element, validate=True)
        except ValueError:
            raise InvalidRequest(f"data[{index}] = {short(element)} is not padded Base64 (RFC 4648, 4)") from None
    return decoded


def to_bytes(array: Array, datatype: str) -> bytes:
    """Encode the elements as the protocol's raw bytes: little-endian, row-major; each BYTES element with a 4-byte
    length before it.
    """
    if datatype != "BYTES":
        return array.astype(DATATYPES[datatype].dtype, order="C", copy=False).tobytes()
    parts: list[bytes] = []
    for element in array.ravel():
        encoded = element if isinstance(element, bytes) else str(element).encode()
        parts += (struct.pack("<I", len(encoded)), encoded)
    return b"".join(parts)


def to_json(array: Array, datatype: str) -> list[Any]:
    """Return the elements as a flat list of JSON values, non-finite floats as "NaN", "Infinity" and "-Infinity"."""
    if datatype == "BYTES":
        return [_text(element) for element in array.ravel()]
    values: list[Any] = array.ravel().tolist()
    if datatype in FLOATS:
        return [value if math.isfinite(value) else _non_finite_name(value) for value in values]
    return values


@lru_cache(maxsize=1024)
def _packer(code: str, count: int) -> struct.Struct:
    return struct.Struct(f"<{count}{code}")


def _packed_otherwise(data: list[Any], datatype: Datatype) -> bytes:
    """Pack data that `struct` refused, with the names of non-finite floats as numbers.

    Raises InvalidRequest that names the first element of another type.
    """
    if datatype.name in FLOATS:
        spelt = [NON_FINITE.get(value, value) if type(value) is str else value for value in data]
        try:
            return _packer(datatype.code, len(data)).pack(*spelt)
        except (struct.error, OverflowError):
            pass
    return _packer(datatype.code, len(data)).pack(*_careful(data, datatype))


def _careful(data: list[Any], datatype: Datatype) -> Iterator[float]:
    """Check element by element; raises InvalidRequest that names the first one that does not fit the datatype."""
    one = _packer(datatype.code, 1)
    for index, value in enumerate(data):
        number: Any = NON_FINITE.get(value, value) if datatype.name in FLOATS and type(value) is str else value
        try:
            one.pack(number)
        except (struct.error, OverflowError):
            raise InvalidRequest(f"data[{index}] = {short(value)} is not a {datatype.name}") from None
        yield number


def _check_booleans(data: list[Any]) -> None:
    for index, value in enumerate(data):
        if value is not True and value is not False:
            raise InvalidRequest(f"data[{index}] = {short(value)} is not a BOOL; write true or false")


def _strings(data: list[Any]) -> Array:
    for index, value in enumerate(data):
        if type(value) is not str:
            raise InvalidRequest(f"data[{index}] = {short(value)} is not a string, which BYTES needs in JSON")
    array = np.empty(len(data), object)
    array[:] = data
    return array


def _flattened(data: list[Any], shape: Sequence[int]) -> Iterator[Any]:
    if not shape or len(data) != shape[0]:
        raise InvalidRequest(f"nested data does not follow the shape: {len(data)} items for shape {short(shape)}")
    if len(shape) == 1:
        yield from data
        return
    for item in data:
        if type(item) is not list:
            raise InvalidRequest(f"nested data is ragged: {short(item)} instead of a list")
        yield from _flattened(item, shape[1:])


def _bytes_elements(raw: memoryview, count: int) -> Array:
    if count * 4 > len(raw):
        raise InvalidRequest(f"{count} BYTES elements need at least {count * 4} bytes, got {len(raw)}")
    array = np.empty(count, object)
    offset = 0
    for index in range(count):
        start = offset + 4
        offset = start + int.from_bytes(raw[offset:start], "little")
        if start > len(raw) or offset > len(raw):
            raise InvalidRequest(f"BYTES element {index} reaches beyond the tensor's {len(raw)} bytes")
        array[index] = bytes(raw[start:offset])
    if offset != len(raw):
        raise InvalidRequest(f"{len(raw) - offset} bytes follow the last of the {count} BYTES elements")
    return array


def _text(element: object) -> str:
    if not isinstance(element, bytes):
        return str(element)
    try:
        return element.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("has bytes that are not UTF-8; request it with binary_data: true") from None


def _non_finite_name(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


def short(value: object) -> str:
    """Format a client's value for an error message; length and running time are bounded, however large the value."""
    if isinstance(value, dict):  # reprlib would sort the keys, which takes time
        return f"an object of {len(value)} keys"
    text = _ECHO.repr(value)
    return text if len(text) <= MAX_SHOWN_VALUE else f"{text[: MAX_SHOWN_VALUE - 3]}..."
