"""Looks up feedback by the prediction that it is for.

Feedback comes after its prediction, in any order, possibly several times. It is stored in a SQLite file, so it need not
fit in memory.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

from gateway.offline.merged_feedback import OF_ROWS, StoredFeedback, merge_feedback

_BATCH: Final = 500  # predictions looked up at once
MAX_EXACT_INTEGER: Final = 2**53  # up to this, integers are exact in all number types of JSON, Parquet and Python
_NOTHING: Final = type(None)
_NUMBER: Final = frozenset({int, float})
_KINDS: Final[Mapping[str, frozenset[type]]] = {
    "truth_class": frozenset({int, list, _NOTHING}),
    "reward": _NUMBER | {list, _NOTHING},
    "correct": frozenset({bool, list, _NOTHING}),
    "metrics": frozenset({dict, _NOTHING}),
    "outcomes": frozenset({dict, _NOTHING}),
    "comment": frozenset({str, _NOTHING}),
    "customer": frozenset({str, _NOTHING}),
}  # `read` has checked time_ns already
_CACHE_KIB: Final = 65_536


class FeedbackStore:
    """The feedback of one model, in its own SQLite file. Fill it once, then look predictions up.

    `malformed`: feedback records skipped because a value has the wrong type. `truth_kinds`: Python types of the truths,
    of the values in lists by row those; `listed`: the fields that are lists with a value for each row; `has_outcomes`:
    whether the gateway recorded outcomes, as this release does.
    """

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute(
            "CREATE TABLE feedback (place INTEGER PRIMARY KEY, prediction_id TEXT, host INTEGER, record BLOB)"
        )
        self.empty = True
        self.malformed = 0
        self.truth_kinds: set[type] = set()  # contains `object` for an integer beyond EXACT
        self.listed: set[str] = set()
        self.has_outcomes = False

    def __enter__(self) -> "FeedbackStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def fill(self, *hosts: Iterable[dict[str, Any]]) -> None:
        """Insert the records of the stream `feedback` of each host, in order; call it once. `malformed` counts those
        skipped.
        """
        self._database.execute("BEGIN")
        for host, records in enumerate(hosts):
            rows = ((*row, host) for record in records if (row := self._row(record)) is not None)
            self._database.executemany("INSERT INTO feedback (prediction_id, record, host) VALUES (?, ?, ?)", rows)
        self._database.execute("CREATE INDEX by_prediction ON feedback (prediction_id)")
        self._database.execute("COMMIT")
        self.empty = self._database.execute("SELECT 1 FROM feedback LIMIT 1").fetchone() is None

    def of(self, prediction_ids: Sequence[str]) -> dict[str, StoredFeedback]:
        """Return the feedback on these predictions, by prediction id; predictions without feedback are absent."""
        found: dict[str, dict[int, list[dict[str, Any]]]] = {}
        if not self.empty:
            for start in range(0, len(prediction_ids), _BATCH):
                for prediction_id, host, record in self._asked(prediction_ids[start : start + _BATCH]):
                    found.setdefault(prediction_id, {}).setdefault(host, []).append(orjson.loads(record))
        return {prediction_id: merge_feedback(*hosts.values()) for prediction_id, hosts in found.items()}

    def _asked(self, prediction_ids: Sequence[str]) -> list[tuple[str, int, bytes]]:
        marks = ",".join("?" * len(prediction_ids))
        query = f"SELECT prediction_id, host, record FROM feedback WHERE prediction_id IN ({marks}) ORDER BY place"
        return self._database.execute(query, prediction_ids).fetchall()

    def _row(self, record: dict[str, Any]) -> tuple[str, bytes] | None:
        try:
            sound = is_sound(record)
            written = orjson.dumps(record)
        except TypeError:  # nested deeper than orjson can encode
            sound, written = False, b""
        if not sound:
            self.malformed += 1
            return None
        self.has_outcomes |= bool(record.get("outcomes"))
        self._note_lists(record)
        truth = record.get("truth")
        for one in _each(truth) if "truth" in self.listed and type(truth) is list else [truth]:
            if one is not None:
                is_exact = type(one) is not int or abs(one) <= MAX_EXACT_INTEGER
                self.truth_kinds.add(type(one) if is_exact else object)
        return record["prediction_id"], written

    def _note_lists(self, record: Mapping[str, Any]) -> None:
        """Note the fields with a value for each row. Earlier releases had none: a list was one truth."""
        if "outcomes" in record:
            by_row = "row" in record
            self.listed.update(name for name in OF_ROWS if type(record.get(name)) is list or by_row)
            metrics = (record.get("metrics") or {}).values()
            if by_row or any(type(value) is list for value in metrics):
                self.listed.add("metrics")


def is_sound(record: Mapping[str, Any]) -> bool:
    """Whether each value has the right type."""
    if type(record.get("prediction_id")) is not str or any(
        type(record.get(name)) not in kinds for name, kinds in _KINDS.items()
    ):
        return False
    orjson.dumps([record.get("truth")])  # raises TypeError here rather than when truths are compared
    metrics = record.get("metrics") or {}
    return (
        all(_is_number(value) for one in metrics.values() for value in _each(one))
        and all(_is_number(value) for value in _each(record.get("reward")))
        and all(type(value) is bool for value in _each(record.get("correct")))
        and all(_is_class(value) for one in _each(record.get("truth_class")) for value in _each(one))
        and all(_is_number(value) for value in (record.get("outcomes") or {}).values())
    )


def _each(value: Any) -> list[Any]:
    """The values that are given for rows, or the one that is given for the request."""
    return [one for one in (value if type(value) is list else [value]) if one is not None]


def _is_number(value: Any) -> bool:
    return type(value) in _NUMBER


def _is_class(value: Any) -> bool:
    return type(value) is int and abs(value) <= MAX_EXACT_INTEGER
