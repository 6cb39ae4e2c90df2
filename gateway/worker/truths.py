"""Compares the truths in feedback with what the prediction id carries: the judgement of one output of a request."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import orjson

from gateway.backends.predictions import OutputPrediction
from gateway.errors import InvalidRequest
from gateway.protocol.elements import short
from gateway.records import losses
from gateway.records.carried import MAX_BYTES, Carried
from gateway.records.losses import NO_OUTCOMES, Outcomes
from gateway.settings.model import MAX_OUTCOME, Kind
from gateway.worker.feedback_rows import RowValues

MAX_TRUTH: Final = 1000  # characters of JSON, for each row
MAX_POSITIONS: Final = 1000  # clicked in one list
_NO_VALUE: Final[Mapping[Kind, str]] = {
    Kind.CLASSIFICATION: "the prediction had no class",
    Kind.MULTILABEL: "the prediction had no labels",
    Kind.REGRESSION: "the prediction was no finite number",
    Kind.RANKING: "the answer held no ranked list",
}


class Judged(NamedTuple):
    """The truth of one output. `truth_class`, `correct`: of a classification, a list if the truth was one; `correct`
    also of labels. `uncounted`: why the truth says nothing of the prediction; empty if it does.
    """

    truth_class: Any = None
    correct: Any = None
    outcomes: Outcomes = NO_OUTCOMES
    uncounted: str = ""


def judged(output: OutputPrediction, carried: Carried | None, given: RowValues, name: str = "truth") -> Judged:
    """Compare the truths of the rows with the prediction's. `carried`: None if the id says nothing of this output.

    `name`: of the truth, for messages. Raises InvalidRequest if a truth can be one of no prediction.
    """
    check_size(given.values, name)
    if output.kind not in _PARSERS:
        reason = output.reason or f"output '{output.output}' is an {output.kind}"
        return Judged(uncounted=f"{reason}: reward and metrics are counted, truths only recorded")
    truths = _parsed(output, given, name)
    known = truths if output.kind is Kind.CLASSIFICATION else None
    truth_class = known if given.listed or known is None else known[0]
    if carried is None or carried.kind is not output.kind:
        return Judged(
            truth_class,
            uncounted="the prediction id carries nothing to compare: it was made by an earlier release, or before"
            f" model.yaml said kind: {output.kind}",
        )
    if carried.values is None:
        return Judged(
            truth_class,
            uncounted=f"what was predicted for {carried.rows:,} rows does not fit into the {MAX_BYTES} bytes of the"
            " prediction id, which are 500 classes or 126 numbers: send fewer rows a request for their truths to count",
        )
    if output.kind is Kind.RANKING:
        return _ranking(carried, given, truths, name)
    return _compared(output, carried, given, truths, truth_class)


def check_size(values: Sequence[Any], name: str) -> None:
    """Refuse a truth that is too long to be recorded. Raises InvalidRequest."""
    for value in values:
        if type(value) is str:
            long = len(value) > MAX_TRUTH - 2  # two quotes
        else:
            long = type(value) in (list, dict) and len(orjson.dumps(value)) > MAX_TRUTH
        if long:
            raise InvalidRequest(f"{name} is longer than {MAX_TRUTH} characters")


def _compared(
    output: OutputPrediction, carried: Carried, given: RowValues, truths: Sequence[Any], truth_class: Any
) -> Judged:
    values = carried.values or [None] * carried.rows
    predicted = [values[row] for row in given.rows]
    both = [
        (ours, truth) for ours, truth in zip(predicted, truths, strict=True) if ours is not None and truth is not None
    ]
    if not both:
        return Judged(truth_class, uncounted=_NO_VALUE[output.kind])
    ours, theirs = zip(*both, strict=True)
    if output.kind is Kind.REGRESSION:
        return Judged(outcomes=losses.regression(ours, theirs))
    if output.kind is Kind.MULTILABEL:
        predicted = [None if labels is None else frozenset(labels) for labels in predicted]
        outcomes = losses.multilabel(list(map(frozenset, ours)), theirs, output.classes.count or 1)
    else:
        outcomes = losses.classification([one == other for one, other in both])
    correct = [
        None if row is None or truth is None else row == truth for row, truth in zip(predicted, truths, strict=True)
    ]
    return Judged(truth_class, correct if given.listed else correct[0], outcomes)


def _ranking(carried: Carried, given: RowValues, truths: Sequence[Any], name: str) -> Judged:
    length = carried.values[0] if carried.values else 0
    clicked = [positions for positions in truths if positions is not None]
    if not length:
        return Judged(uncounted=_NO_VALUE[Kind.RANKING])
    for positions in clicked:
        if positions and max(positions) > length:
            raise InvalidRequest(f"{name}: position {max(positions)} was clicked, of a list of {length}")
    return Judged(outcomes=losses.ranking(clicked))


def _parsed(output: OutputPrediction, given: RowValues, name: str) -> list[Any]:
    """Each row's truth in the form in which it is compared; None for a row without one."""
    parse = _PARSERS[output.kind]
    parsed: list[Any] = []
    for index, truth in enumerate(given.values):
        if truth is None:
            parsed.append(None)
            continue
        found = parse(output, truth)
        if found is None:
            place = f"{name}[{index}]" if given.listed else name
            raise InvalidRequest(f"{place} {short(truth)} is not {_wanted(output)}")
        parsed.append(found)
    return parsed


def _wanted(output: OutputPrediction) -> str:
    if output.kind is Kind.CLASSIFICATION:
        return f"a class of '{output.output}'; {output.classes.known}"
    if output.kind is Kind.MULTILABEL:
        known = output.classes.known.replace("its classes", "its labels")
        return f"a list of labels of '{output.output}', which is multilabel; {known}"
    if output.kind is Kind.REGRESSION:
        return f"a number from {-MAX_OUTCOME:g} to {MAX_OUTCOME:g}, as '{output.output}' is a regression"
    return f"a clicked position, 1 for the one shown first, or a list of them, as '{output.output}' is a ranking"


def _class(output: OutputPrediction, truth: Any) -> int | None:
    return output.classes.index_of(truth)


def _labels(output: OutputPrediction, truth: Any) -> frozenset[int] | None:
    if type(truth) is not list:
        return None
    indices = [output.classes.index_of(label) for label in truth]
    return None if None in indices else frozenset(index for index in indices if index is not None)


def _number(output: OutputPrediction, truth: Any) -> float | None:
    plain = type(truth) in (int, float) and math.isfinite(truth) and -MAX_OUTCOME <= truth <= MAX_OUTCOME
    return float(truth) if plain else None


def _positions(output: OutputPrediction, truth: Any) -> list[int] | None:
    positions = truth if type(truth) is list else [truth]
    if len(positions) > MAX_POSITIONS or not all(type(place) is int and place > 0 for place in positions):
        return None
    return sorted(set(positions))


_PARSERS: Final[Mapping[Kind, Callable[[OutputPrediction, Any], Any]]] = {
    Kind.CLASSIFICATION: _class,
    Kind.MULTILABEL: _labels,
    Kind.REGRESSION: _number,
    Kind.RANKING: _positions,
}
