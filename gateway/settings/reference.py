"""Writes config/REFERENCE.md, every key of the YAML files: `python -m gateway.settings.reference`."""

import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Union, get_args, get_origin

import yaml
from pydantic import BeforeValidator
from pydantic.fields import FieldInfo

from gateway.settings import guards, metric_names, model, providers, units
from gateway.settings.base import Settings
from gateway.settings.descriptions import describe
from gateway.settings.gateway import GatewaySettings
from gateway.settings.matching import MatcherSettings
from gateway.settings.model import ModelSettings
from gateway.settings.remote import RemoteSettings
from gateway.settings.routing import RoutingSettings

FILES: Final[Mapping[str, type[Settings]]] = {
    "config/gateway.yaml: the server": GatewaySettings,
    "config/routing.yaml: the releases": RoutingSettings,
    "models/NAME/model.yaml: what a model's files do not say themselves": ModelSettings,
    "models/NAME/VERSION/remote.yaml: the server that runs the version": RemoteSettings,
}
INTRODUCTION: Final = """\
# Every key of the YAML files

Written by `python -m gateway.settings.reference` from the settings' classes, as the JSON Schemas beside it are by
`python -m gateway.settings.json_schema`. A key with a default may be omitted; an unknown key is an error.
`[]` stands for each item of a list, `NAME` for a name that you choose.

- A duration is a number with a unit: us, ms, s, m, h or d. A size has B, KiB, MiB, GiB, KB, MB or GB.
- A percentage is a number from 0 to 100, with or without `%`; a level is a number or, with `%`, a percentage.
- A rate is a number with `/s` or `/m`.
- A *matcher* is a plain value, which must be equal, or a mapping with the keys of the last table.
- A *metric* is `stable.` or `candidate.` and one of {of_a_version}, or a mean of what feedback
  says: {of_feedback}, `metrics.NAME`, after `OUTPUT.` for outputs other than the first; or {of_the_gateway}.
"""
WORDS: Final[Mapping[Any, str]] = {
    units.parse_seconds: "duration",
    units.parse_bytes: "size",
    units.parse_ppm: "percentage",
    units.parse_percent: "percentage",
    units.parse_share: "percentage",
    units.parse_rate: "rate",
    guards.parse_level: "level",
    metric_names.parse_metric: "metric",
    metric_names.parse_comparison_metric: "text",
    units.parse_text: "text",
    units.parse_whole: "number",
    units.parse_number: "number",
    units.parse_name: "name",
    units.parse_version: "version",
    model.parse_off: "`off`",
    model.parse_predictions: "mapping or list of mappings",
    providers.parse_provider: "name or mapping",
}
PLAIN: Final[Mapping[Any, str]] = {str: "text", int: "number", float: "number"}
_DURATIONS: Final = (("d", 86400.0), ("h", 3600.0), ("m", 60.0), ("s", 1.0), ("ms", 1e-3), ("us", 1e-6))
_SIZES: Final = (("GiB", 1024**3), ("MiB", 1024**2), ("KiB", 1024))


def reference() -> str:
    """Return the text of config/REFERENCE.md."""
    describe()
    metrics = {
        "of_a_version": ", ".join(f"`{name}`" for name in metric_names.VERSION_METRICS),
        "of_feedback": ", ".join(f"`{name}`" for name in metric_names.OUTCOMES),
        "of_the_gateway": " and ".join(f"`{name}`" for name in metric_names.METRICS if name.startswith("gateway.")),
    }
    tables = [_table(title, rows(settings)) for title, settings in FILES.items()]
    return "\n".join([INTRODUCTION.format(**metrics), *tables, _table("A matcher", rows(MatcherSettings))])


def rows(settings: type[Settings], above: str = "") -> Iterator[tuple[str, str, str, str]]:
    """Yield path, type, default and meaning of every key in `settings` and below; `above`: the prefix of the paths."""
    for name, field in settings.model_fields.items():
        path = above + (field.alias or name)
        yield path, _type(field.annotation, field.metadata), _default(field), field.description or ""
        for suffix, inner in _inside(field.annotation):
            yield from rows(inner, f"{path}{suffix}.")


def _table(title: str, lines: Iterator[tuple[str, str, str, str]]) -> str:
    head = f"## {title}\n\n| key | type | default | meaning |\n|---|---|---|---|\n"
    return head + "".join(f"| `{key}` | {kind} | {default} | {meaning} |\n" for key, kind, default, meaning in lines)


def _inside(annotation: Any) -> Iterator[tuple[str, type[Settings]]]:
    """Yield the settings classes below a key, each with the path suffix in between ("", "[]" or ".NAME"). Matchers are
    skipped, because they have a table of their own.
    """
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        if annotation is not MatcherSettings:
            yield "", annotation
        return
    between = {tuple: "[]", dict: ".NAME"}.get(get_origin(annotation), "")
    for argument in get_args(annotation):
        yield from ((between + suffix, inner) for suffix, inner in _inside(argument))


def _type(annotation: Any, metadata: Any = ()) -> str:
    for validator in (item for item in metadata if isinstance(item, BeforeValidator)):
        if validator.func in WORDS:
            return WORDS[validator.func]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], arguments[1:])
    if origin in (Union, types.UnionType):
        return " or ".join(_type(argument) for argument in arguments if argument is not type(None))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in arguments)
    if origin in (tuple, frozenset):
        return "list" if list(_inside(arguments[0])) else f"list of {_type(arguments[0])}"
    if origin is dict:
        return "mapping" if list(_inside(arguments[1])) else f"{_type(arguments[1])} by name"
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        return "matcher" if annotation is MatcherSettings else "mapping"
    return PLAIN[annotation]


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "needed"
    value = field.get_default(call_default_factory=True)
    if isinstance(value, Settings):
        return ""
    return f"`{_written(value, _type(field.annotation, field.metadata))}`"


def _written(value: Any, kind: str) -> str:
    """Format `value` as YAML."""
    write: Callable[[Any], str] | None = {"duration": _duration, "size": _size}.get(kind)
    if write is not None and value is not None:
        return write(value)
    if kind == "percentage" and value is not None:
        return f"{value * 100:g}%"
    plain = value
    if isinstance(value, tuple):
        plain = [providers.as_yaml(item) if isinstance(item, providers.Provider) else item for item in value]
    return yaml.safe_dump(plain, default_flow_style=True).removesuffix("...\n").strip()


def _duration(seconds: float) -> str:
    for unit, size in _DURATIONS:
        if seconds >= size:
            return f"{seconds / size:g}{unit}"
    return "0s"


def _size(size: int) -> str:
    for unit, unit_size in _SIZES:
        if size >= unit_size and size % unit_size == 0:
            return f"{size // unit_size}{unit}"
    return f"{size}B"


if __name__ == "__main__":
    Path("config", "REFERENCE.md").write_text(reference())
