"""Bodies of inference requests that are not just JSON: with binary tensors, raw media, or NaN as Python writes it."""

from collections.abc import Sequence
from typing import Final

import orjson

from gateway.errors import InvalidRequest, UnsupportedMedia
from gateway.protocol.decode import decode_document, decode_raw, decode_strict, restate_request
from gateway.protocol.elements import short
from gateway.protocol.json_constants import parse
from gateway.protocol.json_text import NotJson
from gateway.protocol.tensors import InferRequest, TensorSpec
from gateway.web.body import Headers
from gateway.web.content_type import refusal_of
from gateway.worker.call import RequestSource, RestatedSource

JSON_LENGTH: Final = b"inference-header-content-length"
RAW: Final = "raw"  # the `media` of a body that is one tensor's bytes, without a media type
TEXT: Final = "text"
# The keys of each input of a V2 request, which tell it from any other text.
TENSOR: Final = frozenset({"name", "datatype", "shape"})
REMEDY: Final = (
    "send V2 JSON as application/json, with binary tensors if you give Inference-Header-Content-Length; or a raw body,"
    " as image/*, audio/*, video/* or text/*, to a model with one BYTES input"
)
ReceivedRequest = tuple[InferRequest, RequestSource]


def decode_received(
    body: bytes, headers: Headers, media: str | None, model: str, inputs: Sequence[TensorSpec]
) -> ReceivedRequest:
    """Decode the body; `media`: the kind of raw body that the content type names. Raises InvalidRequest, or NotJson.

    The source's `media` is None if the body is not raw after all: browsers' fetch sends a V2 request as text/plain.
    """
    length = json_length(headers)
    if length:
        return decode_strict(body, length), RequestSource(body, length)
    if media == TEXT and length is None and (asked := _request_as_text(body)) is not None:
        return asked
    if media is not None and (len(inputs) != 1 or inputs[0].datatype != "BYTES"):
        raise UnsupportedMedia(
            f"a raw {media} body needs a model with one BYTES input, which '{model}' is not;"
            " send V2 JSON as application/json"
        )
    if len(inputs) != 1:
        raise InvalidRequest(
            f"a raw body (Inference-Header-Content-Length: 0) needs one input; the model has {len(inputs)}"
        )
    return decode_raw(body, inputs[0]), RequestSource(body, media=media or RAW)


def restated_source(error: NotJson, body: bytes, headers: Headers) -> ReceivedRequest:
    """Decode a request with NaN or Infinity as numbers; raises `error` for any other invalid JSON, or UnsupportedMedia
    for what is not meant as JSON.
    """
    said = json_length(headers)
    try:
        request, text, length = restate_request(error, body, said or None)
    except NotJson as refused:
        raise (refusal_of(refused, body, headers, REMEDY) if said is None else refused) from None
    return request, RestatedSource(text, length, body)


def json_length(headers: Headers) -> int | None:
    """How many bytes of the body are JSON, None without the header that says so; raises InvalidRequest."""
    length = headers.get(JSON_LENGTH)
    if length is None:
        return None
    length = length.strip(b" \t")
    if not length.isdigit() or len(length) > 18:
        raise InvalidRequest(
            f"Inference-Header-Content-Length must be a number of bytes, got {short(length[:40].decode('latin-1'))}"
        )
    return int(length)


def _request_as_text(body: bytes) -> ReceivedRequest | None:
    """Decode a text that has the form of a V2 request, else None. Errors in it are reported as for any other."""
    if not body.lstrip().startswith(b"{") or b'"inputs"' not in body:
        return None
    source = RequestSource(body)
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        try:
            document, text = parse(error) or (None, b"")
        except InvalidRequest:
            return None
        source = RestatedSource(text, None, body)
    items = document.get("inputs") if type(document) is dict else None
    if type(items) is not list or not items:
        return None
    if not all(type(item) is dict and item.keys() >= TENSOR for item in items):
        return None
    return decode_document(document, None), source
