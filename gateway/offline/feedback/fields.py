"""Which columns of a file hold which fields of feedback, and the feedback that a row of it says."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from gateway.errors import GatewayError

PREDICTION_ID: Final = "prediction_id"
FIELDS: Final = (PREDICTION_ID, "row", "truth", "reward", "metrics", "comment")
KEYS: Final = frozenset((PREDICTION_ID, "row"))  # which say of what a line is the feedback
OUTCOMES: Final = ("truth", "reward", "metrics")  # feedback has at least one of them
METRIC: Final = "metrics."
_SEPARATORS: Final = {";": "semicolons", "\t": "tabs"}  # as spreadsheets write CSV in some languages
_MAX_ID: Final = 1024  # characters; the gateway's own ids have about 75


@dataclass(frozen=True, slots=True)
class Entry:
    """The feedback of one line. `line` counts from 1: the line of a text file, the row of a Parquet file.

    `fields`: the JSON object to send; `error`: why there is none to send, else empty.
    """

    line: int
    fields: Mapping[str, Any]
    error: str = ""


def parse_map(pairs: Sequence[str]) -> dict[str, str]:
    """Parse `FIELD=COLUMN` pairs to columns by field. Raises GatewayError."""
    columns: dict[str, str] = {}
    for pair in pairs:
        name, equals, column = pair.partition("=")
        if not equals or not column or not _is_field(name):
            raise GatewayError(
                f"--map {pair}: give FIELD=COLUMN, where FIELD is one of {', '.join(FIELDS)}, {METRIC}NAME"
            )
        columns[name] = column
    return columns


def _is_field(name: str) -> bool:
    return name in FIELDS or (name.startswith(METRIC) and len(name) > len(METRIC))


@dataclass(slots=True)
class Columns:
    """Finds the fields among a file's columns. `mapped`: columns by field, where they are not called like the field.

    `ignored`: columns that hold no field, as far as they have been seen.
    """

    mapped: Mapping[str, str]
    ignored: set[str] = field(default_factory=set)
    _fields: dict[str, str | None] = field(default_factory=dict)

    def fields_of(self, names: Sequence[str]) -> list[str | None]:
        """The field that each column holds, None for a column without one."""
        return [self._field_of(name) for name in names]

    def check(self, names: Sequence[str]) -> None:
        """Raise GatewayError unless there is a column of ids, and one that says something of them."""
        found = {name for name in self.fields_of(names) if name}
        if len(names) == 1 and (other := next((one for one in _SEPARATORS if one in names[0]), None)):
            raise GatewayError(
                f"its first line has no comma: {names[0]:.200}; the cells seem to be separated by {_SEPARATORS[other]},"
                " but must be separated by commas"
            )
        there = f"the columns are {', '.join(names)}; name others with --map FIELD=COLUMN"
        if missing := sorted(set(self.mapped.values()) - set(names)):
            raise GatewayError(f"--map: there is no column '{missing[0]}': the columns are {', '.join(names)}")
        if PREDICTION_ID not in found:
            raise GatewayError(f"no column is called {PREDICTION_ID}: {there}")
        if not any(name in OUTCOMES or name.startswith(METRIC) for name in found):
            raise GatewayError(f"no column is called truth, reward, metrics or {METRIC}NAME: {there}")

    def _field_of(self, column: str) -> str | None:
        if column not in self._fields:
            found = [name for name, mapped in self.mapped.items() if mapped == column]
            known = column if _is_field(column) and column not in self.mapped else None
            self._fields[column] = found[0] if found else known
            if self._fields[column] is None:
                self.ignored.add(column)
        return self._fields[column]


def entry_of(line: int, fields: Sequence[str | None], values: Sequence[Any]) -> Entry:
    """Make the entry of one row; a missing value (None, NaN) is a field that is not given."""
    said: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    for name, value in zip(fields, values, strict=True):
        if name is None or value is None or (type(value) is float and math.isnan(value)):
            continue
        if name.startswith(METRIC):
            metrics[name.removeprefix(METRIC)] = value
        elif name == "metrics":
            metrics |= _object(value)
        else:
            said[name] = value
    if metrics:
        said["metrics"] = metrics
    return Entry(line, said, _problem(said))


def _object(value: Any) -> dict[str, Any]:
    """The metrics of one column: an object, or the (name, value) pairs that a Parquet map is read as."""
    if isinstance(value, list) and all(isinstance(pair, tuple) and len(pair) == 2 for pair in value):
        return dict(value)
    return value if isinstance(value, dict) else {"": value}  # the empty name is refused


def _problem(said: Mapping[str, Any]) -> str:
    """Why the gateway would refuse these fields, as far as their form shows it; empty if it does not."""
    prediction_id = said.get(PREDICTION_ID)
    if prediction_id is None:
        return f"has no {PREDICTION_ID}"
    if type(prediction_id) is not str or not 0 < len(prediction_id) <= _MAX_ID:
        return f"{PREDICTION_ID} must be the text in the prediction's response"
    if not any(name in said for name in OUTCOMES):
        return "is empty: give at least one of truth, reward, metrics"
    if type(said.get("comment", "")) is not str:
        return "comment must be a text"
    if not _are_numbers(said.get("reward", 0)):
        return f"reward must be a number, or a list with a number for each row; got {said['reward']!r:.60}"
    for name, value in said.get("metrics", {}).items():
        if not name:
            return f"metrics must be an object of numbers by name, got {value!r:.60}"
        if not _are_numbers(value):
            return f"{METRIC}{name:.60} must be a number, or a list with a number for each row; got {value!r:.60}"
    try:
        orjson.dumps(said)
    except TypeError as error:
        return f"holds a value that JSON cannot express: {error}"
    return ""


def _are_numbers(value: Any) -> bool:
    if type(value) is list:
        return all(one is None or (type(one) is not list and _are_numbers(one)) for one in value)
    return type(value) in (int, float) and math.isfinite(value)
