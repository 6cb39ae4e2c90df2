"""Looks up feedback by the prediction that it is for.

Feedback comes after its prediction, in any order, possibly several times. It is stored in a SQLite file, so it need not
fit in memory.
"""

import sqlite3
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import orjson

from gateway.records.segments import MAX_DISORDER_NS

_BATCH: Final = 500  # predictions looked up at once
MAX_EXACT_INTEGER: Final = 2**53  # up to this, integers are exact in all number types of JSON, Parquet and Python
_NOTHING: Final = type(None)
_NUMBER: Final = frozenset({int, float})
_KINDS: Final[Mapping[str, frozenset[type]]] = {
    "truth_class": frozenset({int, _NOTHING}),
    "reward": _NUMBER | {_NOTHING},
    "correct": frozenset({bool, _NOTHING}),
    "metrics": frozenset({dict, _NOTHING}),
    "comment": frozenset({str, _NOTHING}),
    "customer": frozenset({str, _NOTHING}),
}  # `read` has checked time_ns already
_CACHE_KIB: Final = 65_536


@dataclass(frozen=True, slots=True)
class Label:
    """A truth, who sent it and when (ns since 1970). `truth_class`: the class index that it names, if any."""

    truth: Any
    customer: str | None
    time_ns: int
    truth_class: int | None = None

    @property
    def meaning(self) -> str:
        """A key that is equal for labels of the same meaning: the class, or the truth itself if it names no class."""
        meant = self.truth if self.truth_class is None else [self.truth_class]
        return orjson.dumps(meant, option=orjson.OPT_SORT_KEYS).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFeedback:
    """All feedback on one prediction. The latest value of truth, of reward and of each metric applies.

    `truth_class`: the class index that the truth names, if any. `labels`: one per distinct truth, the latest one last;
    a class's name and its index are the same truth. `count`: distinct feedbacks; repetitions count once.
    """

    truth: Any = None
    truth_class: int | None = None
    reward: float | None = None
    correct: bool | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    comment: str | None = None
    count: int = 0
    labels: Sequence[Label] = ()

    @property
    def conflict(self) -> bool:
        """Whether truths contradict each other."""
        return len(self.labels) > 1


class FeedbackStore:
    """The feedback of one model, in its own SQLite file. Fill it once, then look predictions up.

    `malformed`: feedback records skipped because a value has the wrong type. `truth_kinds`: Python types of the truths.
    """

    def __init__(self, file: Path) -> None:
        self._database = sqlite3.connect(file, isolation_level=None)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        self._database.execute("CREATE TABLE feedback (place INTEGER PRIMARY KEY, prediction_id TEXT, record BLOB)")
        self.empty = True
        self.malformed = 0
        self.truth_kinds: set[type] = set()  # contains `object` for an integer beyond EXACT

    def __enter__(self) -> "FeedbackStore":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._database.close()

    def fill(self, records: Iterable[dict[str, Any]]) -> None:
        """Insert the records of the stream `feedback` in order; call it once. `malformed` counts those skipped."""
        self._database.execute("BEGIN")
        rows = (row for record in records if (row := self._row(record)) is not None)
        self._database.executemany("INSERT INTO feedback (prediction_id, record) VALUES (?, ?)", rows)
        self._database.execute("CREATE INDEX by_prediction ON feedback (prediction_id)")
        self._database.execute("COMMIT")
        self.empty = self._database.execute("SELECT 1 FROM feedback LIMIT 1").fetchone() is None

    def of(self, prediction_ids: Sequence[str]) -> dict[str, StoredFeedback]:
        """Return the feedback on these predictions, by prediction id; predictions without feedback are absent."""
        found: dict[str, list[dict[str, Any]]] = {}
        if not self.empty:
            for start in range(0, len(prediction_ids), _BATCH):
                for prediction_id, record in self._asked(prediction_ids[start : start + _BATCH]):
                    found.setdefault(prediction_id, []).append(orjson.loads(record))
        return {prediction_id: merge_feedback(records) for prediction_id, records in found.items()}

    def _asked(self, prediction_ids: Sequence[str]) -> list[tuple[str, bytes]]:
        marks = ",".join("?" * len(prediction_ids))
        query = f"SELECT prediction_id, record FROM feedback WHERE prediction_id IN ({marks}) ORDER BY place"
        return self._database.execute(query, prediction_ids).fetchall()

    def _row(self, record: dict[str, Any]) -> tuple[str, bytes] | None:
        try:
            sound = _sound(record)
            written = orjson.dumps(record)
        except TypeError:  # nested deeper than orjson can encode
            sound, written = False, b""
        if not sound:
            self.malformed += 1
            return None
        truth = record.get("truth")
        if truth is not None:
            is_exact = type(truth) is not int or abs(truth) <= MAX_EXACT_INTEGER
            self.truth_kinds.add(type(truth) if is_exact else object)
        return record["prediction_id"], written


def _sound(record: Mapping[str, Any]) -> bool:
    """Whether each value has the right type."""
    if type(record.get("prediction_id")) is not str or any(
        type(record.get(name)) not in kinds for name, kinds in _KINDS.items()
    ):
        return False
    orjson.dumps([record.get("truth")])  # raises TypeError here rather than when truths are compared
    metrics = record.get("metrics") or {}
    return (
        all(type(value) in _NUMBER for value in metrics.values())
        and abs(record.get("truth_class") or 0) <= MAX_EXACT_INTEGER
    )


def merge_feedback(records: Sequence[dict[str, Any]]) -> StoredFeedback:
    """Merge all feedback on one prediction. Records with the same truth, reward and metrics count once."""
    labels: dict[str, Label] = {}
    said: dict[str, Any] = {}
    metrics: dict[str, float] = {}
    different = set()
    for record in _in_order(records):
        truth = record.get("truth")
        different.add(orjson.dumps([truth, record.get("reward"), record.get("metrics")], option=orjson.OPT_SORT_KEYS))
        metrics.update(record.get("metrics") or {})
        said.update({name: record[name] for name in ("reward", "comment") if record.get(name) is not None})
        if truth is not None:
            label = Label(truth, record.get("customer"), record["time_ns"], record.get("truth_class"))
            labels.pop(label.meaning, None)
            labels[label.meaning] = label
            said.update(truth=truth, truth_class=record.get("truth_class"), correct=record.get("correct"))
    return StoredFeedback(**said, metrics=metrics, count=len(different), labels=tuple(labels.values()))


def _in_order(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort records, given in the order of writing, into the order in which they were made.

    They are sorted by time, within the disorder that several workers' interleaved writing can cause (DISORDER_NS). A
    record that is older than that shows that the clock was set back; sorting starts anew there.
    """
    ordered: list[dict[str, Any]] = []
    began, latest_ns = 0, 0
    for record in records:
        time_ns = int(record["time_ns"])
        if time_ns + MAX_DISORDER_NS < latest_ns:
            began, latest_ns = len(ordered), 0
        latest_ns = max(latest_ns, time_ns)
        insort(ordered, record, lo=began, key=lambda one: int(one["time_ns"]))
    return ordered
