"""Response bodies of the Open Inference Protocol V2, with its binary tensor extension: InferResponse to bytes."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from gateway.errors import InvalidRequest
from gateway.protocol.elements import to_bytes, to_json
from gateway.tensors import InferResponse, Tensor

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


@dataclass(frozen=True, slots=True)
class EncodedResponse:
    """A response body. `json_length` is the length of its JSON where raw tensors follow it, else None."""

    body: bytes
    json_length: int | None


def encode_response(response: InferResponse) -> EncodedResponse:
    """The V2 body of a response; the outputs that `response.binary` names follow the JSON as raw bytes."""
    tail: list[bytes] = []
    document: dict[str, Any] = {"model_name": response.model_name, "model_version": response.model_version}
    if response.id is not None:
        document["id"] = response.id
    if response.parameters:
        document["parameters"] = response.parameters
    document["outputs"] = [_output(tensor, response.binary, tail) for tensor in response.outputs]
    text = orjson.dumps(document, option=_NUMPY)
    if b"null" in text:  # orjson writes NaN and infinity as null; the word may also stand in a string, which is no harm
        document["outputs"] = [_spelt_out(output) for output in document["outputs"]]
        text = orjson.dumps(document)
    if not tail:
        return EncodedResponse(text, None)
    return EncodedResponse(b"".join((text, *tail)), len(text))


def _output(tensor: Tensor, binary: frozenset[str], tail: list[bytes]) -> dict[str, Any]:
    array = tensor.data
    output: dict[str, Any] = {"name": tensor.name, "datatype": tensor.datatype, "shape": array.shape}
    if tensor.name in binary:
        raw = to_bytes(array, tensor.datatype)
        tail.append(raw)
        output["parameters"] = {**tensor.parameters, "binary_data_size": len(raw)}
        return output
    if tensor.parameters:
        output["parameters"] = tensor.parameters
    if tensor.datatype == "BYTES":
        output["data"] = _texts(tensor)
    else:
        output["data"] = array.ravel()
    return output


def _texts(tensor: Tensor) -> list[Any]:
    try:
        return to_json(tensor.data, "BYTES")
    except InvalidRequest as error:
        raise InvalidRequest(f"output '{tensor.name}': {error}") from None


def _spelt_out(output: dict[str, Any]) -> dict[str, Any]:
    data = output.get("data")
    if isinstance(data, np.ndarray):
        output["data"] = to_json(data, output["datatype"])
    return output
