"""The kinds of value that the YAML files hold: text, numbers, durations, sizes, percentages, names."""

import re
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final, Literal
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticKnownError

from gateway.settings.scalars import DateText, UnsupportedNumber, why_no_text, written

PPM: Final = 1_000_000
_QUANTITY: Final = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z%/µ]*)\s*")
_SECONDS: Final = {"us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {"": 1, "B": 1, **{f"{p}B": 1000**i for i, p in enumerate("KMGT", 1)}}
_BYTES.update({f"{p}iB": 1024**i for i, p in enumerate("KMGT", 1)})
_NAME: Final = r"[A-Za-z0-9_-][A-Za-z0-9_.-]*"


def odd(value: Any) -> str:
    """Why a number is not taken; empty where it is none that YAML's readers differ about."""
    return (
        ", as YAML readers differ about it; write it in plain decimal digits"
        if isinstance(value, UnsupportedNumber)
        else ""
    )


def _split(value: Any, example: str) -> tuple[Decimal, str]:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    text = format(Decimal(repr(value)), "f") if number else value  # 1e-05 as 0.00001
    match = _QUANTITY.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(f"{value!r:.60} is not understood{odd(value)}; write for example {example}")
    return Decimal(match[1]), match[2]


def parse_seconds(value: Any) -> float:
    """Seconds from "20s", "500ms", "0us", "10m", "1h"; a bare 0 needs no unit."""
    number, unit = _split(value, "20s or 500ms")
    if unit == "" and number == 0:
        return 0.0
    if unit not in _SECONDS:
        raise ValueError(f"{value!r} needs a unit of time: us, ms, s, m, h or d, for example {number}s")
    return float(number) * _SECONDS[unit]


def parse_bytes(value: Any) -> int:
    """Bytes from "64MiB", "10KB" or a bare whole number."""
    number, unit = _split(value, "64MiB")
    if unit not in _BYTES:
        raise ValueError(f"{value!r} has an unknown unit; known are {', '.join(filter(None, _BYTES))}")
    size = number * _BYTES[unit]
    if size != int(size):
        raise ValueError(f"{value!r} is no whole number of bytes")
    return int(size)


def parse_ppm(value: Any) -> int:
    """Parts per million from a percentage: 10, 0.1 or "1%"."""
    try:
        number, unit = _split(value, "10 or 0.1%, percent from 0 to 100")
        ppm = number * 10_000
    except InvalidOperation:
        raise ValueError(f"{value!r} is no percentage") from None
    if unit not in ("", "%") or not 0 <= ppm <= PPM:
        raise ValueError(f"{value!r} is no percentage from 0 to 100")
    if ppm != int(ppm):
        raise ValueError(f"{value!r} is finer than 0.0001%, the resolution of a split")
    return int(ppm)


def parse_share(value: Any) -> float:
    """A share from 0 to 1 out of a percentage."""
    number, unit = _split(value, "1%")
    if unit not in ("", "%") or not 0 <= number <= 100:
        raise ValueError(f"{value!r} is no percentage from 0 to 100")
    return float(number) / 100


def parse_rate(value: Any) -> float:
    """Requests per second from "100/s" or "600/m"."""
    number, unit = _split(value, "100/s")
    if unit not in ("/s", "/m") or number <= 0:
        raise ValueError(f"{value!r} is no rate; write for example 100/s")
    return float(number) / (1 if unit == "/s" else 60)


def _parsed(parse: Callable[[Any], Any], kinds: list[str], examples: list[Any]) -> tuple[Any, Any]:
    return BeforeValidator(parse), WithJsonSchema({"type": kinds, "examples": examples})


Seconds = Annotated[float, *_parsed(parse_seconds, ["string", "integer"], ["20s", "500ms", "10m", 0])]
Bytes = Annotated[int, *_parsed(parse_bytes, ["string", "integer"], ["64MiB", 65536])]
WeightPpm = Annotated[int, *_parsed(parse_ppm, ["string", "number"], [10, 0.1, "1%"])]
Share = Annotated[float, *_parsed(parse_share, ["string", "number"], ["1%", 1])]
Rate = Annotated[float, *_parsed(parse_rate, ["string"], ["100/s", "60/m"])]


def parse_text(value: Any) -> str:
    """`value` as it is written, quoted or not; what YAML takes for true, for nothing or for a date is refused."""
    text = written(value)
    if text is None:
        raise ValueError(why_no_text(value))
    return text


Text = Annotated[str, BeforeValidator(parse_text), WithJsonSchema({"type": ["string", "number"]})]


def _counted(kind: Literal["int", "float"]) -> Any:
    def counted(value: Any) -> Any:
        if isinstance(value, bool):
            raise PydanticKnownError("int_type" if kind == "int" else "float_type")
        if isinstance(value, str) and "_" in value:  # which pydantic would pass over
            raise PydanticKnownError("int_parsing" if kind == "int" else "float_parsing")
        return value

    return counted


parse_whole: Final = _counted("int")
parse_number: Final = _counted("float")
Whole = Annotated[int, BeforeValidator(parse_whole)]
Number = Annotated[float, BeforeValidator(parse_number)]
Count = Annotated[Whole, Field(gt=0)]


def parse_moment(value: Any) -> Any:
    """The text of a date without quotes."""
    return value.text if isinstance(value, DateText) else value


def parse_name(value: Any) -> str:
    """`value`, where it can name a model, a route or a guard."""
    if not isinstance(value, str):
        number = written(value)
        raise ValueError(f"YAML reads {number:.60} as a number; put it in quotes" if number else why_no_text(value))
    if not re.fullmatch(_NAME, value):
        raise ValueError(f"{value!r} is no name: letters, digits, '_', '-' and '.', not starting with '.'")
    return value


Name = Annotated[str, BeforeValidator(parse_name), WithJsonSchema({"type": "string", "pattern": f"^{_NAME}$"})]


LARGEST_VERSION: Final = 2**32 - 1  # what a prediction's id has room for


def parse_version(value: Any) -> int:
    """`value`, where it is a version of a model."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1 or repr(value) != str(int(value)):
        plain = ", written plainly: 1, not 01, 1.0, +1 or '1'" if written(value) else ""
        raise ValueError(f"{value!r:.60} is no version; versions are whole numbers from 1{plain}")
    if value > LARGEST_VERSION:
        raise ValueError(f"{value!r:.60} is no version; {LARGEST_VERSION} is the largest, so a date has room, no time")
    return int(value)


Version = Annotated[
    int,
    BeforeValidator(parse_version),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": LARGEST_VERSION}),
]


def _address(value: Any) -> str:
    parts = urlsplit(value) if isinstance(value, str) else None
    if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{value!r} is no address; write for example http://127.0.0.1:4318")
    if parts.username is not None or parts.query or parts.fragment:
        raise ValueError("an address here has no user, password, query or fragment")
    return str(value)


Address = Annotated[
    str, BeforeValidator(_address), WithJsonSchema({"type": "string", "format": "uri", "pattern": "^https?://[^@?#]+$"})
]
