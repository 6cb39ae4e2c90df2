"""What a prediction id and a record carry of an answer that is more, or other, than the one class of one row."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from gateway.backends.batch import Answer
from gateway.backends.predictions import OutputPrediction, Rows
from gateway.backends.version import ModelVersion
from gateway.protocol.classification import NO_CLASS
from gateway.records.carried import Carried, encoded, one_number
from gateway.records.token import CARRIED, SEVERAL_ROWS
from gateway.settings.model import Kind

_RECORDED = frozenset({Kind.CLASSIFICATION, Kind.MULTILABEL, Kind.REGRESSION})


class Predicted(NamedTuple):
    """`said`: what stands in the place of the class in the prediction id, followed by `payload` after the names.
    `rows`: what was predicted for each row, by output, for the record; None if there is nothing to record.
    """

    said: int
    payload: bytes = b""
    rows: Mapping[str, Sequence[Any]] | None = None


_NOTHING = Predicted(NO_CLASS)


def predicted_beyond_one_class(version: ModelVersion, answer: Answer, classes: Sequence[int]) -> Predicted:
    """What `answer` predicts. `classes`: of the main output. Not called for one row of a model with classes only."""
    outputs = version.predictions.outputs
    if len(outputs) > 1:
        return _several_outputs(version, answer, classes)
    (output,) = outputs
    if output.kind is Kind.NONE:
        count = version.rows(answer)
        return _NOTHING if count == 1 else _carrying([Carried(Kind.NONE, count)], None)
    rows = _rows(output, answer, classes)
    if output.kind is Kind.REGRESSION and len(rows) == 1:
        return Predicted(NO_CLASS, CARRIED + one_number(rows[0]), {output.output: rows})
    recorded = {output.output: rows} if rows and output.kind in _RECORDED else None
    return _carrying([_carried(output, rows, version, answer)], recorded)


def _several_outputs(version: ModelVersion, answer: Answer, classes: Sequence[int]) -> Predicted:
    carried, recorded = [], {}
    for output in version.predictions.outputs:
        rows = _rows(output, answer, classes if output is version.predictions.main else ())
        carried.append(_carried(output, rows, version, answer))
        if rows and output.kind in _RECORDED:
            recorded[output.output] = rows
    one_class = len(classes) == 1 and carried[0].rows == 1
    return _carrying(carried, recorded or None, classes[0] if one_class else NO_CLASS)


def _rows(output: OutputPrediction, answer: Answer, classes: Sequence[int]) -> Rows:
    if output.kind is Kind.CLASSIFICATION and classes:
        return [None if index == NO_CLASS else index for index in classes]
    return output.rows(answer)


def _carried(output: OutputPrediction, rows: Rows, version: ModelVersion, answer: Answer) -> Carried:
    if not rows:
        return Carried(output.kind, version.rows(answer))
    return Carried(output.kind, len(rows), rows[:1] if output.kind is Kind.RANKING else rows)


def _carrying(
    carried: Sequence[Carried], rows: Mapping[str, Sequence[Any]] | None, one_class: int = NO_CLASS
) -> Predicted:
    said = SEVERAL_ROWS if carried[0].rows != 1 else one_class
    return Predicted(said, CARRIED + encoded(carried), rows)
