"""One entry of feedback: checked, credited by its signed prediction id, judged, and encoded as its record line."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from statistics import fmean
from typing import Any, Final

from gateway.backends.predictions import OutputPrediction
from gateway.errors import InvalidRequest
from gateway.protocol.depth import check_depth
from gateway.protocol.elements import short
from gateway.records import outcomes
from gateway.records.carried import Carried
from gateway.records.line import line_of
from gateway.records.token import Token
from gateway.settings.model import FeedbackSettings, Kind
from gateway.worker.feedback_rows import checked_row, row_values
from gateway.worker.pipeline import Pipeline
from gateway.worker.truths import Judged, check_size, judged

MAX_COMMENT: Final = 10_000
MAX_METRICS: Final = 32
MAX_LINE_BYTES: Final = 2**20  # of the record; the ring holds several
KEYS: Final = frozenset({"prediction_id", "truth", "reward", "metrics", "comment", "row"})
REQUIRED_KEYS: Final = ("truth", "reward", "metrics")
Value = float | list[float | None]


class FeedbackEntries:
    """Reads entries about the predictions of `pipeline`, and of others with the same keys; in any thread."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._last: tuple[object, Token] | None = None  # rows of one request often come one after the other

    def line(self, entry: Any, sender: Mapping[str, str | None]) -> tuple[bytes, str]:
        """The entry's record line, with the fields `sender` on who gave it, and why its truth does not count, "" if it
        does or there is none.

        Raises InvalidRequest with what is wrong and what would be right.
        """
        if type(entry) is not dict:
            raise InvalidRequest(f"must be an object with prediction_id, got {short(entry)}")
        if unknown := sorted(set(entry) - KEYS):
            raise InvalidRequest(f"unknown key {short(unknown[0])}; known are {', '.join(sorted(KEYS))}")
        token = self._token(entry.get("prediction_id"))
        truth = entry.get("truth")
        if all(entry.get(key) is None for key in REQUIRED_KEYS):
            raise InvalidRequest("is empty: give at least one of truth, reward, metrics")
        row = checked_row(entry.get("row"), token.row_count)
        judgement = Judged() if truth is None else self._judged(token, truth, row)
        allowed = self._allowed(token)
        reward = _reward(entry.get("reward"), allowed, token, row)
        metrics = _metrics(entry.get("metrics"), allowed, token, row)
        fields = {
            "kind": "feedback",
            "prediction_id": entry["prediction_id"],
            "time_ns": time.time_ns(),
            "model": token.model,
            "version": token.version,
            "variant": token.variant,
            "truth": truth,
            "truth_class": judgement.truth_class,
            "correct": judgement.correct,
            "reward": reward,
            "metrics": metrics,
            "comment": _comment(entry.get("comment")),
            **sender,
            "outcomes": {**judgement.outcomes, **dict(_means(reward, metrics))},
        }
        line = line_of(fields if row is None else {**fields, "row": row})
        if len(line) > MAX_LINE_BYTES:
            raise InvalidRequest(
                f"takes {len(line):,} bytes as a record, and at most {MAX_LINE_BYTES:,} may be: give fewer rows each"
            )
        return line, judgement.uncounted

    def _token(self, prediction_id: object) -> Token:
        last = self._last
        if last is None or last[0] != prediction_id:
            last = self._last = prediction_id, self._pipeline.recorder.signer.read(prediction_id)
        return last[1]

    def _allowed(self, token: Token) -> FeedbackSettings:
        served = self._pipeline.catalog.models.get(token.model)
        return outcomes.DEFAULT_SETTINGS if served is None else served.stable.facts.settings.feedback

    def _judged(self, token: Token, truth: Any, row: int | None) -> Judged:
        """Compare the truth with the prediction as the version that made it would, or stable if that one is gone."""
        check_depth(truth, "truth")
        served = self._pipeline.catalog.models.get(token.model)
        if served is None:
            check_size(truth if type(truth) is list else [truth], "truth")
            return Judged(uncounted=f"'{token.model}' is not served now, so what it predicts is not known")
        outputs = served.versions.get(token.version, served.stable).predictions.outputs
        if len(outputs) == 1 or type(truth) is not dict:
            return _of_output(token, outputs[0], 0, truth, row, "truth")
        return _of_outputs(token, outputs, truth, row)


def _of_outputs(token: Token, outputs: Sequence[OutputPrediction], truth: Mapping[str, Any], row: int | None) -> Judged:
    """The truths of several outputs, by name. Outcomes of all but the main one have its name as prefix."""
    names = [output.output for output in outputs]
    if unknown := next((name for name in truth if name not in names), None):
        known = ", ".join(names)
        raise InvalidRequest(f"truth.{unknown:.60} is of no output in prediction of model.yaml; there are {known}")
    found = {
        output.output: _of_output(token, output, index, truth[output.output], row, f"truth.{output.output}")
        for index, output in enumerate(outputs)
        if truth.get(output.output) is not None
    }
    main = found.get(names[0], Judged())
    merged = dict(main.outcomes)
    for name, one in found.items():
        if name != names[0]:
            merged.update({f"{name}.{outcome}": value for outcome, value in one.outcomes.items()})
    reasons = "; ".join(f"{name}: {one.uncounted}" for name, one in found.items() if one.uncounted)
    return Judged(main.truth_class, main.correct, merged, reasons)


def _of_output(token: Token, output: OutputPrediction, index: int, truth: Any, row: int | None, name: str) -> Judged:
    carried = _carried(token, index)
    count = carried.rows if carried else token.row_count
    return judged(output, carried, row_values(name, truth, count=count, row=row, kind=output.kind), name)


def _carried(token: Token, index: int) -> Carried | None:
    """What the id says of an output; None if nothing. The class of a single row stands in a place of its own."""
    if token.carried:
        return token.carried[index] if index < len(token.carried) else None
    if index or token.rows:
        return None
    return Carried(Kind.CLASSIFICATION, 1, (token.predicted,))


def _means(reward: Value | None, metrics: Mapping[str, Value] | None) -> Iterator[tuple[str, float]]:
    """The outcomes that are means over the rows that have a value."""
    if reward is not None:
        yield "reward", _mean(reward)
    for name, value in (metrics or {}).items():
        yield f"metrics.{name}", _mean(value)


def _mean(value: Value) -> float:
    return fmean(one for one in value if one is not None) if isinstance(value, list) else value


def _reward(value: Any, allowed: FeedbackSettings, token: Token, row: int | None) -> Value | None:
    return None if value is None else _checked("reward", value, partial(outcomes.reward, settings=allowed), token, row)


def _metrics(value: Any, allowed: FeedbackSettings, token: Token, row: int | None) -> dict[str, Value] | None:
    if value is None:
        return None
    if type(value) is not dict or not 0 < len(value) <= MAX_METRICS:
        raise InvalidRequest(f"metrics must be an object of 1 to {MAX_METRICS} numbers, got {short(value)}")
    found = {}
    for name, one in value.items():
        if one is None or not 0 < len(name) <= 100:
            raise InvalidRequest(f"metrics.{name:.60} must be a number with a name of 1 to 100 characters")
        found[name] = _checked(f"metrics.{name:.60}", one, partial(outcomes.metric, name, settings=allowed), token, row)
    return found


def _checked(name: str, value: Any, in_range: Callable[[float], float], token: Token, row: int | None) -> Value:
    """The number, or the numbers of all rows, each in its range. Raises InvalidRequest."""
    if type(value) is not list:
        return in_range(_number(name, value))
    given = row_values(name, value, count=token.row_count, row=row)
    if row is not None:
        raise InvalidRequest(f"{name} is a list, but the entry is about row {row}: give the value of that row")
    return [None if one is None else in_range(_number(name, one)) for one in given.values]


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise InvalidRequest(f"{name} must be a number, got {short(value)}")
    return float(value)


def _comment(value: Any) -> str | None:
    if value is not None and (type(value) is not str or len(value) > MAX_COMMENT):
        raise InvalidRequest(f"comment must be a string of {MAX_COMMENT} characters at most, got {short(value)}")
    return value
