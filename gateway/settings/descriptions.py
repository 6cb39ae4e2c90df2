"""Reads the docstrings below the fields of the settings' classes, for the reference and the JSON Schemas.

pydantic can do so itself when a class is made, but it parses the class's source for it: 70 ms of every process's start.
"""

import ast
import inspect
import textwrap
from collections.abc import Iterator

from gateway.settings.base import Settings


def describe() -> None:
    """Give the fields of all settings' classes that have been imported their descriptions."""
    for settings in _below(Settings):
        for name, text in _docstrings(settings).items():
            settings.model_fields[name].description = text
        settings.model_rebuild(force=True)


def _below(settings: type[Settings]) -> Iterator[type[Settings]]:
    """Subclasses in the order of their definition, so that a class comes after those of its fields."""
    for each in settings.__subclasses__():
        yield each
        yield from _below(each)


def _docstrings(settings: type[Settings]) -> dict[str, str]:
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(settings))).body
    assert isinstance(definition, ast.ClassDef)
    found = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = inspect.cleandoc(text)
    return found
