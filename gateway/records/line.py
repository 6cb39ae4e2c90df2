"""Builds the lines of the record files (contract.md, "Records") as bytes, fast enough for the request path.

Request and response bodies are inserted as they are, not parsed and encoded again. A line break in JSON can only stand
between tokens, so replacing it by a space does not change the value.
"""

import hashlib
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
import pybase64

from gateway.protocol.tensors import Array

NULL: Final = b"null"
MOST_VALUE_BYTES: Final = 25  # of a number and its comma
LF: Final = ord("\n")
CR: Final = ord("\r")
MAX_ID_LENGTH: Final = 128  # characters of a request's id that are recorded


def constant_part(
    *,
    model: str,
    sha256: str,
    salt: str,
    generation: int,
    version: int,
    variant: str,
    route: str,
    weight_ppm: int,
    propensity: float,
) -> bytes:
    """The fields that all predictions of a version, variant and route share at one weight."""
    fields = {
        "model": model,
        "version": version,
        "model_sha256": sha256 or None,  # another server runs it
        "variant": variant,
        "route": route,
        "salt": salt,
        "generation": generation,
    }
    chance = b',"propensity":%.6f,"weight_ppm":%d' % (propensity, weight_ppm)
    return orjson.dumps(fields)[1:-1] + chance


def origin_part(trace_id: str | None, request_id: str | None, delegated_by: str | None = None) -> bytes:
    """The ids that other systems know the prediction by, and the customer whose key sent it for another one; follows
    the constant part. `trace_id` is hexadecimal.
    """
    part = b"" if trace_id is None else b',"trace_id":"%b"' % trace_id.encode()
    if request_id:
        part += b',"request_id":%b' % orjson.dumps(request_id[:MAX_ID_LENGTH])
    return part if delegated_by is None else b'%b,"delegated_by":%b' % (part, orjson.dumps(delegated_by))


def request_part(body: bytes, json_length: int | None, media: str | None, inputs: str) -> bytes:
    """The value of the key "request", and further request_ fields. `inputs`: records.inputs (full, hash or none).

    `json_length`: bytes of JSON in `body` if binary tensors follow; `media`: the content type of a raw body.
    """
    if inputs == "hash":
        return b'null,"request_sha256":"%b"' % hashlib.sha256(body).hexdigest().encode()
    if inputs == "none":
        return NULL
    if media is not None:
        return b'null,"request_binary":"%b","request_media":"%b"' % (base64_of(body), media.encode())
    return one_line(body) if json_length is None else _with_binary(b"request", body, json_length)


def response_part(body: bytes, json_length: int | None) -> bytes:
    """The value of the key "response", as it was sent. The gateway's own JSON has no line breaks."""
    return body if json_length is None else _with_binary(b"response", body, json_length)


def error_part(error: str) -> bytes:
    """The value of the key "response" if there is none, and the error."""
    return b'null,"error":%b' % orjson.dumps(error.encode(errors="replace").decode())


def _with_binary(name: bytes, body: bytes, json_length: int) -> bytes:
    raw = base64_of(memoryview(body)[json_length:])
    return b'%b,"%b_binary":"%b"' % (one_line(body[:json_length]), name, raw)


def one_line(text: bytes) -> bytes:
    """The JSON with its line breaks replaced by spaces."""
    if LF in text or CR in text:  # integers: a search for a bytes object takes eight times as long
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text


def base64_of(raw: bytes | memoryview) -> bytes:
    """Encode as standard Base64."""
    encoded: bytes = pybase64.b64encode(raw)  # twenty times as fast as binascii
    return encoded


PREDICTION: Final = (
    b'{"kind":"prediction","prediction_id":"%b","time_ns":%b,%b,"bucket":%b,"customer":%b,"modality":%b,%b'
    b'"latency_us":%d,"queue_us":%d,"batch":%d,"predicted":%b,"request":'
)  # filled in by gateway/worker/record_lines.py; the request follows, RESPONSE, the response and END
REQUEST: Final = b',"request":'
RESPONSE: Final = b',"response":'
END: Final = b"}\n"


def predictions_part(predictions: Mapping[str, Sequence[Any] | Array]) -> bytes:
    """What was predicted for each row, by output; comes before REQUEST, where `predicted` does not say it all."""
    return b',"predictions":' + orjson.dumps(predictions, option=orjson.OPT_SERIALIZE_NUMPY)


def predictions_bytes(predictions: Mapping[str, Sequence[Any] | Array]) -> int:
    """How many bytes `predictions_part` takes for the rows, at most."""
    values = 0
    for rows in predictions.values():
        values += len(rows)
        if not isinstance(rows, np.ndarray):
            values += sum(len(row) for row in rows if type(row) is tuple)
    return values * MOST_VALUE_BYTES


def outcome_part(outcome: str, rescued_from: int | None = None, reason: str = "") -> bytes:
    """The outcome; if stable rescued the request, also the version that failed and why."""
    if rescued_from is None:
        return b'"outcome":"%b","rescued_from":null,"rescue_reason":null,' % outcome.encode()
    return b'"outcome":"%b","rescued_from":%d,"rescue_reason":"%b",' % (outcome.encode(), rescued_from, reason.encode())


def mirror_line(
    *,
    prediction_id: bytes,
    model: str,
    version: int,
    sha256: str,
    agreement: bool | None,
    distance: float | None,
    predicted: int | float | None,
    response: bytes,
) -> bytes:
    """A line of the stream `mirrors`: the candidate's answer to a copy of a request that stable answered.

    `prediction_id`: that of stable's prediction. `agreement`: None if it could not be found out. `predicted`: the class
    of a single row, or the number of a regression, which is a float. `response`: JSON.
    """
    fields = {
        "kind": "mirror",
        "prediction_id": prediction_id.decode(),
        "time_ns": time.time_ns(),
        "model": model,
        "version": version,
        "model_sha256": sha256 or None,  # another server runs it
        "agreement": agreement,
        "distance": distance,
        "predicted": predicted,
    }
    return b'%b,"response":%b}\n' % (orjson.dumps(fields)[:-1], response)


def line_of(fields: Mapping[str, Any]) -> bytes:
    """A line of any other kind, outside of the request path."""
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
