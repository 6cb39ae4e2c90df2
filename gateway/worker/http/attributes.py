"""Reads a request's attributes, which routing rules match: customer, modality, and the headers that rules name."""

from collections.abc import Mapping
from typing import Final

from gateway.errors import InvalidRequest
from gateway.protocol.elements import short
from gateway.protocol.tensors import NO_PARAMETERS, Parameters
from gateway.routing.attributes import Attributes
from gateway.web.body import Headers
from gateway.web.headers import header_text
from gateway.worker.models.served_model import ServedModel

JSON: Final = b"application/json"
NO_HEADERS: Final[Mapping[str, str]] = {}
MEDIA: Final = frozenset({"image", "audio", "video", "text"})


def media_of(headers: Headers) -> str | None:
    """The kind of a raw body by its content type: image, audio, video or text; None for any other body."""
    content_type = headers.get(b"content-type")
    if content_type is None or content_type == JSON:
        return None
    kind = content_type.partition(b"/")[0].strip().lower().decode("latin-1")
    return kind if kind in MEDIA else None


def attributes_of(served: ServedModel, headers: Headers, parameters: Parameters, media: str | None) -> Attributes:
    """The attributes that routing rules match on. Raises InvalidRequest if customer or modality is no string.

    A header x-customer-id takes precedence over the parameter. The modality is the parameter's, else the header's, else
    that of a raw body (`media`), else the model's.
    """
    customer = header_text(headers.get(b"x-customer-id"))
    modality = media or served.modality
    if b"x-modality" in headers:
        modality = header_text(headers[b"x-modality"]) or modality
    if parameters:
        customer = customer or _string(parameters, "customer")
        modality = _string(parameters, "modality") or modality
    named = NO_HEADERS
    if served.header_keys:
        named = {name: header_text(headers[key]) or "" for name, key in served.header_keys if key in headers}
    return Attributes(customer, modality, named, parameters or NO_PARAMETERS)


def _string(parameters: Parameters, name: str) -> str | None:
    value = parameters.get(name)
    if value is not None and type(value) is not str:
        raise InvalidRequest(f"parameters.{name} must be a string, got {short(value)}")
    return value
