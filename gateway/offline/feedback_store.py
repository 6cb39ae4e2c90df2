"""Looks up feedback by the prediction that it is for.

Feedback comes after its prediction, in any order, possibly several times. It is stored in a SQLite file, so it need not
fit in memory.
"""

import sqlite3
from bisect import insort
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, zip_longest
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
    "truth_class": frozenset({int, list, _NOTHING}),
    "reward": _NUMBER | {list, _NOTHING},
    "correct": frozenset({bool, list, _NOTHING}),
    "metrics": frozenset({dict, _NOTHING}),
    "outcomes": frozenset({dict, _NOTHING}),
    "comment": frozenset({str, _NOTHING}),
    "customer": frozenset({str, _NOTHING}),
}  # `read` has checked time_ns already
_OF_ROWS: Final = ("truth", "truth_class", "correct", "reward")
_CACHE_KIB: Final = 65_536


@dataclass(frozen=True, slots=True)
class Label:
    """A truth, who sent it and when (ns since 1970). `truth_class`: the class index that it names, if any."""

    truth: Any
    customer: str | None
    time_ns: int
    truth_class: Any = None

    @property
    def meaning(self) -> str:
        """A key that is equal for labels of the same meaning: the class, or the truth itself if it names no class."""
        meant = self.truth if self.truth_class is None else [self.truth_class]
        return orjson.dumps(meant, option=orjson.OPT_SORT_KEYS).decode()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFeedback:
    """All feedback on one prediction. The latest value of truth, of reward and of each metric applies.

    `truth_class`: the class index that the truth names, if any. `labels`: one per distinct truth, the latest one last;
    a class's name and its index are the same truth. `count`: distinct feedbacks; repetitions count once. `outcomes`:
    what the gateway computed from it for the whole request. Feedback on a request of several rows has lists with a
    value per row, None for rows that it does not judge, in the place of a truth, class, reward, metric or `correct`.
    """

    truth: Any = None
    truth_class: Any = None
    reward: Any = None
    correct: Any = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    comment: str | None = None
    count: int = 0
    labels: Sequence[Label] = ()
    outcomes: Mapping[str, float] = field(default_factory=dict)

    @property
    def conflict(self) -> bool:
        """Whether truths contradict each other; lists that judge different rows do not."""
        return any(_contradict(one, other) for one, other in combinations(self.labels, 2))


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
        self._database.execute("CREATE TABLE feedback (place INTEGER PRIMARY KEY, prediction_id TEXT, record BLOB)")
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
            self.listed.update(name for name in _OF_ROWS if type(record.get(name)) is list or by_row)
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


def _contradict(one: Label, other: Label) -> bool:
    truths = [label.truth if label.truth_class is None else label.truth_class for label in (one, other)]
    if all(type(truth) is list for truth in truths) and None in [*truths[0], *truths[1]]:
        return any(first != second and None not in (first, second) for first, second in zip(*truths, strict=False))
    return True


def _by_row(record: dict[str, Any]) -> dict[str, Any]:
    """Feedback on one row as feedback with a list, in which only that row has a value."""
    row = record.get("row")
    if type(row) is not int or row < 0:
        return record
    before = [None] * row
    listed = {name: [*before, record[name]] for name in _OF_ROWS if record.get(name) is not None}
    metrics = {name: [*before, value] for name, value in (record.get("metrics") or {}).items()}
    return {**record, **listed, "metrics": metrics or None, "outcomes": None}


def _over(earlier: Any, value: Any) -> Any:
    """The later value, over the earlier one in those rows that it gives."""
    if type(value) is not list or type(earlier) is not list or (len(value) >= len(earlier) > 0 and None not in value):
        return value
    pairs = zip_longest(earlier, value)
    return [before if now is None else now for before, now in pairs]


def merge_feedback(records: Sequence[dict[str, Any]]) -> StoredFeedback:
    """Merge all feedback on one prediction. Records with the same truth, reward and metrics count once."""
    labels: dict[str, Label] = {}
    said: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    outcomes: dict[str, float] = {}
    different = set()
    for record in map(_by_row, _in_order(records)):
        truth = record.get("truth")
        different.add(orjson.dumps([truth, record.get("reward"), record.get("metrics")], option=orjson.OPT_SORT_KEYS))
        metrics.update({name: _over(metrics.get(name), one) for name, one in (record.get("metrics") or {}).items()})
        outcomes.update(record.get("outcomes") or {})
        said.update(
            {
                name: _over(said.get(name), record[name])
                for name in ("reward", "comment")
                if record.get(name) is not None
            }
        )
        if truth is not None:
            label = Label(truth, record.get("customer"), record["time_ns"], record.get("truth_class"))
            labels.pop(label.meaning, None)
            labels[label.meaning] = label
            judged = {"truth": truth, "truth_class": record.get("truth_class"), "correct": record.get("correct")}
            said.update({name: _over(said.get(name), value) for name, value in judged.items()})
    return StoredFeedback(
        **said, metrics=metrics, count=len(different), labels=tuple(labels.values()), outcomes=outcomes
    )


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
