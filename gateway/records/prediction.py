"""One recorded prediction: customer, routing decision, request and response."""

import base64
from collections.abc import Callable, Sequence
from dataclasses import MISSING, dataclass, fields
from typing import Any, Final, get_args, get_origin

from gateway.errors import Outcome
from gateway.protocol.decode import decode_document, decode_outputs, decode_raw
from gateway.protocol.tensors import InferRequest, Tensor, TensorSpec

LARGEST_INTEGER: Final = 2**63 - 1  # exported data sets have 64-bit integers
RawInput = Callable[[int], TensorSpec]  # from a model version to the input that its raw bodies hold


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """A line of the stream `predictions`. `request` and `response` are V2 JSON; `*_binary` are the bytes that followed
    the JSON, in Base64. `predictions`: what was predicted for each row, by output: class indices, lists of label
    indices, or numbers; None if `predicted`, the class of a single row, says it all.

    `request` is None if inputs are not recorded, or if the body was raw: then `request_binary` is the whole body.
    """

    prediction_id: str
    time_ns: int
    model: str
    version: int
    variant: str
    outcome: str
    model_sha256: str | None = None
    route: str | None = None
    propensity: float | None = None
    weight_ppm: int | None = None
    bucket: int | None = None
    salt: str | None = None
    generation: int | None = None
    customer: str | None = None
    delegated_by: str | None = None
    modality: str | None = None
    rescued_from: int | None = None
    rescue_reason: str | None = None
    latency_us: int | None = None
    queue_us: int | None = None
    batch: int | None = None
    predicted: int | None = None
    predictions: dict[str, Any] | None = None
    error: str | None = None
    trace_id: str | None = None
    request_id: str | None = None
    request_sha256: str | None = None
    request_media: str | None = None
    request: dict[str, Any] | None = None
    request_binary: str | None = None
    response: dict[str, Any] | None = None
    response_binary: str | None = None

    @property
    def ok(self) -> bool:
        """Whether a version answered the request."""
        return self.outcome == Outcome.OK

    @property
    def has_request(self) -> bool:
        """Whether the request's body is recorded."""
        return self.request is not None or self.request_binary is not None

    def decoded(self, raw_input: RawInput) -> InferRequest:
        """Decode the recorded request; `raw_input` is called for a raw body. Raises InvalidRequest."""
        raw = _bytes(self.request_binary)
        if self.request is not None:
            return decode_document(self.request, raw, recorded=True)
        return decode_raw(raw or b"", raw_input(self.version))

    def outputs(self) -> Sequence[Tensor]:
        """Decode the recorded outputs; empty if there is no response. Raises InvalidRequest."""
        return () if self.response is None else decode_outputs(self.response, _bytes(self.response_binary))


def _kinds(annotation: Any) -> frozenset[type]:
    """The Python types of JSON values that a field with this annotation accepts."""
    kinds = {get_origin(kind) or kind for kind in get_args(annotation) or (annotation,)}
    return frozenset(kinds | {int} if float in kinds else kinds)


_FIELDS: Final = {field.name: _kinds(field.type) for field in fields(Prediction)}
_REQUIRED: Final = frozenset(field.name for field in fields(Prediction) if field.default is MISSING)


def prediction_of(record: dict[str, Any]) -> Prediction | None:
    """Convert a line of `predictions` to a Prediction; None if a field is missing or a value has a wrong type.

    Unknown fields, which a later gateway may have added, are ignored.
    """
    known = {name: value for name, value in record.items() if name in _FIELDS}
    for name, value in known.items():
        if type(value) not in _FIELDS[name] or (
            type(value) is int and not -LARGEST_INTEGER <= value <= LARGEST_INTEGER
        ):
            return None
    return Prediction(**known) if known.keys() >= _REQUIRED else None


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else base64.b64decode(text)
