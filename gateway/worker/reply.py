"""The reply to a prediction, and its encoding."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.backends.batch import Answer
from gateway.protocol.classification import classify
from gateway.protocol.encode import encode_json, encode_response, json_output, parted
from gateway.protocol.fragments import outputs_json
from gateway.protocol.tensors import InferResponse, Tensor
from gateway.worker.call import Call

LONG_ELEMENTS: Final = 65_536  # elements of an answer, which take 3 ms to encode


@dataclass(slots=True)
class Reply:
    """The answer to `call`, ready to be sent. `json_length`: bytes of JSON in `body` if raw tensors follow, else None.

    `queued_ns`: how long it waited for its batch; `rows`: of the batch. `predicted`: the predicted class, below 0 if
    there is not exactly one; `predictions`: what was predicted for each row, by output, unless that class says it all.
    """

    call: Call
    body: bytes
    json_length: int | None
    predicted: int
    duration_ns: int
    queued_ns: int
    rows: int
    predictions: Mapping[str, Sequence[Any]] | None = None


def encoded_body(
    call: Call, answer: Answer, parameters: dict[str, str], most_classes: int
) -> tuple[bytes, int | None, bool]:
    """Encode the answer in the form that the request asks for. Raises InvalidRequest if that is impossible.

    Returns the body, the length of its JSON if raw tensors follow it (else None), and whether the body holds the whole
    answer and is known to contain neither NaN nor infinity.
    """
    version, request = call.version, call.request
    if answer.written is not None:
        written, tail, finite = answer.written
        text, _ = encode_json(version.name, version.text, request.id, parameters, orjson.Fragment(written))
        return (text + tail, len(text), finite) if tail else (text, None, finite)
    if request.outputs is not None or request.binary_output:
        encoded = encode_response(_response(call, answer, parameters, most_classes))
        return encoded.body, encoded.json_length, False
    outputs = [
        json_output(name, datatype, result, more)
        for (name, datatype, more), result in zip(version.json_outputs, answer, strict=True)
        if result is not None
    ]
    text, finite = encode_json(version.name, version.text, request.id, parameters, outputs)
    return text, None, finite


def is_long_answer(answer: Answer) -> bool:
    """Whether encoding the answer takes so long that a thread should do it (see `write`)."""
    if answer.written is not None:
        return False
    return sum(result.size for result in answer if result is not None) > LONG_ELEMENTS


def write(call: Call, answer: Answer, most_classes: int) -> None:
    """Do the slow part of `encoded_body` in advance, on a thread. Raises InvalidRequest as that does."""
    outputs, tail = parted(_response(call, answer, {}, most_classes))
    text, finite = outputs_json(outputs)
    answer.written = text, b"".join(tail), finite and call.request.outputs is None and not tail


def _response(call: Call, answer: Answer, parameters: dict[str, str], most_classes: int) -> InferResponse:
    """The response to a request that asks for anything else than all outputs as JSON."""
    version, request = call.version, call.request
    outputs = []
    for position in version.signature.positions(request.outputs):
        result = answer[position]
        if result is not None:
            spec = version.signature.outputs[position]
            outputs.append(Tensor(spec.name, spec.datatype, result, version.output_parameters[position]))
    if request.outputs is None:
        binary = frozenset(tensor.name for tensor in outputs) if request.binary_output else frozenset()
    else:
        wanted = {output.name: output for output in request.outputs}
        outputs = [
            classify(tensor, classes, version.labels.get(tensor.name, ()), most_classes)
            if (classes := wanted[tensor.name].classification)
            else tensor
            for tensor in outputs
        ]
        default = request.binary_output
        binary = frozenset(
            name for name, output in wanted.items() if (default if output.binary is None else output.binary)
        )
    return InferResponse(version.name, version.text, outputs, request.id, parameters, binary)
