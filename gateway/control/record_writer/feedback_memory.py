"""Remembers what was said of the latest predictions, to tell news and corrections from repetitions."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final, Generic, NamedTuple, TypeVar

from gateway.control.record_writer.feedback_lines import Said, read_said
from gateway.control.record_writer.outcome_sums import CORRECT, WRONG, ClassRows

MAX_REMEMBERED: Final = 200_000  # latest predictions whose feedback is recognised when repeated; older ones count again
NOTHING: Final = Said()
_NONE: Final[Mapping[str, float]] = {}
T = TypeVar("T")


class RecentValues(Generic[T]):
    """The last value of each of the latest `MAX_REMEMBERED` keys; keys that came first are evicted first."""

    def __init__(self) -> None:
        self._values: OrderedDict[int, T] = OrderedDict()  # popping the first key of a dict gets slower and slower

    def put(self, key: int, value: T) -> None:
        self._values[key] = value
        if len(self._values) > MAX_REMEMBERED:
            self._values.popitem(last=False)

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
        self._known: RecentValues[Said] = RecentValues()

    def put(self, record: Mapping[str, Any]) -> Change | None:
        """Take in the record of a line; return what it changes, None if it only repeats."""
        (said, outcomes), prediction, row = read_said(record), record["prediction_id"], record.get("row")
        key = hash(prediction)
        earlier = self._known.get(key)
        if earlier is None and row is None:  # nearly always
            self._known.put(key, said.remembered)
            return Change(said, outcomes, _NONE, outcomes, bool(said.verdict), () if said.classes else None)
        if type(row) is int:
            row_key = hash((prediction, row))
            before = self._known.get(row_key)
            if not self._amend(row_key, before, said):
                return None
            now = (earlier or NOTHING).with_row(said, before or NOTHING)
            self._known.put(key, now.remembered)
        else:
            before = earlier
            if not self._amend(key, before, said):
                return None
            now = (before or NOTHING).amended(said)
        before = before or NOTHING
        repeated = before.outcomes
        new_classes = said.classes and (before.classes or before.verdict not in (CORRECT, WRONG))
        return Change(
            said=said,
            received={name: value for name, value in outcomes.items() if repeated.get(name) != value},
            before=(earlier or NOTHING).outcomes,
            now=now.outcomes,
            truth=said.verdict not in ("", before.verdict),
            classes_before=before.classes if new_classes else None,
        )

    def _amend(self, key: int, before: Said | None, said: Said) -> bool:
        """Remember what was said under this key; return whether it was news."""
        now = (before or NOTHING).amended(said).remembered
        if now == before:
            return False
        self._known.put(key, now)
        return True
