"""Finds characters that give a YAML file another meaning than it appears to have, and names the remedy for each."""

import re
import unicodedata
from collections.abc import Callable, Sequence
from typing import Final

import yaml

_NO_TEXT: Final = re.compile(
    "[^\t\n\r\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_QUOTES: Final = "\u2018\u2019\u201a\u201b\u201c\u201d\u201e\u201f\uff02\uff07"
_SPACES: Final = "\u00a0\u00ad\u1680\u180e\u2000-\u200f\u202a-\u202f\u205f-\u2064\u2066-\u206f\u3000"
_SUSPECT: Final = re.compile(f"[\t{_SPACES}]|^[{_QUOTES}]|[{_QUOTES}]$")
_ANYWHERE: Final = re.compile(f"[\t{_SPACES}{_QUOTES}]")
_INDENT: Final = re.compile(r"[ \t]*(?:[-?:][ \t]+)*")
_KEY: Final = re.compile(r"[ \t]*[^\s:]+")  # all that is before the colon of a line's first key
_NO_PAIR: Final = re.compile(r"\s*[^\s:\-\[\]{}][^:\[\]{}]*")  # a word or several, and no item of a list
_NO_KEY: Final = frozenset(("could not find expected ':'", "did not find expected key"))
_NO_BEGINNING: Final = "@`%"
TAB: Final = "a tab; YAML indents with spaces: replace it by spaces"
Finding = tuple[int, str]  # an offset in a text, and the problem there


class YamlMistake(Exception):
    """A mistake at a place of a YAML file; `line` and `column` count from 0, and from 1 in the message."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(f"line {line + 1}, column {column + 1}: {message}")

    @classmethod
    def at(cls, text: str, position: int, message: str) -> "YamlMistake":
        before = text[:position].replace("\r\n", "\n").replace("\r", "\n")
        return cls(before.count("\n"), len(before) - before.rfind("\n") - 1, message)


def find_unreadable(text: str) -> YamlMistake | None:
    """Find the first character that YAML forbids or reads as an invisible line break, in quotes and comments too."""
    found = _NO_TEXT.search(text)
    if found is None:
        return None
    return YamlMistake.at(text, found.start(), f"not valid YAML: {_named(found[0])} is invisible here; remove it")


def misplaced_check(text: str) -> Callable[[str], Finding | None] | None:
    """Return a check for unquoted values; None if `text` contains none of the suspicious characters."""
    return _suspect if _ANYWHERE.search(text) else None


def _suspect(raw: str) -> Finding | None:
    found = _SUSPECT.search(raw)
    if found is None:
        return None
    character = found[0]
    if character == "\t":
        return found.start(), f"{TAB}, or put the value in quotes"
    if character in _QUOTES:
        remedy = "is not a quotation mark in YAML: write \" or '; if it is part of the text, quote the value"
        return found.start(), f"{_named(character)} {remedy}"
    return found.start(), f"{_named(character)} only looks like a space; replace it, or put the value in quotes"


def explain_yaml_error(text: str, error: yaml.MarkedYAMLError) -> str:
    """Format the parser's error with its place, or with the cause: a tab, or a character that cannot begin a value."""
    mark = error.problem_mark
    if mark is None:
        return f"not valid YAML: {error.problem or error}"
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    line = lines[mark.line] if mark.line < len(lines) else ""
    tab = _tab(line, mark.column)
    if tab is not None:
        return str(YamlMistake(mark.line, tab, TAB))
    problem = error.problem or "it ends too early"
    remedy = _remedy(lines, mark.line, mark.column, problem)
    return str(YamlMistake(mark.line, mark.column, f"not valid YAML: {problem}{remedy}"))


def _tab(line: str, column: int) -> int | None:
    """The column of a tab at the place of an error or in the indentation before it; None if there is none."""
    if line[column : column + 1] == "\t":
        return column
    indent = _INDENT.match(line)
    tab = line.find("\t", 0, indent.end() if indent else 0)
    return tab if tab >= 0 else None


def _remedy(lines: Sequence[str], number: int, column: int, problem: str) -> str:
    line = lines[number] if number < len(lines) else ""
    character = line[column : column + 1]
    if character and character in _NO_BEGINNING:
        return f": '{character}' cannot begin a value; put the value in quotes"
    if column and line[column - 1] in "*&":
        return f": a value that begins with '{line[column - 1]}' needs quotes"
    before = _line_before(lines, number)
    if problem in _NO_KEY and before is not None and _NO_PAIR.fullmatch(_without_comment(lines[before])):
        return f": line {before + 1} has no ': ' after its key"
    if character == ":" and problem.startswith("mapping values"):
        if _KEY.fullmatch(line[:column]) and before is not None:
            return f": it is read as more of line {before + 1}; give that one a ': ', or both the same indentation"
        return ": a value that contains ': ' needs quotes"
    return ""


def _line_before(lines: Sequence[str], number: int) -> int | None:
    """The last line before it that is neither empty nor a comment."""
    return next((at for at in range(number - 1, -1, -1) if _without_comment(lines[at])), None)


def _without_comment(line: str) -> str:
    return "" if line.lstrip().startswith("#") else line.partition(" #")[0].rstrip()


def _named(character: str) -> str:
    return f"U+{ord(character):04X} ({unicodedata.name(character, 'a control character').lower()})"
