"""The JSON Schemas for editors agree with the loader."""

from pathlib import Path

import jsonschema
import pytest
import yaml

from gateway.settings.json_schema import SCHEMAS, schema_text
from tests.settings.test_load import WHOLE_GATEWAY, WHOLE_ROUTING

MATCHED = "{name: r, weight: 5, match: [{customer: {in: [0123, 1.10], prefix: 5, not: 7}, headers: {x-a: 1.10}}]}"
CONFIG = Path(__file__).parents[2] / "config"
VALIDATORS = {
    name: jsonschema.Draft202012Validator(yaml.safe_load(schema_text(schema))) for name, schema in SCHEMAS.items()
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_schema_files_are_what_the_settings_generate(name: str) -> None:
    assert (CONFIG / name).read_text() == schema_text(SCHEMAS[name]), "run: python -m gateway.settings.json_schema"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gateway.schema.json", WHOLE_GATEWAY),
        ("gateway.schema.json", (CONFIG / "gateway.yaml").read_text()),
        ("routing.schema.json", WHOLE_ROUTING),
        ("routing.schema.json", (CONFIG / "routing.yaml").read_text()),
        ("model.schema.json", "batching: off"),
        ("model.schema.json", "modality: 1\nprediction: {output: 495, labels: [0, 01, 1.10, cat]}"),
        ("routing.schema.json", f"models: {{m: {{stable: 1, split: {{salt: 7, routes: [{MATCHED}]}}}}}}"),
        *(("model.schema.json", file.read_text()) for file in sorted(CONFIG.parent.glob("models/*/model.yaml"))),
    ],
)
def test_schemas_accept_valid_files(name: str, text: str) -> None:
    VALIDATORS[name].validate(yaml.safe_load(text))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("gateway.schema.json", "server: {prot: 1}"),
        ("routing.schema.json", "models: {m: {}}"),
        ("routing.schema.json", "models: {m: {stable: 1, split: {routes: [{weight: 5}]}}}"),
        ("routing.schema.json", "models: {m: {stable: 1, split: {routes: [{name: r, weight: 5, match: [{on: 1}]}]}}}"),
        ("model.schema.json", "batching: {size: 3}"),
        ("model.schema.json", "prediction: {output: o, labels: [true]}"),
        ("model.schema.json", "prediction: {output: o, labels: [null]}"),
        ("routing.schema.json", "models: {m: {stable: 1.5}}"),
        ("routing.schema.json", "models: {m: {stable: '1'}}"),
        ("routing.schema.json", "models: {m: {stable: 1, split: {routes: [{name: 2024, weight: 5}]}}}"),
        ("routing.schema.json", "models: {m: {stable: 1, split: {routes: [{name: on, weight: 5}]}}}"),
        ("routing.schema.json", f"models: {{m: {{stable: 1, split: {{routes: [{MATCHED.replace('0123', 'on')}]}}}}}}"),
    ],
)
def test_schemas_refuse_invalid_files(name: str, text: str) -> None:
    assert not VALIDATORS[name].is_valid(yaml.safe_load(text))
