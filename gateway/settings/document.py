"""Parses a YAML file into mappings, lists and scalars; errors name line and column.

It refuses what a general parser accepts and a person would overlook: a duplicate key, whose first value is dropped; a
key that YAML reads as true, null or a date; tags other than !!str, !!map and !!seq; unquoted characters that look like
a space or a quotation mark but are not. Keys are the text as written; values are read by `scalars`. All aliases of an
anchor are one object.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, NoReturn

import yaml

from gateway.errors import SettingsError
from gateway.settings.characters import YamlMistake, explain_yaml_error, find_unreadable, misplaced_check
from gateway.settings.scalars import read, text_as_written, why_no_text

MAX_DEPTH: Final = 60  # levels of nested mappings and lists
MAX_CHARACTERS: Final = 16 * 1024**2  # characters; parsing a list of 12 million takes 1.7 s
MAX_ALIASED: Final = 1_000_000  # values that aliases expand to
_TEXT: Final = "tag:yaml.org,2002:str"
_TAGS: Final = {"str": (_TEXT,), "map": ("tag:yaml.org,2002:map",), "seq": ("tag:yaml.org,2002:seq",)}
_MERGE: Final = "<<"


def parse_yaml(text: str, source: str) -> Any:
    """Parse `text`; None if it is empty. Raises SettingsError that names `source`, line and column."""
    if len(text) > MAX_CHARACTERS:
        raise SettingsError(source, [f"has {len(text):,} characters; {MAX_CHARACTERS:,} is the limit"])
    text = text.removeprefix("\ufeff")
    problem = find_unreadable(text)
    if problem is not None:
        raise SettingsError(source, [str(problem)])
    try:
        return _Reader(text).whole()
    except YamlMistake as error:
        raise SettingsError(source, [str(error)]) from None
    except yaml.MarkedYAMLError as error:
        raise SettingsError(source, [explain_yaml_error(text, error)]) from None
    except yaml.YAMLError as error:
        raise SettingsError(source, [f"not valid YAML: {error}"]) from None


class _Reader:
    """Builds the document from the parser's events."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._events: Iterator[Any] = yaml.parse(text, yaml.CSafeLoader)
        self._suspect = misplaced_check(text)
        self._anchors: dict[str, tuple[Any, int]] = {}  # the value of each, and how many values it contains
        self._count = self._repeated = 0
        self._read: dict[type[Any], Callable[[Any, int], Any]] = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._mapping,
            yaml.SequenceStartEvent: self._sequence,
        }

    def whole(self) -> Any:
        """Parse the text's only document; None if there is none."""
        found: Any = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    _refuse(event, "a second document begins here ('---'); keep only one")
            elif not isinstance(event, yaml.StreamStartEvent | yaml.StreamEndEvent | yaml.DocumentEndEvent):
                found = self._value(event, 0)
        return found

    def _value(self, event: Any, depth: int) -> Any:
        self._count += 1
        if isinstance(event, yaml.AliasEvent):
            return self._alias(event)
        if depth > MAX_DEPTH:
            _refuse(event, f"more than {MAX_DEPTH} levels of mappings and lists inside one another")
        anchor, before = event.anchor, self._count + self._repeated - 1
        if anchor is None:
            return self._read[type(event)](event, depth)
        if anchor in self._anchors:
            _refuse(event, f"the anchor '&{anchor}' is given twice")
        self._anchors[anchor] = None, -1
        value = self._read[type(event)](event, depth)
        self._anchors[anchor] = value, self._count + self._repeated - before
        return value

    def _alias(self, event: yaml.AliasEvent) -> Any:
        name = event.anchor
        if name not in self._anchors:
            _refuse(event, f"there is no anchor '&{name}' for '*{name}'; text that begins with '*' needs quotes")
        value, size = self._anchors[name]
        if size < 0:
            _refuse(event, f"'*{name}' is inside the value that it repeats")
        self._repeated += size
        if self._repeated > MAX_ALIASED:
            _refuse(event, f"aliases repeat more than {MAX_ALIASED:,} values")
        return value

    def _scalar(self, event: yaml.ScalarEvent, depth: int) -> Any:
        tag = _checked_tag(event, "str")
        if tag or not event.implicit[0]:
            return event.value
        self._check_plain(event)
        return read(event.value)

    def _sequence(self, event: yaml.SequenceStartEvent, depth: int) -> list[Any]:
        _checked_tag(event, "seq")
        items = []
        for inner in self._events:
            if isinstance(inner, yaml.SequenceEndEvent):
                break
            items.append(self._value(inner, depth + 1))
        return items

    def _mapping(self, event: yaml.MappingStartEvent, depth: int) -> dict[str, Any]:
        _checked_tag(event, "map")
        entries: dict[str, Any] = {}
        merged: dict[str, Any] | None = None
        for key_event in self._events:
            if isinstance(key_event, yaml.MappingEndEvent):
                break
            merging = isinstance(key_event, yaml.ScalarEvent) and key_event.implicit[0] and key_event.value == _MERGE
            key = _MERGE if merging else self._key(key_event, depth)
            if key in entries or (merging and merged is not None):
                _refuse(key_event, f"key '{key}' is given twice")
            value = self._value(next(self._events), depth + 1)
            if merging:
                merged = _merged(key_event, value)
            else:
                entries[key] = value
        return {**(merged or {}), **entries}

    def _key(self, event: Any, depth: int) -> str:
        if isinstance(event, yaml.MappingStartEvent | yaml.SequenceStartEvent):
            _refuse(event, "a key must be plain text")
        key = self._value(event, depth)
        text = text_as_written(key)
        if text is None:
            _refuse(event, f"a key must be plain text: {why_no_text(key)}")
        return text

    def _check_plain(self, event: Any) -> None:
        """Refuse an unquoted value with a tab or with a character that only looks like a space or a quotation mark."""
        if self._suspect is None:
            return
        begin, end = event.start_mark, event.end_mark
        raw = self._text[begin.index : end.index]
        problem = self._suspect(raw)
        if problem is not None:
            position, message = problem
            raise YamlMistake.at(self._text, begin.index + position, message)


def _merged(event: Any, value: Any) -> dict[str, Any]:
    """Return what `<<: value` merges in: one mapping, or several, of which earlier ones take precedence."""
    parts = value if isinstance(value, list) else [value]
    if not all(isinstance(part, dict) for part in parts):
        _refuse(event, "'<<' merges a mapping or a list of mappings; put it in quotes if it is a name")
    return {key: inner for part in reversed(parts) for key, inner in part.items()}


def _checked_tag(event: Any, kind: str) -> bool:
    """Whether it has a tag. The only tag allowed is that of its own kind (!!str, !!map, !!seq, or `!`)."""
    tag = event.tag
    if tag is None:
        return False
    if tag != "!" and tag not in _TAGS[kind]:
        short = tag.replace("tag:yaml.org,2002:", "!!")
        _refuse(event, f"not valid YAML here: '{short}' is read as a tag; put what begins with '!' in quotes")
    return True


def _refuse(event: Any, message: str) -> NoReturn:
    mark = event.start_mark
    raise YamlMistake(mark.line, mark.column, message)
