"""What a prediction id and a record carry of an answer that is more, or other, than the one class of one row."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np

from gateway.backends.batch import Answer
from gateway.backends.predictions import OutputPrediction, Rows
from gateway.backends.version import ModelVersion
from gateway.protocol.classification import NO_CLASS
from gateway.protocol.tensors import Array
from gateway.records.carried import Carried, encoded, one_number, output_mark
from gateway.records.token import CARRIED, SEVERAL_ROWS
from gateway.records.value_bins import bin_of, bins_of
from gateway.settings.model import Kind

_CLASSIFICATION: Final = Kind.CLASSIFICATION  # looked up once: an enum's members take long
_REGRESSION: Final = Kind.REGRESSION
_MULTILABEL: Final = Kind.MULTILABEL
_RANKING: Final = Kind.RANKING
_NONE: Final = Kind.NONE
_FP32: Final = np.dtype(np.float32)
MOST_ROWS: Final = 2000  # of an answer: what is predicted for more rows only its response says
MOST_SCORES: Final = 2**18  # of labels, likewise
_RECORDED: Final = (_CLASSIFICATION, _REGRESSION, _MULTILABEL)  # no set: an enum's hash takes long


class Predicted(NamedTuple):
    """`said`: what stands in the place of the class in the prediction id, followed by `payload` after the names.
    `rows`: what was predicted for each row, by output, for the record; None if there is nothing to record. `counted`:
    the counter of each row's class, or of its number.
    """

    said: int
    payload: bytes
    rows: Mapping[str, Rows | Array] | None
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
        return _carrying([Carried(_NONE, count, (), output_mark(output.output))], None, classes)
    if _is_long(output, answer):
        return _carrying([_uncarried(output, answer)], None, _counted_of_many(output, answer, classes))
    rows = _rows(output, answer, classes)
    if output.kind is _REGRESSION and len(rows) == 1:
        payload = CARRIED + one_number(rows[0], output_mark(output.output))
        return Predicted(NO_CLASS, payload, {output.output: rows}, _counted(output, rows, classes))
    recorded = _recorded(output, rows, answer) if rows and output.kind in _RECORDED else None
    return _carrying([_carried(output, rows, version, answer)], recorded, _counted(output, rows, classes))


def _several_outputs(version: ModelVersion, answer: Answer, classes: list[int]) -> Predicted:
    carried: list[Carried] = []
    recorded: dict[str, Rows | Array] = {}
    counted = classes
    for output in version.predictions.outputs:
        is_main = output is version.predictions.main
        if _is_long(output, answer):
            carried.append(_uncarried(output, answer))
            counted = _counted_of_many(output, answer, classes) if is_main else counted
            continue
        rows = _rows(output, answer, classes if is_main else [])
        carried.append(_carried(output, rows, version, answer))
        if rows and output.kind in _RECORDED:
            recorded |= _recorded(output, rows, answer)
        if is_main:
            counted = _counted(output, rows, classes)
    one_class = len(classes) == 1 and carried[0].rows == 1
    return _carrying(carried, recorded or None, counted, classes[0] if one_class else NO_CLASS)


def _is_long(output: OutputPrediction, answer: Answer) -> bool:
    """Whether it would take long to read what is predicted for each row, on the event loop."""
    result = answer[output.position] if output.kind in _RECORDED else None
    if result is None or not result.ndim:
        return False
    return len(result) > MOST_ROWS or (output.kind is _MULTILABEL and result.size > MOST_SCORES)


def _uncarried(output: OutputPrediction, answer: Answer) -> Carried:
    result = answer[output.position]
    return Carried(output.kind, 0 if result is None else len(result), None, output_mark(output.output))


def _rows(output: OutputPrediction, answer: Answer, classes: list[int]) -> Rows:
    if output.kind is _CLASSIFICATION and classes:
        return [None if index == NO_CLASS else index for index in classes]
    return output.rows(answer)


def _recorded(output: OutputPrediction, rows: Rows, answer: Answer) -> dict[str, Rows | Array]:
    """What the record says of the rows. Of several, numbers remain FP32: of these, 0.1 is written as such."""
    result = answer[output.position] if output.kind is _REGRESSION else None
    return {output.output: rows if result is None or result.dtype != _FP32 else result.flatten()}


def _counted(output: OutputPrediction, rows: Rows, classes: list[int]) -> list[int]:
    """The counters of the main output's rows."""
    bounds = output.settings.range
    return classes if bounds is None else [NO_CLASS if value is None else bin_of(value, bounds) for value in rows]


def _counted_of_many(output: OutputPrediction, answer: Answer, classes: list[int]) -> list[int]:
    bounds, result = output.settings.range, answer[output.position]
    if bounds is None or result is None:
        return classes
    return bins_of(result, bounds) if result.size == len(result) else []


def _carried(output: OutputPrediction, rows: Rows, version: ModelVersion, answer: Answer) -> Carried:
    mark = output_mark(output.output)
    if not rows:
        return Carried(output.kind, version.rows(answer), (), mark)
    return Carried(output.kind, len(rows), rows[:1] if output.kind is _RANKING else rows, mark)


def _carrying(
    carried: Sequence[Carried], rows: Mapping[str, Rows | Array] | None, counted: list[int], one_class: int = NO_CLASS
) -> Predicted:
    said = SEVERAL_ROWS if carried[0].rows != 1 else one_class
    return Predicted(said, CARRIED + encoded(carried), rows, counted)
