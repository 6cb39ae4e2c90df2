"""Parses ONNX Runtime's execution providers in model.yaml: a name, or a name with options."""

from typing import Annotated, Any, Final, NamedTuple

from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema

from gateway.settings.scalars import text_as_written

_OPTION: Final = {"type": ["string", "number", "boolean"]}
_SCHEMA: Final = {
    "anyOf": [
        {"type": "string"},
        {
            "type": "object",
            "minProperties": 1,
            "maxProperties": 1,
            "additionalProperties": {"type": ["object", "null"], "additionalProperties": _OPTION},
        },
    ],
    "examples": ["CPUExecutionProvider", {"CUDAExecutionProvider": {"device_id": 0}}],
}


class Provider(NamedTuple):
    """One execution provider and its options, in the form that ONNX Runtime expects."""

    name: str
    options: dict[str, str]


def parse_provider(value: Any) -> Provider:
    """Parse a name, or {name: {option: value}}; raises ValueError."""
    if isinstance(value, Provider):
        return value
    if isinstance(value, str):
        return Provider(value, {})
    if not isinstance(value, dict) or len(value) != 1:
        raise ValueError(
            "an entry is a provider's name, or one name with its options as {CUDAExecutionProvider: {device_id: 0}};"
            f" it is {value!r:.60}"
        )
    ((name, options),) = value.items()
    if not isinstance(name, str):
        raise ValueError(f"{name!r} is not the name of a provider")
    if not isinstance(options, dict | None):
        raise ValueError(f"the options of {name} must be key: value pairs; they are {options!r:.60}")
    return Provider(name, {str(key): _text(name, key, option) for key, option in (options or {}).items()})


def as_yaml(provider: Provider) -> Any:
    """Convert a provider back to its form in YAML."""
    return {provider.name: provider.options} if provider.options else provider.name


def _text(name: str, key: Any, option: Any) -> str:
    """Convert an option to text, as ONNX Runtime expects; booleans become 1 and 0."""
    if isinstance(option, bool):
        return str(int(option))
    text = text_as_written(option)
    if text is None:
        raise ValueError(f"option {key} of {name} must be text, a number, true or false; it is {option!r:.60}")
    return text


def _distinct(providers: tuple[Provider, ...]) -> tuple[Provider, ...]:
    names = [provider.name for provider in providers]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise ValueError(f"{twice} is listed twice")
    if not names:
        raise ValueError("name at least one provider, such as CPUExecutionProvider")
    return providers


_Entry = Annotated[Provider, BeforeValidator(parse_provider), PlainSerializer(as_yaml), WithJsonSchema(_SCHEMA)]
Providers = Annotated[tuple[_Entry, ...], AfterValidator(_distinct)]
CPU: Final = Provider("CPUExecutionProvider", {})
