"""Merges all feedback on one prediction into what applies, and says whether its truths contradict each other.

Feedback may be about the request, may list a value for each row, or may be about one row. A request may have thousands
of rows with feedback on each, so that work and memory are in proportion to the values that were sent.
"""

import heapq
from bisect import insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, Final

import orjson

from gateway.records.segments import MAX_DISORDER_NS

OF_ROWS: Final = ("truth", "truth_class", "correct", "reward")  # fields that may hold a value for each row


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
        return _key(self.truth if self.truth_class is None else [self.truth_class])


class Contradiction:
    """Whether truths of one prediction contradict each other: `found`, once all labels are added, in any order.

    They do if two differ that are about all of the request, or two of one row. Lists with None for some rows are about
    the others; a truth of the request that is no list is one of each row.
    """

    def __init__(self) -> None:
        self.found = False
        self._whole: str | None = None  # what the truths about all of the request mean
        self._each: str | None = None  # the same, if it is one of each row
        self._rows: dict[int, str] = {}

    def add(self, label: Label, row: int | None) -> None:
        """Take a label, of one row or of the request (None), into account."""
        meant = label.truth if label.truth_class is None else label.truth_class
        if self.found or (row is None and label.meaning == self._whole):
            return
        if row is not None:
            self._add_row(row, meant)
            return
        if type(meant) is not list or None not in meant:
            self.found, self._whole = self._whole is not None, label.meaning
        if type(meant) is list:
            for number, value in enumerate(meant):
                self._add_row(number, value)
        else:
            self._each = _key(meant)
            self.found |= any(value != self._each for value in self._rows.values())

    def _add_row(self, row: int, value: Any) -> None:
        if value is not None:
            key = _key(value)
            self.found |= self._rows.setdefault(row, key) != key or self._each not in (None, key)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFeedback:
    """All feedback on one prediction. The latest value of truth, of reward and of each metric applies.

    `truth_class`: the class index that the truth names, if any. `labels`: one per distinct truth of the request, the
    latest one last; `row_labels`: the same of truths that were sent for one row, by its index. A class's name and its
    index are the same truth. `count`: distinct feedbacks; repetitions count once. `conflict`: whether truths contradict
    each other. `outcomes`: what the gateway computed from it for the whole request. Feedback on a request of several
    rows has lists with a value per row, None for rows that it does not judge, in the place of a truth, class, reward,
    metric or `correct`.
    """

    truth: Any = None
    truth_class: Any = None
    reward: Any = None
    correct: Any = None
    metrics: Mapping[str, Any] = field(default_factory=dict)
    comment: str | None = None
    count: int = 0
    labels: Sequence[Label] = ()
    row_labels: Mapping[int, Sequence[Label]] = field(default_factory=dict)
    conflict: bool = False
    outcomes: Mapping[str, float] = field(default_factory=dict)


def row_of_feedback(record: Mapping[str, Any]) -> int | None:
    """The row that a record of feedback is about; None if it is about the request."""
    row = record.get("row")
    return row if type(row) is int and row >= 0 else None


def label_of(record: Mapping[str, Any]) -> Label | None:
    """The label that a record of feedback gives; None if it gives no truth."""
    if record.get("truth") is None:
        return None
    return Label(record["truth"], record.get("customer"), record["time_ns"], record.get("truth_class"))


def merge_feedback(*hosts: Sequence[dict[str, Any]]) -> StoredFeedback:
    """Merge all feedback on one prediction, as each host has recorded it. Records with the same row, truth, reward and
    metrics count once.
    """
    labels: dict[int | None, dict[str, Label]] = {}
    said: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    outcomes: dict[str, float] = {}
    different = set()
    contradiction = Contradiction()
    for record in heapq.merge(*map(_in_order, hosts), key=_time_ns):
        row = row_of_feedback(record)
        different.add(_key([row, *(record.get(name) for name in ("truth", "reward", "metrics"))]))
        for name, value in (record.get("metrics") or {}).items():
            _put(metrics, name, value, row)
        if row is None:
            outcomes.update(record.get("outcomes") or {})
        if record.get("reward") is not None:
            _put(said, "reward", record["reward"], row)
        if record.get("comment") is not None:
            said["comment"] = record["comment"]
        if (label := label_of(record)) is not None:
            contradiction.add(label, row)
            given = labels.setdefault(row, {})
            given.pop(label.meaning, None)
            given[label.meaning] = label
            for name in ("truth", "truth_class", "correct"):
                _put(said, name, record.get(name), row)
    return StoredFeedback(
        **said,
        metrics=metrics,
        count=len(different),
        labels=tuple(labels.pop(None, {}).values()),
        row_labels={row: tuple(given.values()) for row, given in labels.items() if row is not None},
        conflict=contradiction.found,
        outcomes=outcomes,
    )


def _key(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()


def _put(held: dict[str, Any], name: str, value: Any, row: int | None) -> None:
    """Put a later value, of the request or of one row, over the earlier one that is held."""
    earlier = held.get(name)
    if row is None:
        held[name] = _over(earlier, value)
        return
    if type(earlier) is not list:
        if value is None:
            held[name] = None
            return
        earlier = held[name] = []
    earlier.extend([None] * (row + 1 - len(earlier)))
    earlier[row] = value  # in place: a list for each of thousands of rows would take hours


def _over(earlier: Any, value: Any) -> Any:
    """The later value, over the earlier one in those rows that it gives; a list is a new one, to be added to."""
    if type(value) is not list:
        return value
    if type(earlier) is not list or (len(value) >= len(earlier) > 0 and None not in value):
        return list(value)
    return [before if now is None else now for before, now in zip_longest(earlier, value)]


def _time_ns(record: Mapping[str, Any]) -> int:
    return int(record["time_ns"])


def _in_order(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort one host's records, given in the order of writing, into the order in which they were made.

    They are sorted by time, within the disorder that several workers' interleaved writing can cause (DISORDER_NS). A
    record that is older than that shows that the clock was set back; sorting starts anew there.
    """
    ordered: list[dict[str, Any]] = []
    began, latest_ns = 0, 0
    for record in records:
        time_ns = _time_ns(record)
        if time_ns + MAX_DISORDER_NS < latest_ns:
            began, latest_ns = len(ordered), 0
        latest_ns = max(latest_ns, time_ns)
        insort(ordered, record, lo=began, key=_time_ns)
    return ordered
