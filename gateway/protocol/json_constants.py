"""JSON as Python's json module writes it: with NaN, Infinity and -Infinity, which JSON itself does not have.

tritonclient sends them where it is told binary_data=False. They are taken in the data of float tensors only. Read only
once orjson has met one of them, so that other bodies pay nothing; then all of them become strings that no client can
know, by searches at about orjson's own speed, and orjson reads the rest: what is no JSON stays refused.
"""

import re
import secrets
from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from gateway.errors import InvalidRequest
from gateway.protocol.elements import FLOATS, NON_FINITE

MAX_CONSTANTS: Final = 2_000_000  # constants in one request: each takes 30 times its length in memory
MAX_STRETCHES: Final = 10_000  # stretches between strings, in which constants stand: a tensor's data is one
CHUNK_ELEMENTS: Final = 4096  # elements
_TOKENS: Final = ("NaN", "Infinity")  # orjson stops behind a sign
_SECRET: Final = secrets.token_hex(8)
_MARKS: Final = {name: f"{_SECRET}{number}" for number, name in enumerate(("-Infinity", "Infinity", "NaN"))}
_TO_NEXT: Final = re.compile(r'[^"NI]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"NI]*+)*+', re.DOTALL)


class Constant(str):
    """A constant that is no value of its tensor's datatype, for the message that says so."""

    __slots__ = ()
    __repr__ = str.__str__


_FLOATS: Final[Mapping[str, Any]] = {mark: NON_FINITE[name] for name, mark in _MARKS.items()}
_OTHERS: Final[Mapping[str, Any]] = {mark: Constant(name) for name, mark in _MARKS.items()}


def parse(error: orjson.JSONDecodeError) -> tuple[Any, bytes] | None:
    """The document that orjson could not read, and its text as JSON: each constant as a string, as in an answer.

    None where orjson stopped at something else. Raises InvalidRequest that names the place.
    """
    text = error.doc
    if not text.startswith(_TOKENS, error.pos):
        return None
    marked = _marked(text, error.pos - text.startswith("-", error.pos - 1))
    try:
        document = orjson.loads(marked)
        _check_outside_of_data(document)
    except orjson.JSONDecodeError as problem:
        place = len(_restored(marked[: problem.pos], ""))
        raise InvalidRequest(f"the body is not valid JSON: {problem.msg}: char {place}") from None
    except (TypeError, RecursionError):
        raise InvalidRequest("the body is nested too deeply") from None
    return document, _restored(marked, '"').encode()


def _marked(text: str, start: int) -> str:
    """`text`, where constants outside of strings are marks. The first of them stands at `start`."""
    if text.count(_TOKENS[0]) + text.count(_TOKENS[1]) > MAX_CONSTANTS:
        raise InvalidRequest(f"NaN and Infinity stand in more than {MAX_CONSTANTS} places; send the tensors in binary")
    parts = [text[:start]]
    for _ in range(MAX_STRETCHES):
        end = text.find('"', start)
        end = len(text) if end < 0 else end
        run = text[start:end]
        for name, mark in _MARKS.items():
            run = run.replace(name, f'"{mark}"')
        after = _TO_NEXT.match(text, end)
        assert after is not None, "it matches nothing as well"
        start = after.end() - (text[after.end() - 1] == "-")
        parts += run, text[end:start]
        if not text.startswith(_TOKENS, after.end()):
            return "".join((*parts, text[start:]))  # the end, or something that is no JSON
    raise InvalidRequest("NaN and Infinity stand in too many places; send the tensors in binary")


def _restored(marked: str, quote: str) -> str:
    for name, mark in _MARKS.items():
        marked = marked.replace(f'"{mark}"', f"{quote}{name}{quote}")
    return marked


def _check_outside_of_data(document: Any) -> None:
    """Give the tensors' data its numbers back; raises InvalidRequest where a constant stands elsewhere."""
    rest = document
    if type(document) is dict and type(document.get("inputs")) is list:
        rest = {**document, "inputs": [_without_data(item) for item in document["inputs"]]}
    if _SECRET.encode() in orjson.dumps(rest):
        for place in _places(rest, ""):
            raise InvalidRequest(f"{place} is not finite; only an element of a tensor may be")


def _without_data(item: Any) -> Any:
    if type(item) is not dict or "data" not in item:
        return item
    datatype = item.get("datatype")
    values = _FLOATS if type(datatype) is str and datatype in FLOATS else _OTHERS
    data = item["data"]
    if type(data) is list:
        _spell(data, values)
    elif type(data) is str:
        item["data"] = values.get(data, data)
    return {key: value for key, value in item.items() if key != "data"}


def _spell(data: list[Any], values: Mapping[str, Any]) -> None:
    """Put the values in their marks' place; numbers, of which there are most, are passed over a chunk at a time."""
    for start in range(0, len(data), CHUNK_ELEMENTS):
        chunk = data[start : start + CHUNK_ELEMENTS]
        kinds = set(map(type, chunk))
        if str in kinds:
            data[start : start + CHUNK_ELEMENTS] = [
                values.get(item, item) if type(item) is str else item for item in chunk
            ]
        if list in kinds:
            for item in chunk:
                if type(item) is list:
                    _spell(item, values)


def _places(value: Any, place: str) -> Iterator[str]:
    """Where constants stand in `value`."""
    if type(value) is str and value in _OTHERS:
        yield f"{place.lstrip('.') or 'the body'}: {_OTHERS[value]}"
    elif type(value) is list:
        for index, item in enumerate(value):
            yield from _places(item, f"{place}[{index}]")
    elif type(value) is dict:
        for key, item in value.items():
            yield from _places(key, f"{place}: as a key")
            yield from _places(item, f"{place}.{key:.60}")
