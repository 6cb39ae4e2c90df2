"""Request bodies of the Open Inference Protocol V2, with its binary tensor extension: bytes to InferRequest.

A body with binary tensors is the JSON, then the raw tensors in the order in which the JSON names them
(KServe, "Open Inference Protocol: REST"; Triton, "Binary tensor data extension").
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson

from gateway.errors import InvalidRequest
from gateway.protocol.elements import count_of, datatype_of, from_bytes, from_json, shaped
from gateway.tensors import (
    DATATYPES,
    NO_PARAMETERS,
    Array,
    InferRequest,
    Parameters,
    RequestedOutput,
    Tensor,
    TensorSpec,
)

_UNSERVED: Final = {
    "sequence_id": "sequences are not served: a request stands alone",
    "shared_memory_region": "the shared memory extension is not served: send the data in the body",
}


class _Tail:
    """The raw bytes behind the JSON, handed out in order."""

    __slots__ = ("offset", "raw")

    def __init__(self, raw: memoryview) -> None:
        self.raw = raw
        self.offset = 0

    def take(self, size: object, where: str) -> memoryview:
        if type(size) is not int or size < 0:
            raise InvalidRequest(f"{where}: binary_data_size must be an integer of 0 or more, got {size!r}")
        left = len(self.raw) - self.offset
        if size > left:
            raise InvalidRequest(f"{where}: binary_data_size is {size}, but only {left} bytes are left in the body")
        self.offset += size
        return self.raw[self.offset - size : self.offset]


def decode_request(body: bytes, json_length: int | None = None) -> InferRequest:
    """The request in `body`, whose first `json_length` bytes are JSON (None: all of it).

    Raises InvalidRequest that names the tensor and the remedy.
    """
    if json_length is None:
        return _request(_document(body), None)
    if not 0 <= json_length <= len(body):
        raise InvalidRequest(
            f"Inference-Header-Content-Length must be the JSON's length; it says {json_length} of {len(body)} bytes"
        )
    view = memoryview(body)
    tail = _Tail(view[json_length:])
    request = _request(_document(view[:json_length]), tail)
    if tail.offset != len(tail.raw):
        unread = len(tail.raw) - tail.offset
        raise InvalidRequest(f"{unread} bytes behind the JSON belong to no tensor; every binary_data_size must add up")
    return request


def decode_raw(body: bytes, spec: TensorSpec) -> InferRequest:
    """A body that holds only the elements of the model's one input (Inference-Header-Content-Length: 0, or raw media).

    For BYTES the body is one element. Else one dimension of `spec` may be free and follows from the length.
    """
    where = f"input '{spec.name}'"
    if spec.datatype == "BYTES":
        element = np.empty(1, object)
        element[0] = body
        if any(size not in (-1, 1) for size in spec.shape):
            raise InvalidRequest(f"{where}: a raw body is one element, which shape {list(spec.shape)} does not take")
        return InferRequest([Tensor(spec.name, spec.datatype, element.reshape([1] * len(spec.shape)))])
    datatype = DATATYPES[spec.datatype]
    return InferRequest([Tensor(spec.name, spec.datatype, _raw_elements(body, spec, datatype.dtype, where))])


def _document(text: bytes | memoryview) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise InvalidRequest(f"the body is not valid JSON: {error}{_binary_hint(text)}") from None
    if type(document) is not dict:
        raise InvalidRequest('the body must be a JSON object: {"inputs": [...]}')
    return document


def _binary_hint(text: bytes | memoryview) -> str:
    binary = b"binary_data_size" in bytes(text[:65536])
    return "; a body with binary tensors needs the header Inference-Header-Content-Length" if binary else ""


def _request(document: dict[str, Any], tail: _Tail | None) -> InferRequest:
    items = document.get("inputs")
    if type(items) is not list or not items:
        raise InvalidRequest('"inputs" must be a list of at least one tensor')
    inputs = [_input(item, index, tail) for index, item in enumerate(items)]
    if len(inputs) > 1:
        _refuse_duplicates("inputs", [tensor.name for tensor in inputs])
    parameters = _parameters(document, "the request")
    request = InferRequest(inputs, None, _identifier(document), parameters)
    if parameters:
        request.binary_output = _flag(parameters, "binary_data_output", "the request") or False
    if document.get("outputs"):
        request.outputs = _requested_outputs(document["outputs"])
    return request


def _input(item: Any, index: int, tail: _Tail | None) -> Tensor:
    where = f"inputs[{index}]"
    if type(item) is not dict:
        raise InvalidRequest(f"{where}: must be an object with name, shape, datatype and data")
    name = item.get("name")
    if type(name) is not str or not name:
        raise InvalidRequest(f"{where}: name must be a non-empty string")
    where = f"{where} '{name}'"
    datatype = datatype_of(item.get("datatype"), where)
    shape: Any = item.get("shape")
    count = count_of(shape, where)
    parameters = _parameters(item, where)
    if "data" in item:
        if "binary_data_size" in parameters:
            raise InvalidRequest(f"{where}: has both data and binary_data_size; send one of them")
        return Tensor(name, datatype.name, from_json(item["data"], datatype, shape, count, where), parameters)
    if "binary_data_size" not in parameters:
        raise InvalidRequest(f"{where}: has neither data nor parameters.binary_data_size")
    if tail is None:
        raise InvalidRequest(f"{where}: binary_data_size needs the header Inference-Header-Content-Length")
    raw = tail.take(parameters["binary_data_size"], where)
    return Tensor(name, datatype.name, from_bytes(raw, datatype, shape, count, where), parameters)


def _identifier(document: dict[str, Any]) -> str | None:
    identifier = document.get("id")
    if identifier is not None and type(identifier) is not str:
        raise InvalidRequest(f'"id" must be a string, got {type(identifier).__name__}')
    return identifier


def _parameters(item: Mapping[str, Any], where: str) -> Parameters:
    parameters = item.get("parameters")
    if parameters is None:
        return NO_PARAMETERS
    if type(parameters) is not dict:
        raise InvalidRequest(f"{where}: parameters must be an object")
    for name, reason in _UNSERVED.items():
        if parameters.get(name):
            raise InvalidRequest(f"{where}: parameters.{name}: {reason}")
    return parameters


def _flag(parameters: Parameters, name: str, where: str) -> bool | None:
    value = parameters.get(name)
    if value is not None and type(value) is not bool:
        raise InvalidRequest(f"{where}: parameters.{name} must be true or false")
    return value


def _requested_outputs(items: Any) -> Sequence[RequestedOutput]:
    if type(items) is not list:
        raise InvalidRequest('"outputs" must be a list')
    outputs = [_requested_output(item, f"outputs[{index}]") for index, item in enumerate(items)]
    _refuse_duplicates("outputs", [output.name for output in outputs])
    return outputs


def _requested_output(item: Any, where: str) -> RequestedOutput:
    if type(item) is not dict or type(item.get("name")) is not str:
        raise InvalidRequest(f"{where}: must be an object with a name")
    where = f"{where} '{item['name']}'"
    parameters = _parameters(item, where)
    classification = parameters.get("classification", 0)
    if type(classification) is not int or classification < 0:
        raise InvalidRequest(f"{where}: parameters.classification must be the number of classes wanted")
    binary = _flag(parameters, "binary_data", where)
    return RequestedOutput(item["name"], binary, classification)


def _refuse_duplicates(what: str, names: list[str]) -> None:
    for name in set(names):
        if names.count(name) > 1:
            raise InvalidRequest(f"{what}: '{name}' is listed {names.count(name)} times; name each tensor once")


def _raw_elements(body: bytes, spec: TensorSpec, dtype: np.dtype[Any], where: str) -> Array:
    free = spec.shape.count(-1)
    fixed = int(np.prod([size for size in spec.shape if size != -1], dtype=object)) * dtype.itemsize
    if free > 1:
        raise InvalidRequest(
            f"{where}: shape {list(spec.shape)} has {free} free dimensions; a raw body settles only one"
        )
    if (len(body) != fixed) if not free else (not fixed or len(body) % fixed):
        unit = "a multiple of " if free else ""
        raise InvalidRequest(f"{where}: shape {list(spec.shape)} needs {unit}{fixed} bytes, the body has {len(body)}")
    sizes = [len(body) // fixed if size == -1 else size for size in spec.shape]
    return shaped(np.frombuffer(body, dtype), sizes, where)
