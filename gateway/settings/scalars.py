"""Interprets unquoted values of a YAML file.

YAML 1.1 and 1.2 read `0123`, `12:30`, `1_000`, `0o17` and `on` differently. Here only plain decimal numbers are
numbers, and they keep the text they were written as. A value that YAML parsers disagree about is an
`UnsupportedNumber`, which is accepted only as text. Words for true, false or null, and dates, are accepted as text only
if they are quoted.
"""

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

_NULLS: Final = frozenset(("", "~", "null", "Null", "NULL"))
_WORDS: Final = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_FLAGS: Final = {
    spelt: value for word, value in _WORDS.items() for spelt in (word, word.capitalize(), word.upper())
}  # fmt: skip
_NUMBER: Final = re.compile(r"[-+]?(?:(?:0|[1-9][0-9]*)(\.[0-9]*)?|(\.[0-9]+))([eE][-+]?[0-9]+)?")
_ODD: Final = re.compile(
    r"""[-+]?(?:0[bB][01_]+|0[oO][0-7_]+|0[xX][0-9a-fA-F_]+                # other bases
        |[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?                       # base 60
        |[0-9][0-9_]*(?:\.[0-9_]*)?(?:[eE][-+]?[0-9]+)?                    # leading zeros, underscores
        |\.[0-9][0-9_]*(?:[eE][-+]?[0-9]+)?|\.(?:inf|Inf|INF))|\.(?:nan|NaN|NAN)""",
    re.VERBOSE,
)
_DATE: Final = re.compile(
    r"""[0-9]{4}-[0-9]{2}-[0-9]{2}|[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}
        (?:[Tt]|[ \t]+)[0-9]{1,2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]*)?(?:[ \t]*(?:Z|[-+][0-9]{1,2}(?::?[0-9]{2})?))?""",
    re.VERBOSE,
)
MAX_DIGITS: Final = 300  # no setting is a longer number


class Whole(int):
    """A whole number; `text` is how it was written."""

    text: str

    def __repr__(self) -> str:
        return self.text


class Fraction(float):
    """A number with a decimal point or an exponent; `text` is how it was written."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class UnsupportedNumber:
    """A value that YAML parsers read as different numbers, or some as a number and others as text."""

    text: str

    def __repr__(self) -> str:
        return self.text


@dataclass(frozen=True, slots=True)
class DateText:
    """A date, with or without a time."""

    text: str

    def __repr__(self) -> str:
        return self.text


Scalar = str | Whole | Fraction | UnsupportedNumber | DateText | bool | None


def read(text: str) -> Scalar:
    """Interpret an unquoted value."""
    if text in _NULLS:
        return None
    if text in _FLAGS:
        return _FLAGS[text]
    if text[0] not in "+-.0123456789":
        return text
    number = _NUMBER.fullmatch(text)
    if number is not None and len(text) <= MAX_DIGITS:
        return _whole(text) if not any(number.groups()) else _fraction(text)
    if _DATE.fullmatch(text):
        return DateText(text)
    return UnsupportedNumber(text) if number is not None or _ODD.fullmatch(text) else text


def _whole(text: str) -> Whole:
    value = Whole(text)
    value.text = text
    return value


def _fraction(text: str) -> Fraction | UnsupportedNumber:
    value = Fraction(text)
    value.text = text
    lost = not math.isfinite(value) or (not value and Decimal(text) != 0)
    return UnsupportedNumber(text) if lost else value


def text_as_written(value: Any) -> str | None:
    """Return a value as text, as it was written; None if it is not accepted as text."""
    if isinstance(value, str):
        return value
    if isinstance(value, Whole | Fraction | UnsupportedNumber):
        return value.text
    return repr(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def shown(value: Any) -> str:
    """Return a value for an error message, of 60 characters at most; true, false and null as YAML spells them."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else f"{value!r:.60}"


def why_no_text(value: Any) -> str:
    """Return the reason and the remedy for a value that is not accepted as text."""
    if isinstance(value, bool):
        return f"YAML reads this as {str(value).lower()}; put it in quotes"
    if isinstance(value, DateText):
        return f"YAML reads {value.text} as a date; put it in quotes"
    if value is None:
        return "YAML reads this as null, which is not text; put it in quotes, or give it a value"
    return f"{value!r:.60} is not text"
