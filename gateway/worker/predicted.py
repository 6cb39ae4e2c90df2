"""What a prediction id and a record carry of an answer that is more, or other, than the one class of one row."""

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from gateway.backends.batch import Answer
from gateway.backends.predictions import OutputPrediction, Rows
from gateway.backends.version import ModelVersion
from gateway.protocol.classification import NO_CLASS
from gateway.records.carried import Carried, encoded, one_number
from gateway.records.token import CARRIED, SEVERAL_ROWS
from gateway.records.value_bins import bin_of
from gateway.settings.model import Kind

_CLASSIFICATION: Final = Kind.CLASSIFICATION  # looked up once: an enum's members take long
_REGRESSION: Final = Kind.REGRESSION
_RANKING: Final = Kind.RANKING
_NONE: Final = Kind.NONE
_RECORDED: Final = (_CLASSIFICATION, _REGRESSION, Kind.MULTILABEL)  # no set: an enum's hash takes long


class Predicted(NamedTuple):
    """`said`: what stands in the place of the class in the prediction id, followed by `payload` after the names.
    `rows`: what was predicted for each row, by output, for the record; None if there is nothing to record. `counted`:
    the counter of each row's class, or of its number.
    """

    said: int
    payload: bytes
    rows: Mapping[str, Sequence[Any]] | None
    counted: list[int]


def predicted_beyond_one_class(version: ModelVersion, answer: Answer, classes: list[int]) -> Predicted:
    """What `answer` predicts. `classes`: of the main output. Not called for one row of a model with classes only."""
    outputs = version.predictions.outputs
    if len(outputs) > 1:
        return _several_outputs(version, answer, classes)
    (output,) = outputs
    if output.kind is _NONE:
        count = version.rows(answer)
        if count == 1:
            return Predicted(NO_CLASS, b"", None, classes)
        return _carrying([Carried(_NONE, count)], None, classes)
    rows = _rows(output, answer, classes)
    if output.kind is _REGRESSION and len(rows) == 1:
        return Predicted(
            NO_CLASS, CARRIED + one_number(rows[0]), {output.output: rows}, _counted(output, rows, classes)
        )
    recorded = {output.output: rows} if rows and output.kind in _RECORDED else None
    return _carrying([_carried(output, rows, version, answer)], recorded, _counted(output, rows, classes))


def _several_outputs(version: ModelVersion, answer: Answer, classes: list[int]) -> Predicted:
    carried: list[Carried] = []
    recorded: dict[str, Rows] = {}
    counted = classes
    for output in version.predictions.outputs:
        rows = _rows(output, answer, classes if output is version.predictions.main else [])
        carried.append(_carried(output, rows, version, answer))
        if rows and output.kind in _RECORDED:
            recorded[output.output] = rows
        if output is version.predictions.main:
            counted = _counted(output, rows, classes)
    one_class = len(classes) == 1 and carried[0].rows == 1
    return _carrying(carried, recorded or None, counted, classes[0] if one_class else NO_CLASS)


def _rows(output: OutputPrediction, answer: Answer, classes: list[int]) -> Rows:
    if output.kind is _CLASSIFICATION and classes:
        return [None if index == NO_CLASS else index for index in classes]
    return output.rows(answer)


def _counted(output: OutputPrediction, rows: Rows, classes: list[int]) -> list[int]:
    """The counters of the main output's rows."""
    bounds = output.settings.range
    return classes if bounds is None else [NO_CLASS if value is None else bin_of(value, bounds) for value in rows]


def _carried(output: OutputPrediction, rows: Rows, version: ModelVersion, answer: Answer) -> Carried:
    if not rows:
        return Carried(output.kind, version.rows(answer))
    return Carried(output.kind, len(rows), rows[:1] if output.kind is _RANKING else rows)


def _carrying(
    carried: Sequence[Carried], rows: Mapping[str, Sequence[Any]] | None, counted: list[int], one_class: int = NO_CLASS
) -> Predicted:
    said = SEVERAL_ROWS if carried[0].rows != 1 else one_class
    return Predicted(said, CARRIED + encoded(carried), rows, counted)
