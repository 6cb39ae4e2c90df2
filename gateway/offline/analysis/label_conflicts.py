"""Labels that contradict each other: different truths for equal inputs, and who gave them."""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

from gateway.offline.analysis.input_summary import InputSummary
from gateway.offline.feedback_store import Label, StoredFeedback
from gateway.records.prediction import Prediction

MAX_CONFLICTS: Final = 50
_CONTRADICTED: Final = "SELECT key FROM labels GROUP BY key HAVING COUNT(DISTINCT meaning) > 1"


@dataclass(frozen=True, slots=True)
class GivenLabel:
    """A label, and the prediction that it was given for."""

    label: Label
    prediction_id: str
    predicted: int | None


@dataclass(frozen=True, slots=True)
class LabelConflict:
    """An input that was labelled differently, by time."""

    input: InputSummary
    labels: Sequence[GivenLabel]


class LabelStore:
    """The labels of all inputs, in a SQLite file of its own, so that they need not fit in memory."""

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(
            "CREATE TABLE labels (key BLOB, meaning TEXT, time_ns INTEGER, truth TEXT, truth_class INTEGER,"
            " customer TEXT, prediction_id TEXT, predicted INTEGER)"
        )
        self._database.execute("BEGIN")

    def __enter__(self) -> "LabelStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def add(self, key: bytes, prediction: Prediction, feedback: StoredFeedback) -> None:
        """The labels of one prediction, whose input has the key `key`."""
        rows = [
            (key, label.meaning, label.time_ns, orjson.dumps(label.truth).decode(), label.truth_class, label.customer,
             prediction.prediction_id, prediction.predicted)
            for label in feedback.labels
        ]  # fmt: skip
        self._database.executemany("INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)

    def contradicted(self) -> int:
        """How many inputs have contradicting labels. Ends the taking in."""
        self._database.execute("CREATE INDEX by_key ON labels (key)")
        count: int = self._database.execute(f"SELECT COUNT(*) FROM ({_CONTRADICTED})").fetchone()[0]
        return count

    def conflicts(self) -> list[tuple[bytes, list[GivenLabel]]]:
        """Those with the most labels: the key of the input, and its labels by time."""
        keys = self._database.execute(f"{_CONTRADICTED} ORDER BY COUNT(*) DESC, key LIMIT {MAX_CONFLICTS}").fetchall()
        return [(key, self._labels(key)) for (key,) in keys]

    def _labels(self, key: bytes) -> list[GivenLabel]:
        query = (
            "SELECT truth, customer, time_ns, truth_class, prediction_id, predicted"
            f" FROM labels WHERE key = ? ORDER BY time_ns, prediction_id LIMIT {MAX_CONFLICTS}"
        )
        rows: list[tuple[Any, ...]] = self._database.execute(query, (key,)).fetchall()
        return [
            GivenLabel(Label(orjson.loads(truth), customer, time_ns, truth_class), prediction_id, predicted)
            for truth, customer, time_ns, truth_class, prediction_id, predicted in rows
        ]
