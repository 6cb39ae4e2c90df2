"""Loads YAML files as settings. Each mistake is reported with its path in the file and the remedy."""

from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError

from gateway.errors import SettingsError
from gateway.settings.base import Settings
from gateway.settings.document import parse_yaml
from gateway.settings.gateway import GatewaySettings
from gateway.settings.model import ModelSettings
from gateway.settings.problems import problems_of
from gateway.settings.remote import RemoteSettings
from gateway.settings.routing import RoutingSettings

S = TypeVar("S", bound=Settings)


def load_gateway(path: Path) -> GatewaySettings:
    """Load gateway.yaml; raises SettingsError."""
    return _load(path, GatewaySettings)


def load_routing(path: Path) -> RoutingSettings:
    """Load routing.yaml; raises SettingsError."""
    return _load(path, RoutingSettings)


def load_model(path: Path) -> ModelSettings:
    """Load a model.yaml; raises SettingsError."""
    return _load(path, ModelSettings)


def load_remote(path: Path) -> RemoteSettings:
    """Load a remote.yaml; raises SettingsError."""
    return _load(path, RemoteSettings)


def parse(text: str, schema: type[S], source: str) -> S:
    """Parse YAML and validate it by `schema`; empty text gives the defaults. Raises SettingsError with `source`."""
    found = parse_yaml(text, source)
    if found is None:
        found = {}
    if not isinstance(found, dict):
        raise SettingsError(source, ["must have key: value pairs at its top level"])
    try:
        return schema.model_validate(found)
    except ValidationError as error:
        raise SettingsError(source, problems_of(error, found, schema)) from None


def _load(path: Path, schema: type[S]) -> S:
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise SettingsError(
            str(path), ["there is no such file; run in the project's folder, or name another file"]
        ) from None
    except OSError as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from None
    return parse(decode_file(content, str(path)), schema, str(path))


def decode_file(content: bytes, source: str) -> str:
    """Decode a YAML file as UTF-8; raises SettingsError that names the first invalid byte. Line ends are kept."""
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        before = content[: error.start].decode()
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        byte = f"the byte 0x{content[error.start]:02x} is not UTF-8, in which YAML files are saved"
        raise SettingsError(source, [f"line {line}, column {column}: cannot be read: {byte}"]) from None
