"""The settings of remote.yaml, which stands in a version's folder instead of model.onnx: the server that runs it."""

import os
import re
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from gateway.settings.base import Settings
from gateway.settings.from_environment import FromEnvironment
from gateway.settings.units import Count, Seconds, Text

MAX_CONNECTIONS: Final = 10_000
_HEADER: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_OWN_HEADERS: Final = frozenset(
    ("connection", "content-length", "content-type", "expect", "host", "inference-header-content-length",
     "transfer-encoding", "accept-encoding", "content-encoding", "upgrade")
)  # fmt: skip


def _url(value: Any) -> str:
    try:
        parts = urlsplit(value)
        port = parts.port
    except (ValueError, AttributeError, TypeError):
        parts, port = urlsplit(""), None
    bad = (
        parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or port == 0
        or not value.isascii() or not value.isprintable() or " " in value
    )  # fmt: skip
    if bad:
        raise ValueError("must be the address of a server, such as http://triton.internal:8000")
    if parts.username is not None:  # it would be shown with the address
        raise ValueError("may hold no password: put it into `headers`, from the environment")
    return str(value).rstrip("/")


def _listed(value: Any) -> Any:
    return value if isinstance(value, list | tuple) else [value]


def _unique(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) < len(value):
        raise ValueError("names an address twice")
    return value


def _header(value: Any) -> Any:
    if isinstance(value, dict):
        return FromEnvironment.model_validate(value)
    if not isinstance(value, str) or not _sendable(value):
        raise ValueError("must be a text in printable ASCII characters, or {env: NAME}")
    return value


HeaderValue = Annotated[
    str | FromEnvironment,
    BeforeValidator(_header),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string"},
                {"type": "object", "properties": {"env": {"type": "string"}}, "required": ["env"]},
            ]
        }
    ),
]


class RemoteTlsSettings(Settings):
    """How the server is trusted, and how the gateway identifies itself; paths are relative to the version's folder."""

    ca: Text | None = None
    """A file of certificates to trust instead of the system's."""
    certificate: Text | None = None
    """The gateway's own certificate, if the server asks for one."""
    key: Text | None = None
    """Its private key."""

    @model_validator(mode="after")
    def _paired(self) -> "RemoteTlsSettings":
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key belong together: name both, or neither")
        return self


class RemoteSettings(Settings):
    """The whole file."""

    url: Annotated[
        tuple[Annotated[str, AfterValidator(_url)], ...],
        BeforeValidator(_listed),
        Field(min_length=1),
        AfterValidator(_unique),
        WithJsonSchema({"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}),
    ]
    """The server's address, or a list of them: each request goes to the one with the fewest requests in flight."""
    model: Text | None = None
    """The model's name there; null: its name here."""
    version: Text | None = None
    """The model's version there; null: the server chooses."""
    connections: Annotated[Count, Field(le=MAX_CONNECTIONS)] = 64
    """The most connections to each address, in each worker; further requests wait."""
    timeout: Annotated[Seconds, Field(gt=0)] | None = None
    """How long an answer may take, within the request's own deadline; null: until that."""
    headers: dict[Text, HeaderValue] = Field(default_factory=dict)
    """Headers of each request, such as `{authorization: {env: TRITON_TOKEN}}`."""
    tls: RemoteTlsSettings = RemoteTlsSettings()
    """Certificates, for https."""

    @model_validator(mode="after")
    def _headers_allowed(self) -> "RemoteSettings":
        for name in self.headers:
            if not _HEADER.fullmatch(name):
                raise ValueError(f"headers: {name!r} is no name of a header")
            if name.lower() in _OWN_HEADERS:
                raise ValueError(f"headers: {name} is set by the gateway; remove it")
        if self.tls != RemoteTlsSettings() and not any(url.startswith("https:") for url in self.url):
            raise ValueError("tls is for https, but no url begins with https")
        return self

    def header_values(self, file: Path) -> dict[str, str]:
        """The headers' values, read from the environment now. Raises ValueError that names the missing variable."""
        values = {}
        for name, value in self.headers.items():
            if isinstance(value, FromEnvironment):
                found = os.environ.get(value.env)
                if not found:
                    raise ValueError(f"headers.{name}: the environment has no variable {value.env}; set it")
                if not _sendable(found):
                    raise ValueError(f"headers.{name}: {value.env} holds characters that no header may have")
                value = found
            values[name] = value
        return values


def _sendable(value: str) -> bool:
    return value.isascii() and value.isprintable()
