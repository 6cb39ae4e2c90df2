"""Remembers what was said of the latest predictions, to tell news and corrections from repetitions."""

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from gateway.control.record_writer.feedback_lines import Said, read_said
from gateway.control.record_writer.outcome_sums import CORRECT, WRONG, ClassRows

MAX_REMEMBERED: Final = 200_000  # latest predictions whose feedback is recognised when repeated; older ones count again
MAX_OUTCOMES: Final = 4 * MAX_REMEMBERED  # of all these: clients may send 32 metrics each, with ever new names
NOTHING: Final = Said()
_NONE: Final[Mapping[str, float]] = {}
T = TypeVar("T")


class RecentValues(Generic[T]):
    """The last value of each of the latest `MAX_REMEMBERED` keys; keys that came first are evicted first.

    `size`: of a value; all that are remembered have at most `MAX_OUTCOMES` together.
    """

    def __init__(self, size: Callable[[T], int] = lambda _: 0) -> None:
        self._values: OrderedDict[int, T] = OrderedDict()  # popping the first key of a dict gets slower and slower
        self._size_of = size
        self._size = 0

    def put(self, key: int, value: T) -> None:
        before = self._values.get(key)
        self._size += self._size_of(value) - (0 if before is None else self._size_of(before))
        self._values[key] = value
        while len(self._values) > MAX_REMEMBERED or self._size > MAX_OUTCOMES:
            _, evicted = self._values.popitem(last=False)
            self._size -= self._size_of(evicted)

    def get(self, key: int) -> T | None:
        return self._values.get(key)


class Change(NamedTuple):
    """What a line of feedback changes. `said`: in the line; `received`: its outcomes, those that are not repeated.
    `before` and `now`: the outcomes of the prediction.

    `truth`: whether the line's verdict is new for the prediction or its row. `classes_before`: to be replaced by those
    said; None if those said are not to be counted.
    """

    said: Said
    received: Mapping[str, float]
    before: Mapping[str, float]
    now: Mapping[str, float]
    truth: bool
    classes_before: ClassRows | None


class FeedbackMemory:
    """What was said of the latest predictions, and of their rows."""

    def __init__(self) -> None:
        self._known: RecentValues[Said] = RecentValues(_outcomes)
        self._rows: RecentValues[Said] = RecentValues(
            _outcomes
        )  # apart: a request has up to 10,000, which push out others

    def put(self, record: Mapping[str, Any]) -> Change | None:
        """Take in the record of a line; return what it changes, None if it only repeats."""
        (said, outcomes), prediction, row = read_said(record), record["prediction_id"], record.get("row")
        key = hash(prediction)
        earlier = self._known.get(key)
        if earlier is None and row is None:  # nearly always
            self._known.put(key, said.remembered)
            return Change(said, outcomes, _NONE, outcomes, bool(said.verdict), () if said.classes else None)
        whole = earlier or NOTHING
        by_row = type(row) is int
        memory, own_key = (self._rows, hash((prediction, row))) if by_row else (self._known, key)
        if by_row and whole.judges_all_rows(said):
            said = said._replace(verdict="", classes=())
        known = memory.get(own_key)
        before = known or NOTHING
        counts_classes = bool(said.classes) and (before.classes != () or before.verdict not in (CORRECT, WRONG))
        now = before.amended(said)
        if not counts_classes:  # only what is counted may be taken back later
            now = now._replace(classes=before.classes)
        if now.remembered == known:
            return None
        memory.put(own_key, now.remembered)
        if by_row:
            now = whole.with_row(said, before)
            self._known.put(key, now.remembered)
        repeated = before.outcomes
        return Change(
            said=said,
            received={name: value for name, value in outcomes.items() if repeated.get(name) != value},
            before=whole.outcomes,
            now=now.outcomes,
            truth=said.verdict not in ("", before.verdict),
            classes_before=before.classes if counts_classes else None,
        )


def _outcomes(said: Said) -> int:
    return len(said.names)
