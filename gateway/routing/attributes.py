"""The attributes of a request that routing rules match, and how they are read."""

from collections.abc import Callable, Mapping
from operator import attrgetter
from typing import Any, Final

from gateway.settings.matching import MatcherSettings, MatchSettings, text_of

_NONE: Final[Mapping[str, Any]] = {}


class Attributes:
    """The attributes of one request. Names in `headers` are in lower case; it need hold only those that rules name."""

    __slots__ = ("customer", "headers", "modality", "parameters")

    def __init__(
        self,
        customer: str | None = None,
        modality: str | None = None,
        headers: Mapping[str, str] = _NONE,
        parameters: Mapping[str, Any] = _NONE,
    ) -> None:
        self.customer = customer
        self.modality = modality
        self.headers = headers
        self.parameters = parameters


Accessor = Callable[[Attributes], str | None]
AttributeName = tuple[str, str]  # ("customer", ""), ("modality", ""), ("headers", name), ("parameters", name)


def accessor(name: AttributeName) -> Accessor:
    """A function that reads one attribute of a request, as text; it returns None if the request does not have it."""
    kind, key = name
    if kind in ("customer", "modality"):
        return attrgetter(kind)
    if kind == "headers":
        return lambda attributes: attributes.headers.get(key)
    return lambda attributes: _scalar(attributes.parameters.get(key))


def _scalar(value: Any) -> str | None:
    return text_of(value) if isinstance(value, str | int | float) else None


def conditions(item: MatchSettings) -> list[tuple[AttributeName, MatcherSettings]]:
    """The conditions of a match item, all of which must hold: attribute and matcher."""
    found: list[tuple[AttributeName, MatcherSettings]] = []
    if item.customer is not None:
        found.append((("customer", ""), item.customer))
    if item.modality is not None:
        found.append((("modality", ""), item.modality))
    found += [(("headers", name), matcher) for name, matcher in item.headers.items()]
    found += [(("parameters", name), matcher) for name, matcher in item.parameters.items()]
    return found


def spelled(name: AttributeName) -> str:
    """The attribute as it is written in the YAML: customer, headers.x-region."""
    return ".".join(filter(None, name))
