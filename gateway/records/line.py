"""The lines of the record files (contract.md, "Records"): bytes, made where a prediction has its microseconds to spare.

What a client has sent and what it was sent are spliced in as they are, not parsed and written anew. A line break in
JSON can only stand between its tokens, so that a space in its place changes nothing.
"""

import hashlib
import time
from collections.abc import Mapping
from typing import Any, Final

import orjson
import pybase64

NULL: Final = b"null"
LF: Final = ord("\n")
CR: Final = ord("\r")
MAX_ID_LENGTH: Final = 128  # characters of a request's id that are kept


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
    """What all predictions of a version, variant and route have in common, at one weight."""
    fields = {
        "model": model,
        "version": version,
        "model_sha256": sha256,
        "variant": variant,
        "route": route,
        "salt": salt,
        "generation": generation,
    }
    chance = b',"propensity":%.6f,"weight_ppm":%d' % (propensity, weight_ppm)
    return orjson.dumps(fields)[1:-1] + chance


def origin_part(trace_id: str | None, request_id: str | None) -> bytes:
    """By what other systems know the prediction, to follow the constant part. `trace_id` is hexadecimal."""
    trace = b"" if trace_id is None else b',"trace_id":"%b"' % trace_id.encode()
    return trace if not request_id else b'%b,"request_id":%b' % (trace, orjson.dumps(request_id[:MAX_ID_LENGTH]))


def request_part(body: bytes, json_length: int | None, media: str | None, inputs: str) -> bytes:
    """The request, as what follows its key. `inputs` as in the settings: full, hash or none."""
    if inputs == "hash":
        return b'null,"request_sha256":"%b"' % hashlib.sha256(body).hexdigest().encode()
    if inputs == "none":
        return NULL
    if media is not None:
        return b'null,"request_binary":"%b","request_media":"%b"' % (base64_of(body), media.encode())
    return one_line(body) if json_length is None else _with_binary(b"request", body, json_length)


def response_part(body: bytes, json_length: int | None) -> bytes:
    """The response as it was sent, as what follows its key. Our own JSON has no line breaks."""
    return body if json_length is None else _with_binary(b"response", body, json_length)


def error_part(error: str) -> bytes:
    """In the response's place, why there is none."""
    return b'null,"error":%b' % orjson.dumps(error.encode(errors="replace").decode())


def _with_binary(name: bytes, body: bytes, json_length: int) -> bytes:
    raw = base64_of(memoryview(body)[json_length:])
    return b'%b,"%b_binary":"%b"' % (one_line(body[:json_length]), name, raw)


def one_line(text: bytes) -> bytes:
    """JSON without its line breaks."""
    if LF in text or CR in text:  # numbers: a search for bytes takes eight times as long
        return text.replace(b"\n", b" ").replace(b"\r", b" ")
    return text


def base64_of(raw: bytes | memoryview) -> bytes:
    """Standard Base64."""
    encoded: bytes = pybase64.b64encode(raw)  # twenty times as fast as binascii
    return encoded


PREDICTION: Final = (
    b'{"kind":"prediction","prediction_id":"%b","time_ns":%b,%b,"bucket":%b,"customer":%b,"modality":%b,%b'
    b'"latency_us":%d,"queue_us":%d,"batch":%d,"predicted":%b,"request":'
)  # filled in by gateway/worker/record_lines.py; the request follows, RESPONSE, the response and END
RESPONSE: Final = b',"response":'
END: Final = b"}\n"


def outcome_part(outcome: str, rescued_from: int | None = None, reason: str = "") -> bytes:
    """What came of it; where stable rescued the request, from which version's failure, and what that was."""
    if rescued_from is None:
        return b'"outcome":"%b","rescued_from":null,"rescue_reason":null,' % outcome.encode()
    return b'"outcome":"%b","rescued_from":%d,"rescue_reason":"%b",' % (outcome.encode(), rescued_from, reason.encode())


def mirror_line(
    *,
    prediction_id: bytes,
    model: str,
    version: int,
    sha256: str,
    agreement: bool,
    distance: float | None,
    predicted: int | None,
    response: bytes,
) -> bytes:
    """What the candidate answered to a request that stable had answered as `prediction_id`."""
    fields = {
        "kind": "mirror",
        "prediction_id": prediction_id.decode(),
        "time_ns": time.time_ns(),
        "model": model,
        "version": version,
        "model_sha256": sha256,
        "agreement": agreement,
        "distance": distance,
        "predicted": predicted,
    }
    return b'%b,"response":%b}\n' % (orjson.dumps(fields)[:-1], response)


def line_of(fields: Mapping[str, Any]) -> bytes:
    """A line of another kind, off the hot path."""
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
