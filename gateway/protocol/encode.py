"""Encodes InferResponse to response bodies of the Open Inference Protocol V2, with its binary tensor extension."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import orjson

from gateway.errors import InvalidRequest
from gateway.protocol.elements import to_bytes, to_json
from gateway.protocol.tensors import Array, InferResponse, Parameters, Tensor

_NUMPY: Final = orjson.OPT_SERIALIZE_NUMPY


@dataclass(slots=True)
class EncodedResponse:
    """A response body. `json_length`: bytes of its JSON if raw tensors follow it, else None."""

    body: bytes
    json_length: int | None


def parted(response: InferResponse) -> tuple[list[dict[str, Any]], list[bytes]]:
    """Return the outputs as JSON objects, and the raw bytes to append for those that `response.binary` names."""
    tail: list[bytes] = []
    outputs = [
        _binary_output(tensor, tail)
        if tensor.name in response.binary
        else json_output(tensor.name, tensor.datatype, tensor.data, tensor.parameters)
        for tensor in response.outputs
    ]
    return outputs, tail


def encode_response(response: InferResponse) -> EncodedResponse:
    """Encode a response; the outputs that `response.binary` names follow the JSON as raw bytes."""
    outputs, tail = parted(response)
    text, _ = encode_json(response.model_name, response.model_version, response.id, response.parameters, outputs)
    return EncodedResponse(b"".join((text, *tail)), len(text)) if tail else EncodedResponse(text, None)


def encode_json(
    model_name: str,
    model_version: str,
    id: str | None,
    parameters: Mapping[str, str],
    outputs: list[dict[str, Any]] | orjson.Fragment,
) -> tuple[bytes, bool]:
    """Encode the JSON of a response; `outputs` are from `json_output`, or a Fragment, which is inserted unchanged.

    Returns the JSON and whether all numbers are known to be finite; the latter is meaningless (True) for a Fragment.
    """
    document: dict[str, Any] = {"model_name": model_name, "model_version": model_version}
    if id is not None:
        document["id"] = id
    if parameters:
        document["parameters"] = parameters
    document["outputs"] = outputs
    text = orjson.dumps(document, option=_NUMPY)
    if b"null" not in text or isinstance(outputs, orjson.Fragment):
        return text, True
    # orjson writes NaN and infinity as null; "null" inside a string only costs a second encoding
    document["outputs"] = [_spelt_out(output) for output in outputs]
    return orjson.dumps(document), False


def json_output(name: str, datatype: str, array: Array, parameters: Parameters) -> dict[str, Any]:
    """Return an output as a JSON object with its elements; orjson encodes the numpy array."""
    output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": array.shape}
    if parameters:
        output["parameters"] = parameters
    output["data"] = _texts(name, array) if datatype == "BYTES" else array.ravel()
    return output


def _binary_output(tensor: Tensor, tail: list[bytes]) -> dict[str, Any]:
    raw = to_bytes(tensor.data, tensor.datatype)
    tail.append(raw)
    parameters = {**tensor.parameters, "binary_data_size": len(raw)}
    return {"name": tensor.name, "datatype": tensor.datatype, "shape": tensor.data.shape, "parameters": parameters}


def _texts(name: str, array: Array) -> list[Any]:
    try:
        return to_json(array, "BYTES")
    except InvalidRequest as error:
        raise InvalidRequest(f"output '{name}': {error}") from None


def _spelt_out(output: dict[str, Any]) -> dict[str, Any]:
    data = output.get("data")
    if isinstance(data, np.ndarray):
        output["data"] = to_json(data, output["datatype"])
    return output
