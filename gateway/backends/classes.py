"""Reads the predicted classes from an output, and the class that a truth names."""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from gateway.backends.class_output import ClassOutput, OutputKind
from gateway.backends.onnx import Result
from gateway.protocol.classification import NO_CLASS

MAX_CLASSES: Final = 2**31 - 1
SECOND_CLASS_FROM: Final = 0.5  # a single probability from here on means the second class
_NUMBER: Final = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?")
_FLAGS: Final = frozenset({"true", "false"})
_Read = Callable[[Any], list[int]]


class Classes:
    """The classes of one model version. `labels`: their names in order; empty if they have none.

    `no_class_reason`: why no class can be read from the version's answers; empty if one can.
    """

    __slots__ = (
        "_count", "_flags", "_index", "_numbers", "_one_row", "_position", "_read", "labels", "no_class_reason",
    )  # fmt: skip

    def __init__(self, output: ClassOutput) -> None:
        self.labels = output.labels
        self.no_class_reason = output.no_class_reason
        self._position = output.position
        self._count = len(output.labels) or output.width
        self._one_row = (1, self._count) if self._count else None
        names = self.labels or (("false", "true") if output.kind is OutputKind.FLAGS else ())
        self._index = {name: index for index, name in enumerate(names)}
        self._numbers = {float(label): index for label, index in self._index.items() if _NUMBER.fullmatch(label)}
        self._flags = {name.lower() == "true": index for name, index in self._index.items() if name.lower() in _FLAGS}
        if output.kind is OutputKind.FLAGS and len(self._flags) != 2:
            self._flags = {False: 0, True: 1}
        readers: Mapping[OutputKind, _Read] = {
            OutputKind.NONE: lambda result: [],
            OutputKind.SCORES: self._of_scores,
            OutputKind.SINGLE: _of_single,
            OutputKind.FLAGS: self._of_labels,
            OutputKind.NUMBERS: self._of_labels,
            OutputKind.NAMES: self._of_names,
        }
        self._read: _Read = readers[output.kind]

    def predicted(self, results: Sequence[Result]) -> list[int]:
        """The class of each row, NO_CLASS for a row without one; empty if the model predicts no classes."""
        if self._position is None:
            return []
        result = results[self._position]
        return [] if result is None else self._read(result)

    def index_of(self, truth: object) -> int | None:
        """The class that feedback refers to: by name, by a number that is its name, or by index; None if there is none.

        If classes are named by numbers, a number is a name: of ["3", "5"], 1 is no class. A text is a name or, if
        classes have no names, an index.
        """
        if isinstance(truth, str):
            named = self._index.get(truth)
            is_index = not self.labels and truth.isascii() and truth.isdigit() and len(truth) < 11
            return self._nth(int(truth)) if is_index else named
        if isinstance(truth, bool):
            return self._flags.get(truth)
        if not isinstance(truth, int | float) or not abs(truth) <= MAX_CLASSES:  # NaN is not
            return None
        if self._numbers:
            return self._numbers.get(truth)
        return self._nth(int(truth)) if truth == int(truth) else None

    @property
    def count(self) -> int | None:
        """The number of classes, if it is known."""
        return self._count

    @property
    def known(self) -> str:
        """The classes, for an error message."""
        if self.labels:
            return f"its classes are {', '.join(self.labels[:20])}{', …' if len(self.labels) > 20 else ''}"
        return f"its classes are the numbers from 0 to {self._count - 1}" if self._count else "its classes are numbers"

    def _nth(self, index: int) -> int | None:
        return index if 0 <= index < (self._count or MAX_CLASSES + 1) else None

    def _of_scores(self, result: Any) -> list[int]:
        """The class with the highest score in each row, of equal ones the first. Rows with NaN have none."""
        shape = result.shape
        if shape == self._one_row:  # the common case, and numpy's fastest path
            index = int(result.argmax())
            score = result.item(index)
            return [index if score == score else NO_CLASS]
        if len(shape) != 2 or not result.size:
            return []
        if self._count is not None and shape[1] != self._count:
            return [NO_CLASS] * shape[0]
        best = result.argmax(axis=1)
        highest = result[np.arange(shape[0]), best]
        return [int(index) for index in np.where(np.isnan(highest), NO_CLASS, best)]

    def _of_labels(self, result: Any) -> list[int]:
        return [NO_CLASS if (index := self.index_of(label)) is None else index for label in _column(result)]

    def _of_names(self, result: Any) -> list[int]:
        return [self._index.get(str(name), NO_CLASS) for name in _column(result)]


def _of_single(result: Any) -> list[int]:
    """The class from one probability per row, that of the second of two classes."""
    return [int(score >= SECOND_CLASS_FROM) if 0 <= score <= 1 else NO_CLASS for score in _column(result)]


def _column(result: Any) -> list[Any]:
    """The one value of each row; empty if rows have more."""
    rows = len(result) if result.ndim else 1
    return result.ravel().tolist() if math.prod(result.shape[1:]) == 1 or not rows else []
