"""The rows of a recorded prediction: what was predicted for each, what is known of it, and how far off it was."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from gateway.offline.merged_feedback import StoredFeedback
from gateway.offline.row_outcomes import label_set, of_class, outcomes_of
from gateway.protocol.tensors import Array, Tensor
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind

THRESHOLD: Final = 0.5  # of a label's score
METRIC: Final = "metrics."


@dataclass(frozen=True, slots=True)
class Predicting:
    """What a model predicts. `output`: the one that holds it, None if unknown; `kind`: None if it is not said.

    `labels`: names of the classes or labels; `threshold`: from which score on a row has a label.
    """

    output: str | None = None
    kind: Kind | None = None
    labels: Sequence[str] = ()
    threshold: float = THRESHOLD

    def name_of(self, number: Any) -> str:
        """The name of a class by its index, or of the labels of a row; a number as it is; "-" for None."""
        if number is None:
            return "-"
        if isinstance(number, list | tuple | frozenset):
            return ", ".join(self.name_of(one) for one in sorted(number)) or "(none)"
        if type(number) is float:
            return f"{number:.6g}"
        return self.labels[number] if 0 <= number < len(self.labels) else str(number)


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One row. `predicted`: a class index, a number, the indices of labels or the length of a list, by `kind`.

    `outcomes`: by name, as in the records, for what is known; `scores`: of the classes, for a classification.
    `true_labels`: the indices of the labels that the truth says.
    """

    row: int
    kind: Kind | None
    predicted: Any = None
    truth: Any = None
    truth_class: int | None = None
    correct: bool | None = None
    outcomes: Mapping[str, float] = field(default_factory=dict)
    scores: Array | None = None
    true_labels: frozenset[int] = frozenset()


def examples_of(
    prediction: Prediction, feedback: StoredFeedback, outputs: Sequence[Tensor], predicting: Predicting
) -> list[Example]:
    """The rows of a prediction, at least one: of the main output, if several are compared with truths."""
    recorded = _recorded(prediction, predicting)
    kind = _kind(recorded, feedback, outputs, predicting)
    rows = recorded or predicted_rows(outputs, kind, predicting) or [None]
    scores = _scores(_output(outputs, predicting, kind), kind, len(rows))
    shape = Shape(len(rows), kind, predicting)
    return [
        _example(row, predicted, feedback, shape, None if scores is None else scores[row])
        for row, predicted in enumerate(rows)
    ]


def predicted_rows(outputs: Sequence[Tensor], kind: Kind | None, predicting: Predicting) -> list[Any]:
    """What recorded outputs predict for each row; empty if that is not known."""
    return _from_output(_output(outputs, predicting, kind), kind, predicting)


def _recorded(prediction: Prediction, predicting: Predicting) -> list[Any]:
    """What the record says was predicted for each row; empty if it does not."""
    if prediction.predictions:
        name = predicting.output if predicting.output in prediction.predictions else next(iter(prediction.predictions))
        rows = prediction.predictions[name]
        if isinstance(rows, list) and rows:
            return rows
    return [] if prediction.predicted is None else [prediction.predicted]


@dataclass(frozen=True, slots=True)
class Shape:
    """How many rows a prediction has, and of what kind."""

    rows: int
    kind: Kind | None
    predicting: Predicting


def of_row(value: Any, row: int, rows: int, *, is_list: bool = False) -> Any:
    """The value of one row, of a list with one for each; a value for the request, which each row has.

    `is_list`: the value of one row is a list itself.
    """
    if type(value) is not list:
        return value
    if rows == 1 and is_list:
        return value[0] if len(value) == 1 and type(value[0]) is list else value
    return value[row] if row < len(value) else None


def _example(row: int, predicted: Any, feedback: StoredFeedback, shape: Shape, scores: Array | None) -> Example:
    is_list = shape.kind in (Kind.MULTILABEL, Kind.RANKING)
    said = feedback.truth
    if type(said) is dict and shape.predicting.output is not None:  # truths of several outputs
        said = said.get(shape.predicting.output)
    truth = of_row(said, row, shape.rows, is_list=is_list)
    truth_class = of_row(feedback.truth_class, row, shape.rows, is_list=is_list)
    correct = of_row(feedback.correct, row, shape.rows)
    outcomes: dict[str, float] = {}
    true_labels: frozenset[int] | None = None
    if shape.kind is Kind.MULTILABEL and truth is not None:
        true_labels = label_set(truth if truth_class is None else truth_class, shape.predicting.labels)
    if said is not None or feedback.outcomes:
        if correct is not None and shape.kind in (None, Kind.CLASSIFICATION):
            outcomes |= of_class(correct)
        elif truth is not None:
            right = truth if true_labels is None else sorted(true_labels)
            outcomes |= outcomes_of(shape.kind, predicted, right, len(shape.predicting.labels))
    if shape.rows == 1:
        outcomes |= feedback.outcomes
    if feedback.reward is not None and (reward := of_row(feedback.reward, row, shape.rows)) is not None:
        outcomes["reward"] = float(reward)
    for name, values in feedback.metrics.items():
        if (value := of_row(values, row, shape.rows)) is not None:
            outcomes[f"{METRIC}{name}"] = float(value)
    return Example(
        row=row,
        kind=shape.kind,
        predicted=predicted,
        truth=truth,
        truth_class=truth_class if type(truth_class) is int else None,
        correct=correct if type(correct) is bool else None,
        outcomes=outcomes,
        scores=scores,
        true_labels=true_labels or frozenset(),
    )


def _kind(
    recorded: Sequence[Any], feedback: StoredFeedback, outputs: Sequence[Tensor], predicting: Predicting
) -> Kind | None:
    """The kind that model.yaml says, else the one that the record shows, None if it shows none."""
    if predicting.kind is not None:
        return predicting.kind
    if "squared_error" in feedback.outcomes:
        return Kind.REGRESSION
    if "ndcg" in feedback.outcomes:
        return Kind.RANKING
    shown = {int: Kind.CLASSIFICATION, float: Kind.REGRESSION, list: Kind.MULTILABEL}
    for value in recorded:
        if value is not None:
            return shown.get(type(value))
    tensor = _output(outputs, predicting, None)
    is_column = tensor is not None and tensor.datatype.startswith("FP") and _is_column(tensor.data)
    if is_column and len(predicting.labels) != 2:
        return Kind.REGRESSION
    return Kind.CLASSIFICATION if predicting.output is not None or predicting.labels else None


def _is_column(array: Array) -> bool:
    return array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)


def _output(outputs: Sequence[Tensor], predicting: Predicting, kind: Kind | None) -> Tensor | None:
    """The output that model.yaml names, else the first that can be of this kind."""
    for tensor in outputs:
        if predicting.output is None:
            scores = tensor.data.ndim == 2 and tensor.data.shape[1] > 1 and tensor.datatype.startswith("FP")
            if scores or kind is not Kind.CLASSIFICATION:
                return tensor
        elif tensor.name == predicting.output:
            return tensor
    return None


def _scores(tensor: Tensor | None, kind: Kind | None, rows: int) -> Array | None:
    """The scores of the classes of each row, [rows, classes]; None if the output has none."""
    if tensor is None or kind not in (None, Kind.CLASSIFICATION) or not tensor.datatype.startswith("FP"):
        return None
    data = tensor.data
    return data if data.ndim == 2 and data.shape[0] == rows and data.shape[1] > 1 else None


def _from_output(tensor: Tensor | None, kind: Kind | None, predicting: Predicting) -> list[Any]:
    """What a recorded output predicts for each row: for records whose line does not say it; empty if unknown."""
    if tensor is None or tensor.datatype == "BYTES" or not tensor.data.ndim:
        return []
    data = tensor.data
    if kind is Kind.REGRESSION and _is_column(data):
        return [value if value - value == 0 else None for value in data.ravel().astype(np.float64).tolist()]
    if kind is Kind.RANKING and data.ndim <= 2:
        return [data.size] if _is_column(data) else [data.shape[1]] * len(data)
    if kind is Kind.MULTILABEL and data.ndim == 2:
        return [np.flatnonzero(row >= predicting.threshold).tolist() for row in data]
    if kind is Kind.CLASSIFICATION and data.ndim == 2 and data.shape[1] > 1 and tensor.datatype.startswith("FP"):
        return [int(row.argmax()) if np.isfinite(row).all() else None for row in data]
    return [None] * len(data) if data.ndim == 2 else []
