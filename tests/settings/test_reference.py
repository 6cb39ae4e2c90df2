"""config/REFERENCE.md describes every setting."""

import re
from pathlib import Path

import pytest

from gateway.settings.descriptions import describe
from gateway.settings.load import parse
from gateway.settings.reference import FILES, reference, rows

FILE = Path(__file__).parents[2] / "config" / "REFERENCE.md"
describe()
KEYS = {key: line for settings in FILES.values() for key, *line in rows(settings)}


def test_reference_file_is_what_the_settings_generate() -> None:
    assert FILE.read_text() == reference(), "run: python -m gateway.settings.reference"


@pytest.mark.parametrize("key", KEYS)
def test_every_key_has_a_description(key: str) -> None:
    kind, _, meaning = KEYS[key]
    assert kind
    assert re.fullmatch(r"\S.*\.|.* …", meaning), "a sentence below the field in its settings class"


@pytest.mark.parametrize(
    ("key", "line"),
    [
        ("server.drain", ["duration", "`20s`"]),
        ("records.ring", ["size", "`8MiB`"]),
        ("limits.rate.customers", ["rate by name", "`{}`"]),
        ("models.NAME.stable", ["version", "needed"]),
        ("models.NAME.split.routes[].weight", ["`ramp` or percentage", "needed"]),
        ("models.NAME.split.routes[].match[].headers", ["matcher by name", "`{}`"]),
        ("models.NAME.split.routes[].while[].below", ["level", "`null`"]),
        ("models.NAME.guards.alpha", ["percentage", "`1%`"]),
        ("batching", ["mapping or `off`", ""]),
    ],
)
def test_types_and_defaults_are_written_as_in_the_file(key: str, line: list[str]) -> None:
    assert KEYS[key][:2] == line


def test_documented_defaults_can_be_written_into_the_file() -> None:
    """Each default of gateway.yaml, written as in the reference, means the same as leaving it out."""
    settings = FILES["config/gateway.yaml: the server"]
    for key, (_, default, _) in KEYS.items():
        if default in ("", "needed") or key.startswith("models.NAME") or key not in {k for k, *_ in rows(settings)}:
            continue
        *above, last = key.split(".")
        if any(KEYS.get(".".join(above[:depth]), ["", ""])[1] == "`null`" for depth in range(1, len(above) + 1)):
            continue  # it is in a mapping that is absent by default, and has other keys that are needed: see below
        text = "".join(f"{{{name}: " for name in above) + f"{{{last}: {default.strip('`')}}}" + "}" * len(above)
        assert parse(text, settings, "gateway.yaml") == settings(), text


def test_default_inside_an_absent_mapping_can_be_written() -> None:
    settings = FILES["config/gateway.yaml: the server"]
    endpoint = "endpoint: http://127.0.0.1:4318"
    (default,) = (default for key, _, default, _ in rows(settings) if key == "server.tracing.sample")
    written = f"server: {{tracing: {{{endpoint}, sample: {default.strip('`')}}}}}"
    assert parse(written, settings, "") == parse(f"server: {{tracing: {{{endpoint}}}}}", settings, "")
