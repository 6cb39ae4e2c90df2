"""Converts pydantic's errors to plain sentences with their path in the file."""

import difflib
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Final, Union, get_args, get_origin

from pydantic import ValidationError
from pydantic.fields import FieldInfo

from gateway.settings.base import Settings
from gateway.settings.scalars import shown
from gateway.settings.units import unsupported_number_reason

Location = tuple[int | str, ...]
MAX_SHOWN: Final = 20  # one wrong indent in a long list would otherwise produce an error for every line
MAX_EXAMINED: Final = 500
_PLAIN: Final[Mapping[str, str]] = {
    "string_type": "must be text; put it in quotes",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "model_type": "must have key: value pairs",
    "dict_type": "must have key: value pairs",
    "tuple_type": "must be a list",
    "list_type": "must be a list",
    "frozen_set_type": "must be a list",
}


def problems_of(error: ValidationError, document: Any, schema: type[Settings]) -> list[str]:
    """Return one line per mistake in `document`: its path and the remedy."""
    found: dict[Location, str] = {}
    entries = error.errors(include_url=False)
    for entry in entries[:MAX_EXAMINED]:
        location = _in_document(entry["loc"], document)
        if entry["type"] == "missing":
            location, message = location, f"'{entry['loc'][-1]}' is missing"
        else:
            message = _message(entry, location, schema)
        if location not in found or entry["type"] == "value_error":
            found[location] = message
        elif message not in found[location]:
            found[location] = f"{found[location]}; {message}"
    problems = [
        f"{_path(location)}: {message}" if location else message
        for location, message in found.items()
        if not _explained_below(location, found)
    ]
    if len(entries) > MAX_EXAMINED or len(problems) > MAX_SHOWN:
        return [*problems[:MAX_SHOWN], "there are more mistakes after these"]
    return problems


def _explained_below(location: Location, found: Mapping[Location, str]) -> bool:
    """Whether there is an error deeper in the document below `location`. pydantic reports every branch of a union; the
    one with the deepest error is the one that was meant.
    """
    return any(len(other) > len(location) and other[: len(location)] == location for other in found)


def _in_document(location: Location, document: Any) -> Location:
    """Return `location` without the steps that pydantic adds: names of union branches and validators."""
    kept: list[int | str] = []
    for step in location:
        inside = (isinstance(document, dict) and step in document) or (
            isinstance(document, list) and isinstance(step, int) and step < len(document)
        )
        if inside:
            kept.append(step)
            document = document[step]
    return tuple(kept)


def _path(location: Location) -> str:
    parts = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in location]
    return "".join(parts).removeprefix(".")


def _message(entry: Any, location: Location, schema: type[Settings]) -> str:
    kind = entry["type"]
    if kind == "extra_forbidden":
        return _unknown_key(location, schema)
    if kind == "value_error":
        return str(entry["ctx"]["error"])
    if kind == "literal_error":
        return f"must be {entry['ctx']['expected']}; it is {shown(entry['input'])}"
    if kind in _PLAIN:
        return f"{_PLAIN[kind]}; it is {shown(entry['input'])}{unsupported_number_reason(entry['input'])}"
    return f"{entry['msg'][0].lower()}{entry['msg'][1:]}; it is {shown(entry['input'])}"


def _unknown_key(location: Location, schema: type[Settings]) -> str:
    key = str(location[-1])
    known = sorted({name for model in _models_at(schema, location[:-1]) for name in _keys(model)})
    close = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    hint = f"did you mean '{close[0]}'?" if close else f"known keys are {', '.join(known)}"
    return f"unknown key '{key}'; {hint}"


def _keys(model: type[Settings]) -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield field.alias or name


def _models_at(annotation: Any, location: Sequence[int | str]) -> list[type[Settings]]:
    """Return the settings classes that are possible at `location` below `annotation`."""
    if get_origin(annotation) is Annotated:
        return _models_at(get_args(annotation)[0], location)
    if get_origin(annotation) in (Union, types.UnionType):
        return [model for branch in get_args(annotation) for model in _models_at(branch, location)]
    if isinstance(annotation, type) and issubclass(annotation, Settings):
        if not location:
            return [annotation]
        field = _field(annotation, str(location[0]))
        return _models_at(field.annotation, location[1:]) if field else []
    arguments = get_args(annotation)
    if get_origin(annotation) is tuple and not (location and isinstance(location[0], int)):
        return _models_at(arguments[0], location)  # a list of one, written without the list
    if location and arguments:
        inner = arguments[1] if get_origin(annotation) is dict else arguments[0]
        return _models_at(inner, location[1:])
    return []


def _field(model: type[Settings], key: str) -> FieldInfo | None:
    by_key = {field.alias or name: field for name, field in model.model_fields.items()}
    return by_key.get(key)
