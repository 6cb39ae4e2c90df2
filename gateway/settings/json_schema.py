"""Writes the JSON Schemas with which editors check the YAML files: `python -m gateway.settings.json_schema`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from gateway.settings.base import Settings
from gateway.settings.descriptions import describe
from gateway.settings.gateway import GatewaySettings
from gateway.settings.model import ModelSettings
from gateway.settings.remote import RemoteSettings
from gateway.settings.routing import RoutingSettings

SCHEMAS: Final[Mapping[str, type[Settings]]] = {
    "gateway.schema.json": GatewaySettings,
    "routing.schema.json": RoutingSettings,
    "model.schema.json": ModelSettings,
    "remote.schema.json": RemoteSettings,
}


def schema_text(settings: type[Settings]) -> str:
    """Return the JSON Schema (draft 2020-12) of one file."""
    describe()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **settings.model_json_schema()}
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for name, settings in SCHEMAS.items():
        Path("config", name).write_text(schema_text(settings))
