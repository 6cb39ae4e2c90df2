"""Decodes request bodies of the Open Inference Protocol V2, with its binary tensor extension, to InferRequest.

A body with binary tensors is the JSON, followed by the raw tensors in the order in which the JSON names them
(KServe, "Open Inference Protocol: REST"; Triton, "Binary tensor data extension").
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from gateway.errors import InvalidRequest
from gateway.protocol.depth import LISTS, TENSOR, check_members
from gateway.protocol.elements import array_of, datatype_of, from_base64, from_bytes, from_json, short
from gateway.protocol.json_constants import parse
from gateway.protocol.json_text import NotJson
from gateway.protocol.tensors import (
    DATATYPES,
    NO_PARAMETERS,
    Array,
    Datatype,
    InferRequest,
    Parameters,
    RequestedOutput,
    Tensor,
    TensorSpec,
)

GZIP_MAGIC: Final = b"\x1f\x8b"  # RFC 1952, 2.3.1
BASE64: Final = "base64"
PLAIN_INPUT_KEYS: Final = 4  # members of an input without parameters: name, shape, datatype and data
_UNSERVED: Final = {
    "sequence_id": "sequences are not supported: requests are independent of each other",
    "shared_memory_region": "the shared memory extension is not supported: send the data in the body",
}


class _Tail:
    """The raw tensors that follow the JSON; `take` returns the next one."""

    __slots__ = ("offset", "raw")

    def __init__(self, raw: memoryview) -> None:
        self.raw = raw
        self.offset = 0

    def take(self, size: object) -> memoryview:
        if type(size) is not int or size < 0:
            raise InvalidRequest(f"binary_data_size must be an integer of 0 or more, got {short(size)}")
        left = len(self.raw) - self.offset
        if size > left:
            raise InvalidRequest(f"binary_data_size is {size}, but only {left} bytes are left in the body")
        self.offset += size
        return self.raw[self.offset - size : self.offset]


def decode_request(body: bytes, json_length: int | None = None) -> InferRequest:
    """Decode `body`, whose first `json_length` bytes are JSON (None: all of it).

    Raises InvalidRequest that names the tensor and the remedy.
    """
    try:
        return decode_strict(body, json_length)
    except NotJson as error:
        return restate_request(error, body, json_length)[0]


def decode_strict(body: bytes, json_length: int | None = None) -> InferRequest:
    """The same, but NaN or Infinity as a JSON number raises NotJson as well."""
    if json_length is None:
        return _request(_document(body), None, False)
    if not 0 <= json_length <= len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length must be the JSON's length; it says {json_length} of {len(body)} bytes"
        )
    view = memoryview(body)
    return decode_document(_document(view[:json_length]), view[json_length:])


def restate_request(error: NotJson, body: bytes, json_length: int | None) -> tuple[InferRequest, bytes, int | None]:
    """Decode a body that holds NaN or Infinity as JSON numbers, which `decode_strict` refused with `error`.

    Returns the request, the body rewritten as valid JSON, and its JSON length. Raises `error` if the JSON is invalid
    for another reason.
    """
    parsed = parse(error.error)
    if parsed is None:
        raise error
    document, text = parsed
    raw = None if json_length is None else memoryview(body)[json_length:]
    request = decode_document(document, raw)
    return (request, text, None) if raw is None else (request, b"".join((text, raw)), len(text))


def decode_document(document: Any, raw: bytes | memoryview | None, *, recorded: bool = False) -> InferRequest:
    """Decode a request whose JSON is already parsed. `raw`: the bytes after the JSON; None if there may be none.

    `recorded`: it is read from the records; an older gateway may have accepted deeper nesting, so it is not checked.
    """
    tail = None if raw is None else _Tail(memoryview(raw))
    request = _request(document, tail, recorded)
    _refuse_rest(tail)
    return request


def decode_outputs(document: dict[str, Any], raw: bytes | memoryview | None) -> list[Tensor]:
    """Decode the outputs of a response, parsed already; `raw`: the bytes after its JSON. Raises InvalidRequest."""
    tail = None if raw is None else _Tail(memoryview(raw))
    outputs = _inputs(document.get("outputs") or [], tail, True)
    _refuse_rest(tail)
    return outputs


def _refuse_rest(tail: _Tail | None) -> None:
    if tail is not None and tail.offset != len(tail.raw):
        unread = len(tail.raw) - tail.offset
        raise InvalidRequest(f"{unread} bytes after the JSON belong to no tensor; check each binary_data_size")


def decode_raw(body: bytes, spec: TensorSpec) -> InferRequest:
    """Decode a body that holds only the elements of the model's one input (Inference-Header-Content-Length: 0, or raw
    media such as image/png).

    For BYTES the body is one element. For other datatypes one dimension of `spec` may be free; the length determines
    it. Raises InvalidRequest.
    """
    try:
        array = _raw_element(body, spec) if spec.datatype == "BYTES" else _raw_elements(body, spec)
    except InvalidRequest as error:
        raise InvalidRequest(f"input '{spec.name}': {error}") from None
    return InferRequest([Tensor(spec.name, spec.datatype, array)])


def _document(text: bytes | memoryview) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotJson(error, _binary_hint(text)) from None


def _binary_hint(text: bytes | memoryview) -> str:
    if bytes(text[:2]) == GZIP_MAGIC:
        return "; it is gzip: a compressed body needs the header content-encoding: gzip"
    binary = b"binary_data_size" in bytes(text[:65536])
    return "; a body with binary tensors needs the header Inference-Header-Content-Length" if binary else ""


def _request(document: Any, tail: _Tail | None, recorded: bool) -> InferRequest:
    if type(document) is not dict:
        raise InvalidRequest('the body must be a JSON object: {"inputs": [...]}')
    items = document.get("inputs")
    if "inputs" not in document:
        raise InvalidRequest('"inputs" is missing: the request must be {"inputs": [...]}, a list of tensors')
    if type(items) is not list or not items:
        raise InvalidRequest('"inputs" must be a list of at least one tensor')
    if len(document) == 1:
        return InferRequest(_inputs(items, tail, recorded), None, None, NO_PARAMETERS)
    identifier = document.get("id")
    if identifier is not None and type(identifier) is not str:
        raise InvalidRequest(f'"id" must be a string, got {short(identifier)}')
    request = InferRequest(_inputs(items, tail, recorded), None, identifier, NO_PARAMETERS)
    if not recorded:
        check_members(document, LISTS)
    if "parameters" in document:
        request.parameters = _parameters(document)
        if request.parameters.get("content_type") == BASE64:
            raise InvalidRequest("content_type base64 must be in the parameters of an input, not of the request")
        request.binary_output = _flag(request.parameters, "binary_data_output") or False
    if "outputs" in document:
        request.outputs = _requested_outputs(document["outputs"], recorded) or None
    return request


def _inputs(items: list[Any], tail: _Tail | None, recorded: bool) -> list[Tensor]:
    inputs: list[Tensor] = []
    for item in items:
        try:
            inputs.append(_input(item, tail, recorded))
        except InvalidRequest as error:
            raise InvalidRequest(f"{_place('inputs', items, len(inputs))}: {error}") from None
    if len(inputs) > 1:
        _refuse_duplicates("inputs", [tensor.name for tensor in inputs])
    return inputs


def _place(what: str, items: list[Any], index: int) -> str:
    """The tensor's place in the request for an error message, such as: inputs[0] 'image'."""
    item = items[index]
    name = f" '{item['name']:.60}'" if type(item) is dict and type(item.get("name")) is str else ""
    return f"{what}[{index}]{name}"


def _input(item: Any, tail: _Tail | None, recorded: bool) -> Tensor:
    if type(item) is not dict:
        raise InvalidRequest("must be an object with name, shape, datatype and data")
    name = item.get("name")
    if type(name) is not str or not name:
        raise InvalidRequest("name must be a non-empty string")
    datatype = datatype_of(item.get("datatype"))
    shape: Any = item.get("shape")
    if "data" in item and len(item) == PLAIN_INPUT_KEYS:
        return Tensor(name, datatype.name, from_json(item["data"], datatype, shape), NO_PARAMETERS)
    parameters = _parameters(item) if "parameters" in item else NO_PARAMETERS
    array = _data(item, parameters, datatype, shape, tail)
    if parameters.get("content_type") == BASE64:  # MLServer's clients declare an input's encoding this way
        array = from_base64(array, datatype)
    if not recorded:
        check_members(item, TENSOR)
    return Tensor(name, datatype.name, array, parameters)


def _data(
    item: Mapping[str, Any], parameters: Parameters, datatype: Datatype, shape: list[int], tail: _Tail | None
) -> Array:
    if "data" in item:
        if "binary_data_size" in parameters:
            raise InvalidRequest("has both data and binary_data_size; send one of them")
        return from_json(item["data"], datatype, shape)
    if "binary_data_size" not in parameters:
        raise InvalidRequest("has neither data nor parameters.binary_data_size")
    if tail is None:
        raise InvalidRequest("binary_data_size needs the header Inference-Header-Content-Length")
    return from_bytes(tail.take(parameters["binary_data_size"]), datatype, shape)


def _parameters(item: Mapping[str, Any]) -> Parameters:
    parameters = item.get("parameters")
    if parameters is None:
        return NO_PARAMETERS
    if type(parameters) is not dict:
        raise InvalidRequest("parameters must be an object")
    for name, reason in _UNSERVED.items():
        if parameters.get(name):
            raise InvalidRequest(f"parameters.{name}: {reason}")
    return parameters


def _flag(parameters: Parameters, name: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and type(value) is not bool:
        raise InvalidRequest(f"parameters.{name} must be true or false")
    return value


def _requested_outputs(items: Any, recorded: bool) -> Sequence[RequestedOutput]:
    if items is None:
        return []
    if type(items) is not list:
        raise InvalidRequest('"outputs" must be a list')
    outputs: list[RequestedOutput] = []
    for item in items:
        try:
            outputs.append(_requested_output(item, recorded))
        except InvalidRequest as error:
            raise InvalidRequest(f"{_place('outputs', items, len(outputs))}: {error}") from None
    _refuse_duplicates("outputs", [output.name for output in outputs])
    return outputs


def _requested_output(item: Any, recorded: bool) -> RequestedOutput:
    if type(item) is not dict or type(item.get("name")) is not str:
        raise InvalidRequest("must be an object with a name")
    if not recorded:
        check_members(item)
    parameters = _parameters(item)
    classification = parameters.get("classification", 0)
    if type(classification) is not int or classification < 0:
        raise InvalidRequest("parameters.classification must be the number of classes, 0 or more")
    return RequestedOutput(item["name"], _flag(parameters, "binary_data"), classification)


def _refuse_duplicates(what: str, names: list[str]) -> None:
    if len(set(names)) < len(names):
        name, count = Counter(names).most_common(1)[0]
        raise InvalidRequest(f"{what}: '{name:.60}' is listed {count} times; name each tensor once")


def _raw_element(body: bytes, spec: TensorSpec) -> Array:
    if any(size not in (-1, 1) for size in spec.shape):
        raise InvalidRequest(f"a raw body is one element, which does not fit shape {list(spec.shape)}")
    element = np.empty([1] * len(spec.shape), object)
    element.fill(body)
    return element


def _raw_elements(body: bytes, spec: TensorSpec) -> Array:
    datatype = DATATYPES[spec.datatype]
    free = spec.shape.count(-1)
    fixed = math.prod(size for size in spec.shape if size != -1) * datatype.dtype.itemsize
    if free > 1:
        raise InvalidRequest(f"shape {list(spec.shape)} has {free} free dimensions; a raw body can have only one")
    if (len(body) != fixed) if not free else (not fixed or len(body) % fixed):
        unit = "a multiple of " if free else ""
        raise InvalidRequest(f"shape {list(spec.shape)} needs {unit}{fixed} bytes, the body has {len(body)}")
    return array_of(body, datatype, [len(body) // fixed if size == -1 else size for size in spec.shape])
