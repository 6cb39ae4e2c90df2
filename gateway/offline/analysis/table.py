"""The judged rows of an analysis as columns: an even sample of them, if there are more than memory is for."""

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gateway.offline.analysis.features import Value
from gateway.offline.unit_means import Floats, Integers

MAX_VALUES: Final = 40_000_000  # values in all columns, of 4 or 8 bytes each
ABSENT: Final = -1  # the code of a category that a row has not


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One judged row. `unit`: the prediction's number; `key`: what it was drawn by, equal for all requests of a key;
    `draw`: of a key that recurs, such as a customer, see `draw_of`, else NaN.

    `chance`: the probability of its variant, 0 if it was not drawn at random.
    """

    unit: int
    key: int
    version: int
    candidate: bool
    chance: float
    parts: Mapping[str, str]
    features: Mapping[str, Value]
    outcomes: Mapping[str, float]
    draw: float = math.nan


@dataclass(slots=True)
class _Categories:
    """A column of categories, as codes."""

    codes: "array[int]" = field(default_factory=lambda: array("i"))
    names: dict[str, int] = field(default_factory=dict)


class ExampleTable:
    """Collects rows, then gives their columns. `every`: one in so many predictions is kept."""

    def __init__(self, max_values: int = MAX_VALUES) -> None:
        self.every = 1
        self._max_values = max_values
        self._fixed: dict[str, array[Any]] = {
            "unit": array("q"), "key": array("q"), "version": array("q"), "candidate": array("b"), "chance": array("f"),
            "draw": array("d"),
        }  # fmt: skip
        self._numbers: dict[tuple[str, str], array[float]] = {}
        self._categories: dict[tuple[str, str], _Categories] = {}

    def __len__(self) -> int:
        return len(self._fixed["unit"])

    def add(self, row: Row) -> None:
        """Add a row, unless its prediction is not in the sample."""
        if row.unit % self.every:
            return
        count = len(self)
        for name, column in self._fixed.items():
            column.append(getattr(row, name))
        for name, value in row.outcomes.items():
            self._number("outcome", name, count, value)
        for name, text in row.parts.items():
            self._category("part", name, count, text)
        for name, feature in row.features.items():
            if isinstance(feature, str):
                self._category("feature", name, count, feature)
            else:
                self._number("feature", name, count, feature)
        columns = len(self._fixed) + len(self._numbers) + len(self._categories)
        if (count + 1) * columns >= self._max_values:
            self._halve()

    def columns(self) -> "Columns":
        """The columns, of equal length."""
        count = len(self)
        fixed = {name: np.array(column) for name, column in self._fixed.items()}
        numbers = {key: _padded(np.array(column, np.float64), count, np.nan) for key, column in self._numbers.items()}
        categories = {
            key: (_padded(np.array(column.codes, np.int64), count, ABSENT), list(column.names))
            for key, column in self._categories.items()
        }
        return Columns(
            unit=fixed["unit"],
            key=fixed["key"],
            version=fixed["version"],
            candidate=fixed["candidate"].astype(bool),
            draw=fixed["draw"],
            chance=fixed["chance"].astype(np.float64),
            outcomes={name: column for (side, name), column in numbers.items() if side == "outcome"},
            parts={name: column for (side, name), column in categories.items() if side == "part"},
            categories={name: column for (side, name), column in categories.items() if side == "feature"},
            numbers={name: column for (side, name), column in numbers.items() if side == "feature"},
        )

    def _number(self, side: str, name: str, count: int, value: float) -> None:
        column = self._numbers.get((side, name))
        if column is None:
            column = self._numbers[side, name] = array("f")
        if missing := count - len(column):
            column.extend([np.nan] * missing)
        column.append(value)

    def _category(self, side: str, name: str, count: int, value: str) -> None:
        column = self._categories.setdefault((side, name), _Categories())
        if missing := count - len(column.codes):
            column.codes.extend([ABSENT] * missing)
        column.codes.append(column.names.setdefault(value, len(column.names)))

    def _halve(self) -> None:
        """Keep every other prediction of those kept so far, whole."""
        self.every *= 2
        chosen = np.array(self._fixed["unit"]) % self.every == 0
        self._fixed = {name: _chosen(column, chosen) for name, column in self._fixed.items()}
        self._numbers = {key: _chosen(column, chosen) for key, column in self._numbers.items()}
        for column in self._categories.values():
            column.codes = _chosen(column.codes, chosen)


def _chosen(column: "array[Any]", chosen: Any) -> "array[Any]":
    kept = np.array(column)[chosen[: len(column)]]
    return array(column.typecode, kept.astype(column.typecode, copy=False).tobytes())


def _padded(column: Any, count: int, value: float) -> Any:
    return np.concatenate([column, np.full(count - len(column), value, column.dtype)])


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """The columns of the judged rows, all [rows]. Outcomes and numbers are NaN where a row has none.

    Categories are codes, ABSENT where a row has none, with their names.
    """

    unit: Integers
    key: Integers
    version: Integers
    candidate: Any
    draw: Floats
    chance: Floats
    outcomes: Mapping[str, Floats]
    parts: Mapping[str, tuple[Integers, Sequence[str]]]
    categories: Mapping[str, tuple[Integers, Sequence[str]]]
    numbers: Mapping[str, Floats]

    def __len__(self) -> int:
        return len(self.unit)
