"""The types of values in the YAML files: text, numbers, durations, sizes, percentages, rates, names, versions."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticKnownError

from gateway.settings.scalars import DateText, UnsupportedNumber, shown, text_as_written, why_no_text

PPM: Final = 1_000_000
_QUANTITY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%/µ]*)\s*")
_SECONDS: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"": 1, "B": 1, **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}}
_BYTES.update({f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)})
_NAME: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"


def unsupported_number_reason(value: Any) -> str:
    """Return the reason to append to an error if YAML parsers disagree about this number; else an empty string."""
    return (
        ", since YAML parsers disagree about it; write it in plain decimal digits"
        if isinstance(value, UnsupportedNumber)
        else ""
    )


def _split(value: Any, example: str) -> tuple[Decimal, str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = format(Decimal(repr(value)), "f") if number else value  # 1e-05 as 0.00001
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            f"{shown(value)} is not understood{unsupported_number_reason(value)}; write for example {example}"
        )
    return Decimal(match[1]), match[2]


def parse_seconds(value: Any) -> float:
    """Parse "20s", "500ms", "0us", "10m", "1h" to seconds; a bare 0 needs no unit."""
    number, unit = _split(value, "20s or 500ms")
    if unit == "" and number == 0:
        return 0.0
    if unit not in _SECONDS:
        raise ValueError(
            f"{value!r} needs a unit of time: us, ms, s, m, h or d; write for example {number}ms or {number}s"
        )
    return float(number) * _SECONDS[unit]


def parse_bytes(value: Any) -> int:
    """Parse "64MiB", "10KB" or a bare whole number to bytes."""
    number, unit = _split(value, "64MiB")
    if unit not in _BYTES:
        raise ValueError(f"{value!r} has an unknown unit; known are {', '.join(filter(None, _BYTES))}")
    size = number * _BYTES[unit]
    if size != int(size):
        raise ValueError(f"{value!r} is not a whole number of bytes")
    return int(size)


def parse_ppm(value: Any) -> int:
    """Parse a percentage (10, 0.1 or "1%") to parts per million."""
    try:
        number, unit = _split(value, "10 or 0.1%, percent from 0 to 100")
        ppm = number * 10_000
    except InvalidOperation:
        raise ValueError(f"{value!r} is not a percentage") from None
    if unit not in ("", "%") or not 0 <= ppm <= PPM:
        raise ValueError(f"{value!r} is not a percentage from 0 to 100")
    if ppm != int(ppm):
        raise ValueError(f"{value!r} is finer than 0.0001%, the resolution of a split")
    return int(ppm)


def parse_percent(value: Any) -> Any:
    """Return the number of a percentage that is written with its sign ("1%"); other values unchanged."""
    if isinstance(value, str) and value.endswith("%"):
        return parse_ppm(value) / 10_000
    return parse_number(value)


def parse_share(value: Any) -> float:
    """Parse a percentage to a share from 0 to 1."""
    number, unit = _split(value, "1%")
    if unit not in ("", "%") or not 0 <= number <= 100:
        raise ValueError(f"{value!r} is not a percentage from 0 to 100")
    return float(number) / 100


def parse_rate(value: Any) -> float:
    """Parse "100/s" or "600/m" to requests per second."""
    number, unit = _split(value, "100/s")
    if unit not in ("/s", "/m") or number <= 0:
        raise ValueError(f"{value!r} is not a rate; write for example 100/s")
    return float(number) / (1 if unit == "/s" else 60)


def _parsed(parse: Callable[[Any], Any], kinds: list[str], examples: list[Any]) -> tuple[Any, Any]:
    return BeforeValidator(parse), WithJsonSchema({"type": kinds, "examples": examples})


Seconds = Annotated[float, *_parsed(parse_seconds, ["string", "integer"], ["20s", "500ms", "10m", 0])]
Bytes = Annotated[int, *_parsed(parse_bytes, ["string", "integer"], ["64MiB", 65536])]
WeightPpm = Annotated[int, *_parsed(parse_ppm, ["string", "number"], [10, 0.1, "1%"])]
Share = Annotated[float, *_parsed(parse_share, ["string", "number"], ["1%", 1])]
Percent = Annotated[float, *_parsed(parse_percent, ["string", "number"], [10, 0.1, "1%"])]
Rate = Annotated[float, *_parsed(parse_rate, ["string"], ["100/s", "60/m"])]


def parse_text(value: Any) -> str:
    """Return `value` as it is written, quoted or not; unquoted words that YAML reads as a boolean, null or a date raise
    ValueError.
    """
    text = text_as_written(value)
    if text is None:
        raise ValueError(why_no_text(value))
    return text


Text = Annotated[str, BeforeValidator(parse_text), WithJsonSchema({"type": ["string", "number"]})]


def _counted(kind: Literal["int", "float"]) -> Any:
    def counted(value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticKnownError("int_type" if kind == "int" else "float_type")
        if isinstance(value, str) and "_" in value:  # pydantic would ignore the underscore
            raise PydanticKnownError("int_parsing" if kind == "int" else "float_parsing")
        return value

    return counted


parse_whole: Final = _counted("int")
parse_number: Final = _counted("float")
Whole = Annotated[int, BeforeValidator(parse_whole)]
Number = Annotated[float, BeforeValidator(parse_number)]
Count = Annotated[Whole, Field(gt=0)]


def parse_moment(value: Any) -> Any:
    """Return the text of an unquoted date; other values are returned unchanged."""
    return value.text if isinstance(value, DateText) else value


def parse_name(value: Any) -> str:
    """Return `value` if it is a valid name of a model, a route or a guard; raises ValueError."""
    if not isinstance(value, str):
        number = text_as_written(value)
        raise ValueError(f"YAML reads {number:.60} as a number; put it in quotes" if number else why_no_text(value))
    if not re.fullmatch(_NAME, value):
        raise ValueError(f"{value!r} is not a valid name: use letters, digits, '_', '-' and '.', not starting with '.'")
    return value


Name = Annotated[str, BeforeValidator(parse_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})]


LARGEST_VERSION: Final = 2**32 - 1  # a prediction id has 4 bytes for it


def parse_version(value: Any) -> int:
    """Return `value` if it is a valid version of a model; raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or repr(value) != str(int(value)):
        plain = ", written plainly: 1, not 01, 1.0, +1 or '1'" if text_as_written(value) else ""
        raise ValueError(f"{shown(value)} is not a version; versions are whole numbers from 1{plain}")
    if value > LARGEST_VERSION:
        raise ValueError(
            f"{value!r:.60} is not a version; {LARGEST_VERSION} is the largest, so a date fits, but no time"
        )
    return int(value)


Version = Annotated[
    int,
    BeforeValidator(parse_version),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": LARGEST_VERSION}),
]


def _address(value: Any) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{value!r} is not an address; write for example http://127.0.0.1:4318")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("the address must not have a user, password, query or fragment")
    return str(value)


Address = Annotated[
    str, BeforeValidator(_address), WithJsonSchema({"type": "string", "format": "uri", "pattern": "^https?://[^@?#]+$"})
]
