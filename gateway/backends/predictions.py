"""Reads what a version predicts from its answers: the class, the labels or the number of each row, by output."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from gateway.backends.class_output import ClassOutput, OutputKind
from gateway.backends.classes import Classes
from gateway.backends.measurable import Measurable, Measurables
from gateway.backends.onnx import Result
from gateway.protocol.classification import NO_CLASS
from gateway.protocol.tensors import Array
from gateway.settings.model import Kind, PredictionSettings

THRESHOLD: Final = 0.5  # of a label's score
Rows = list[Any]  # by kind: a class index, a tuple of label indices, a number, the length of a ranked list; None: none
NO_ROWS: Final[Rows] = []
_DESCRIBED: Final[Mapping[Kind, str]] = {
    Kind.CLASSIFICATION: "classes",
    Kind.MULTILABEL: "labels",
    Kind.REGRESSION: "regression",
    Kind.RANKING: "ranking",
    Kind.EMBEDDING: "embedding",
}
_MAX_DESCRIBED: Final = 10  # labels


@dataclass(frozen=True, slots=True)
class OutputPrediction:
    """What one output predicts. `position`: among the outputs; `classes`: of a classification, or the labels.

    `reason`: why its predictions are compared with no truth; empty if they are.
    """

    output: str
    kind: Kind
    position: int
    classes: Classes
    settings: PredictionSettings
    reason: str = ""

    def rows(self, results: Sequence[Result]) -> Rows:
        """What is predicted for each row; empty for kinds without a value, or if the output has another form."""
        return _READERS[self.kind](self, results)

    @property
    def described(self) -> str:
        """What it predicts, for `gateway check`."""
        if self.kind is Kind.NONE:
            return "none: accuracy and drift are not measured"
        about = _DESCRIBED[self.kind]
        if self.kind in (Kind.CLASSIFICATION, Kind.MULTILABEL):
            labels = self.classes.labels
            more = ", …" if len(labels) > _MAX_DESCRIBED else ""
            return f"{about}: {', '.join(labels[:_MAX_DESCRIBED])}{more}" if labels else f"{about} on {self.output}"
        bounds = self.settings.range
        details = [self.settings.unit or "", f"{bounds[0]:g} to {bounds[1]:g}" if bounds else ""]
        named = ", ".join(filter(None, details))
        return f"{about} on {self.output}{f' ({named})' if named else ''}"


class Predictions:
    """What the outputs of one version predict, the main one first. `classes`: those of the main output, for the hot
    path; `only_classes`: there are no others, and nothing else is predicted.
    """

    __slots__ = ("classes", "main", "only_classes", "outputs")

    def __init__(self, outputs: Sequence[OutputPrediction]) -> None:
        self.outputs = tuple(outputs)
        self.main = self.outputs[0]
        self.only_classes = len(self.outputs) == 1 and self.main.kind is Kind.CLASSIFICATION
        self.classes = self.main.classes
        if self.main.kind not in (Kind.CLASSIFICATION, Kind.NONE):
            reason = f"output '{self.main.output}' is a {self.main.kind}, not a classification"
            self.classes = Classes(ClassOutput(OutputKind.NONE, no_class_reason=reason))

    @property
    def measurable(self) -> Measurables:
        """What can be measured of each output."""
        return tuple(
            Measurable(one.kind, one.output, one.reason, one.settings.loss_range, one.described) for one in self.outputs
        )


def _classes(output: OutputPrediction, results: Sequence[Result]) -> Rows:
    return [None if index == NO_CLASS else index for index in output.classes.predicted(results)]


def _labels(output: OutputPrediction, results: Sequence[Result]) -> Rows:
    """The indices of each row's labels; None for a row with NaN."""
    scores = results[output.position]
    if scores is None or scores.ndim != 2 or scores.shape[1] != output.classes.count:
        return NO_ROWS
    threshold = output.settings.threshold
    flags: Array = scores >= (THRESHOLD if threshold is None else threshold)
    rows = range(len(scores))
    unknown: Any = np.isnan(scores).any(axis=1).tolist() if scores.dtype.kind == "f" else [False for _ in rows]
    return [None if unknown[row] else tuple(np.flatnonzero(flags[row]).tolist()) for row in rows]


def _numbers(output: OutputPrediction, results: Sequence[Result]) -> Rows:
    """The number of each row; None if it is not finite."""
    column = results[output.position]
    if column is None:
        return NO_ROWS
    if column.size == 1:  # the common case: one row
        number = float(column.item())
        return [number if number - number == 0 else None]
    if column.size != len(column):
        return NO_ROWS
    return [number if number - number == 0 else None for number in column.ravel().tolist()]


def _list_lengths(output: OutputPrediction, results: Sequence[Result]) -> Rows:
    """The length of each list: a column of scores is one list of items, and each row of several scores a list."""
    scores = results[output.position]
    if scores is None or scores.ndim > 2:
        return NO_ROWS
    if scores.ndim < 2 or scores.shape[1] == 1:
        return [scores.size]
    return [scores.shape[1]] * len(scores)


def _nothing(output: OutputPrediction, results: Sequence[Result]) -> Rows:
    return NO_ROWS


_READERS: Final[Mapping[Kind, Callable[[OutputPrediction, Sequence[Result]], Rows]]] = {
    Kind.CLASSIFICATION: _classes,
    Kind.MULTILABEL: _labels,
    Kind.REGRESSION: _numbers,
    Kind.RANKING: _list_lengths,
    Kind.EMBEDDING: _nothing,
    Kind.NONE: _nothing,
}
