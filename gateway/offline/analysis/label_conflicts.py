"""Finds labels that contradict each other: different truths for equal inputs, and who gave them."""

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

from gateway.offline.analysis.input_summary import InputSummary
from gateway.offline.examples import Example, of_row
from gateway.offline.merged_feedback import Label, StoredFeedback
from gateway.records.prediction import Prediction
from gateway.settings.model import Kind

MAX_CONFLICTS: Final = 50
DEFAULT_TOLERANCE: Final = 0.1  # of the standard deviation of all truths that are numbers
_CONTRADICTED: Final = (
    "SELECT key FROM labels GROUP BY key"
    " HAVING COUNT(DISTINCT CASE WHEN number IS NULL THEN meaning END) > 1 OR MAX(number) - MIN(number) > ?"
)


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """A label and the prediction that it was given for. `predicted`: what that predicted for the row, by its kind."""

    label: Label
    prediction_id: str
    predicted: Any


@dataclass(frozen=True, slots=True)
class LabelConflict:
    """An input with contradicting labels, in the order of time."""

    input: InputSummary
    labels: Sequence[GivenLabel]


class LabelStore:
    """The labels of all inputs, in a SQLite file, so that they need not fit in memory.

    Call `add` for each prediction, then `contradicted` once, then `conflicts`.
    """

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE labels (key BLOB, meaning TEXT, number REAL, time_ns INTEGER, truth TEXT, truth_class TEXT,"
            " customer TEXT, prediction_id TEXT, predicted TEXT)"
        )
        self._database.execute("BEGIN")
        self._tolerance = 0.0
        self._numbers = [0.0, 0.0, 0.0]  # how many, their sum, that of their squares

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, key: bytes, prediction: Prediction, feedback: StoredFeedback, example: Example, rows: int) -> None:
        """Add the labels of one row of a prediction with `rows` of them; `key`: that of its input."""
        is_list = example.kind in (Kind.MULTILABEL, Kind.RANKING)
        labels = list(feedback.row_labels.get(example.row, ()))
        for given in feedback.labels:
            truth = of_row(given.truth, example.row, rows, is_list=is_list)
            if truth is not None:
                truth_class = of_row(given.truth_class, example.row, rows, is_list=is_list)
                labels.append(Label(truth, given.customer, given.time_ns, truth_class))
        entries = []
        for label in labels:
            truth = label.truth
            number = float(truth) if example.kind is Kind.REGRESSION and type(truth) in (int, float) else None
            self._note(number)
            entries.append(
                (key, label.meaning, number, label.time_ns, _json(truth), _json(label.truth_class), label.customer,
                 prediction.prediction_id, _json(example.predicted))
            )  # fmt: skip
        self._database.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", entries)

    def contradicted(self, tolerance: float | None) -> int:
        """Build the index and count the inputs with contradicting labels. Call it once, after the last `add`.

        `tolerance`: how far two numbers may differ; None: `DEFAULT_TOLERANCE`.
        """
        count, total, squares = self._numbers
        deviation = math.sqrt(max(0.0, squares / count - (total / count) ** 2)) if count else 0.0
        self._tolerance = DEFAULT_TOLERANCE * deviation if tolerance is None else tolerance
        self._database.execute("CREATE INDEX by_key ON labels (key)")
        query = f"SELECT COUNT(*) FROM ({_CONTRADICTED})"
        found: int = self._database.execute(query, (self._tolerance,)).fetchone()[0]
        return found

    def conflicts(self) -> list[tuple[bytes, list[GivenLabel]]]:
        """Return the `MAX_CONFLICTS` conflicts with the most labels: the key of the input, and its labels by time."""
        query = f"{_CONTRADICTED} ORDER BY COUNT(*) DESC, key LIMIT {MAX_CONFLICTS}"
        keys = self._database.execute(query, (self._tolerance,)).fetchall()
        return [(key, self._labels(key)) for (key,) in keys]

    def _note(self, number: float | None) -> None:
        if number is not None:
            self._numbers = [one + more for one, more in zip(self._numbers, (1.0, number, number**2), strict=True)]

    def _labels(self, key: bytes) -> list[GivenLabel]:
        query = (
            "SELECT truth, customer, time_ns, truth_class, prediction_id, predicted"
            f" FROM labels WHERE key = ? ORDER BY time_ns, prediction_id LIMIT {MAX_CONFLICTS}"
        )
        rows: list[tuple[Any, ...]] = self._database.execute(query, (key,)).fetchall()
        return [
            GivenLabel(
                Label(orjson.loads(truth), customer, time_ns, orjson.loads(truth_class)),
                prediction_id,
                orjson.loads(predicted),
            )
            for truth, customer, time_ns, truth_class, prediction_id, predicted in rows
        ]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
