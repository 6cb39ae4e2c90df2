"""YAML files to settings. Every mistake is named by its path in the file, with what would be right."""

from collections.abc import Hashable
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from gateway.errors import SettingsError
from gateway.settings.base import Settings
from gateway.settings.gateway_settings import GatewaySettings
from gateway.settings.mistakes import problems_of
from gateway.settings.model_settings import ModelSettings
from gateway.settings.routing_settings import RoutingSettings

S = TypeVar("S", bound=Settings)


def load_gateway(path: Path) -> GatewaySettings:
    """The server's settings; raises SettingsError."""
    return _load(path, GatewaySettings)


def load_routing(path: Path) -> RoutingSettings:
    """The releases; raises SettingsError."""
    return _load(path, RoutingSettings)


def load_model(path: Path) -> ModelSettings:
    """A model's own settings; raises SettingsError."""
    return _load(path, ModelSettings)


def parse(text: str, schema: type[S], source: str) -> S:
    """`text` as YAML under `schema`; raises SettingsError that names `source`. An empty text holds the defaults."""
    try:
        document = yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise SettingsError(source, [f"{where}{error.problem or 'not valid YAML'}"]) from None
    except Exception as error:  # not only YAMLError: of `!!bool 7` PyYAML raises KeyError, and others of other tags
        raise SettingsError(source, [f"not valid YAML: {error}"]) from None
    if document is None:
        document = {}
    if not isinstance(document, dict):
        raise SettingsError(source, ["must hold key: value pairs at its top"])
    try:
        return schema.model_validate(document)
    except ValidationError as error:
        raise SettingsError(source, problems_of(error, document, schema)) from None


def _load(path: Path, schema: type[S]) -> S:
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise SettingsError(
            str(path), ["there is no such file; run from the project's folder or name another"]
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(str(path), [f"cannot be read: {error}"]) from None
    return parse(text, schema, str(path))


class _Loader(yaml.CSafeLoader):
    """Safe YAML that refuses a key given twice, of which YAML would keep the last in silence."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key: Any = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key '{key}' is given twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)
