"""Reads what a line of feedback says of its prediction: a verdict, outcomes, and the true classes of its rows."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import orjson

from gateway.control.record_writer.outcome_sums import (
    CORRECT,
    MEASURED,
    UNKNOWN,
    WRONG,
    ClassRows,
    class_rows,
)
from gateway.records.measures import METRICS
from gateway.records.outcomes import is_countable
from gateway.shm.tally import CLASSES

MOST_CLASSES: Final = 4  # true classes of a prediction that are remembered, to be replaced when it is corrected
MOST_SHARED: Final = 10_000
SIMPLE: Final = frozenset((0.0, 1.0))
_shared: dict["Said", "Said"] = {}  # most classifications have one of few results, kept once
_names: dict[tuple[str, ...], tuple[str, ...]] = {}


class Said(NamedTuple):
    """What has been said of one prediction. `verdict`: "" without a truth. `names` and `values`: its outcomes.

    `rows`: of how many rows each value is the mean, if they were judged one by one, 0 if the request was judged as a
    whole; empty if all were. Tuples, because hundreds of thousands are kept in memory.
    """

    verdict: str = ""
    names: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    classes: ClassRows = ()
    rows: tuple[int, ...] = ()

    @property
    def outcomes(self) -> dict[str, float]:
        """The outcomes by name."""
        return dict(zip(self.names, self.values, strict=True))

    def amended(self, later: "Said") -> "Said":
        """What holds after `later` was said of the whole request, too: it replaces what both say."""
        classes = later.classes if later.verdict else self.classes
        verdict = later.verdict or self.verdict
        if later.names == self.names or not self.names:
            return Said(verdict, later.names, later.values, classes)
        both = self.outcomes | later.outcomes
        counts = dict(zip(self.names, self.rows, strict=False)) | dict.fromkeys(later.names, 0)
        rows = tuple(counts[name] for name in both) if self.rows else ()
        return Said(verdict, tuple(both), tuple(both.values()), classes, rows)

    def with_row(self, row: "Said", before: "Said") -> "Said":
        """What holds after `row` was said of a single row, of which `before` was said earlier: means over the rows.

        A row changes nothing of what was said of the whole request.
        """
        values, earlier = self.outcomes, before.outcomes
        counts = dict(zip(self.names, self.rows or (0,) * len(self.names), strict=True))
        for name, value in row.outcomes.items():
            count = counts.get(name)
            if count is None:
                values[name], counts[name] = value, 1
            elif count and name in earlier:
                values[name] += (value - earlier[name]) / count
            elif count:
                values[name] += (value - values[name]) / (count + 1)
                counts[name] = count + 1
        verdict = WRONG if WRONG in (self.verdict, row.verdict) else row.verdict or self.verdict
        return Said(
            verdict, tuple(values), tuple(values.values()), self.classes, tuple(counts[name] for name in values)
        )

    @property
    def remembered(self) -> "Said":
        """What is kept of it: a request's many true classes are not, so corrections of them are not counted."""
        short = self if len(self.classes) <= MOST_CLASSES else self._replace(classes=())
        if not SIMPLE.issuperset(short.values):
            return short
        return _shared.setdefault(short, short) if len(_shared) < MOST_SHARED else _shared.get(short, short)


def read_said(record: Mapping[str, Any]) -> tuple[Said, dict[str, float]]:
    """Read a line's record; return the outcomes by name, too. Lines of earlier gateways name none, but have `correct`,
    `reward` and `metrics`.
    """
    named = record.get("outcomes")
    given = named if isinstance(named, dict) else _earlier_outcomes(record)
    outcomes = {name: float(value) for name, value in given.items() if is_countable(value)}
    names = tuple(outcomes)
    names = _names.setdefault(names, names) if len(_names) < MOST_SHARED else names
    if record.get("truth") is None:
        return Said("", names, tuple(outcomes.values())), outcomes
    return Said(_verdict(outcomes), names, tuple(outcomes.values()), _classes(record)), outcomes


def parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the records of feedback among the lines; what is none is left out."""
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("prediction_id"), str):
            yield record


def _earlier_outcomes(record: Mapping[str, Any]) -> dict[str, Any]:
    correct = record.get("correct")
    named: dict[str, Any] = {"wrong": float(not correct), "loss": float(not correct)} if type(correct) is bool else {}
    named["reward"] = record.get("reward")
    return named | {f"{METRICS}{name}": value for name, value in (record.get("metrics") or {}).items()}


def _verdict(outcomes: Mapping[str, float]) -> str:
    """A request of several rows is wrong if one of them is."""
    wrong = outcomes.get("wrong")
    if wrong is not None:
        return WRONG if wrong else CORRECT
    return MEASURED if any(name.rpartition(".")[2] in ("loss", "wrong") for name in outcomes) else UNKNOWN


def _classes(record: Mapping[str, Any]) -> ClassRows:
    truths, correct = record.get("truth_class"), record.get("correct")
    if type(truths) is int and type(correct) is bool:
        return ((min(truths, CLASSES - 1), int(correct), int(not correct)),)
    if not isinstance(truths, list) or not isinstance(correct, list):
        return ()
    judged = zip(truths, correct, strict=False)
    return class_rows((truth, right) for truth, right in judged if type(truth) is int and type(right) is bool)
