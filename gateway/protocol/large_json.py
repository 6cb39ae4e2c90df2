"""Large JSON bodies, decoded on a thread without keeping the event loop from the interpreter's lock for long.

orjson holds the lock until it has read all: 30 MiB of numbers take 0.6 s, of small objects 10 s. So the numbers of a
tensor are cut out of the text and read a piece at a time, and what is left must hold no more than `limits.values`
values, which are counted before they are read. What is cut out is packed as the protocol's binary tensors are, so that
memory holds no list of them.
"""

import gc
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np
import orjson

from gateway.errors import BodyTooLarge, InvalidRequest
from gateway.protocol.decode import decode_document, decode_strict
from gateway.protocol.elements import count_of, datatype_of, from_json, short
from gateway.protocol.tensors import InferRequest

PIECE_BYTES: Final = 65536  # bytes of numbers read at once: about 2 ms
SLICE_BYTES: Final = 2**20  # bytes looked through at once
MAX_TENSORS: Final = 1000  # inputs of a large request, and requested outputs
_MARK: Final = f"data {secrets.token_hex(16)} "  # no client can know it
_OPEN: Final = re.compile(rb"\s*:\s*(\[)")
_PEEL: Final = re.compile(rb"\[\s*(?=\[)")
_NESTED: Final = re.compile(rb"\[\s*\[")
_SPACE: Final = b" \t\r\n"
CheckDeadline = Callable[[], None]  # called between pieces; raises where it is too late


class _Cut(NamedTuple):
    """Where in the text a list of numbers stands, with its brackets."""

    start: int
    end: int


def count_values(text: bytes, end: int | None = None) -> int:
    """How many values JSON holds, give or take those that commas and brackets within strings look like."""
    end = len(text) if end is None else end
    marks = b",", b"[", b"{"
    return sum(text.count(mark, at, min(at + SLICE_BYTES, end)) for at in range(0, end, SLICE_BYTES) for mark in marks)


def check_values(text: bytes, most: int, end: int | None = None) -> None:
    """Raise BodyTooLarge where the JSON holds more than `most` values."""
    count = count_values(text, end)
    if count > most:
        raise BodyTooLarge(
            f"the JSON holds {count} values that are not just a tensor's numbers, limits.values is {most}; send fewer"
            " rows at a time, or binary tensors"
        )


def decode_large(text: bytes, most: int, go_on: CheckDeadline) -> InferRequest:
    """The request in a body that is all JSON. Raises as `decode_strict` does, and BodyTooLarge."""
    with _uncollected():
        if count_values(text) <= most:
            return _checked(text)
        return _decode_cut(text, most, go_on)


def _checked(text: bytes) -> InferRequest:
    request = decode_strict(text)
    if max(len(request.inputs), len(request.outputs or ())) > MAX_TENSORS:
        raise _too_many()
    return request


def _decode_cut(text: bytes, most: int, go_on: CheckDeadline) -> InferRequest:
    cuts = list(_cuts(text))
    skeleton = _skeleton(text, cuts)
    check_values(skeleton, most)
    try:
        document = orjson.loads(skeleton)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error.msg}, beside the tensors' numbers") from None
    items = document.get("inputs") if type(document) is dict else None
    if type(items) is not list:
        return decode_document(document, None)  # which says what is wrong
    if len(items) > MAX_TENSORS or len(document.get("outputs") or ()) > MAX_TENSORS:
        raise _too_many()
    raw: list[memoryview] = []
    for index, item in enumerate(items):
        cut = _cut_of(item, cuts)
        if cut is not None:
            try:
                items[index] = _packed(item, text, cut, most, raw, go_on)
            except InvalidRequest as error:
                raise InvalidRequest(f"inputs[{index}] {short(item.get('name'))}: {error}") from None
    if len(raw) < len(cuts):
        check_values(text, most)  # a list of numbers that is no tensor's
    return decode_document(document, raw[0] if len(raw) == 1 else b"".join(raw))


def _cuts(text: bytes) -> Iterator[_Cut]:
    """The long lists of numbers that are called "data". A quotation mark behind a backslash ends no string."""
    at = 0
    while (at := text.find(b'"data"', at)) >= 0:
        named = text[at - 1 : at] != b"\\"
        at += 6
        opened = _OPEN.match(text, at) if named else None
        if opened is None:
            continue
        start = opened.start(1)
        quoted = text.find(b'"', start)
        closed = text.find(b"}", start, quoted if quoted >= 0 else len(text))
        end = _last(text, start, closed if closed >= 0 else max(quoted, start), b", \t\r\n")
        if end - start > PIECE_BYTES and text[end - 1 : end] == b"]":
            yield _Cut(start, end)
            at = end


def _last(text: bytes, start: int, end: int, but: bytes) -> int:
    """`end` without the characters before it that are in `but`."""
    while end > start and text[end - 1] in but:
        end -= 1
    return end


def _skeleton(text: bytes, cuts: list[_Cut]) -> bytes:
    """The text with marks in place of what is cut out."""
    parts: list[bytes] = []
    at = 0
    for number, cut in enumerate(cuts):
        parts += text[at : cut.start], b'"%b%d"' % (_MARK.encode(), number)
        at = cut.end
    return b"".join((*parts, text[at:]))


def _cut_of(item: Any, cuts: list[_Cut]) -> _Cut | None:
    data = item.get("data") if type(item) is dict else None
    return cuts[int(data[len(_MARK) :])] if type(data) is str and data.startswith(_MARK) else None


def _packed(
    item: dict[str, Any], text: bytes, cut: _Cut, most: int, raw: list[memoryview], go_on: CheckDeadline
) -> dict[str, Any]:
    """The input with its numbers behind the JSON, to which they are added."""
    datatype, shape = datatype_of(item.get("datatype")), item.get("shape")
    if datatype.name == "BYTES":
        raise InvalidRequest("data holds numbers where BYTES needs strings")
    parameters = item.get("parameters") or {}
    if type(parameters) is not dict:
        raise InvalidRequest("parameters must be an object")
    if "binary_data_size" in parameters:
        raise InvalidRequest("has both data and binary_data_size; send one of them")
    count = count_of(shape)
    if count > cut.end - cut.start:
        raise InvalidRequest(f"shape {short(shape)} needs {count} elements, data has fewer")
    packed, held = np.empty(count, datatype.dtype), 0  # whose memory the system gives as it is written to
    inner: list[int] = list(shape) if type(shape) is list else []
    while len(inner) > 1 and inner[0] == 1 and (peeled := _PEEL.match(text, cut.start)):
        cut, inner = _Cut(peeled.end(), _last(text, cut.start, cut.end - 1, _SPACE)), inner[1:]
    nested = len(inner) > 1 and _NESTED.match(text, cut.start) is not None
    for piece in _rows(text, cut, len(inner)) if nested else _numbers(text, cut):
        check_values(piece, most)
        values = _values(piece)
        part = from_json(values, datatype, [len(values), *inner[1:]] if nested else [len(values)]).ravel()
        packed[held : held + len(part)] = part[: max(0, count - held)]
        held += len(part)
        go_on()
        time.sleep(0)  # the event loop may want to go on
    if held != count:
        raise InvalidRequest(f"shape {short(shape)} needs {count} elements, data has {held}")
    raw.append(packed.data.cast("B"))
    rest = {key: value for key, value in item.items() if key != "data"}
    return {**rest, "parameters": {**parameters, "binary_data_size": packed.nbytes}}


def _numbers(text: bytes, cut: _Cut) -> Iterator[bytes]:
    """The list in pieces, parted at commas."""
    at, stop = cut.start + 1, cut.end - 1
    while at <= stop:
        end = text.rfind(b",", at, at + PIECE_BYTES) if at + PIECE_BYTES < stop else stop
        end = text.find(b",", at, stop) if end < 0 else end
        end = stop if end < 0 else end
        yield text[at:end]
        at = end + 1


def _rows(text: bytes, cut: _Cut, rank: int) -> Iterator[bytes]:
    """The list of lists in pieces, parted behind the lists of its first dimension."""
    between = re.compile(rb"\]\s*" * (rank - 1) + rb"(,)")
    at, stop = cut.start + 1, cut.end - 1
    while at <= stop:
        found = between.search(text, min(at + PIECE_BYTES, stop), stop)
        end = stop if found is None else found.start(1)
        yield text[at:end]
        at = end + 1


def _values(piece: bytes) -> list[Any]:
    try:
        values: list[Any] = orjson.loads(b"[%b]" % piece)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(
            f"data is not valid JSON: {error.msg} near {short(piece[error.pos : error.pos + 20])}"
        ) from None
    if not values:
        raise InvalidRequest("data is not valid JSON: a value is missing between two commas")
    return values


def _too_many() -> BodyTooLarge:
    return BodyTooLarge(f"a request of more than {MAX_TENSORS} inputs or outputs is not served")


@contextmanager
def _uncollected() -> Iterator[None]:
    """Reading JSON makes many objects and no garbage: looking for it took most of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
