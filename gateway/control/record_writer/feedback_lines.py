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

MOST_CLASSES: Final = 4  # true classes of a prediction that are remembered, to be replaced when it is corrected
MOST_SHARED: Final = 10_000
_shared: dict["Said", "Said"] = {}  # most classifications have one of few results, kept once
_names: dict[tuple[str, ...], tuple[str, ...]] = {}


class Said(NamedTuple):
    """What has been said of one prediction. `verdict`: "" without a truth. `names` and `values`: its outcomes.

    Two tuples, because hundreds of thousands are kept in memory.
    """

    verdict: str = ""
    names: tuple[str, ...] = ()
    values: tuple[float, ...] = ()
    classes: ClassRows = ()

    @property
    def outcomes(self) -> dict[str, float]:
        """The outcomes by name."""
        return dict(zip(self.names, self.values, strict=True))

    def amended(self, later: "Said") -> "Said":
        """What holds after `later` was said, too: it replaces what both say."""
        if later.names == self.names or not self.names:
            names, values = later.names, later.values
        else:
            both = self.outcomes | later.outcomes
            names, values = tuple(both), tuple(both.values())
        return Said(later.verdict or self.verdict, names, values, later.classes if later.verdict else self.classes)

    @property
    def remembered(self) -> "Said":
        """What is kept of it: a request's many true classes are not, so corrections of them are not counted."""
        short = self if len(self.classes) <= MOST_CLASSES else self._replace(classes=())
        if len(_names) < MOST_SHARED:
            short = short._replace(names=_names.setdefault(short.names, short.names))
        if not {0.0, 1.0}.issuperset(short.values):
            return short
        return _shared.setdefault(short, short) if len(_shared) < MOST_SHARED else _shared.get(short, short)


def read_said(record: Mapping[str, Any]) -> Said:
    """Read a line's record. Lines of earlier gateways name no outcomes, but have `correct`, `reward` and `metrics`."""
    named = record.get("outcomes")
    outcomes = _countable(named if isinstance(named, dict) else _earlier_outcomes(record))
    verdict = "" if record.get("truth") is None else _verdict(outcomes)
    return Said(verdict, tuple(outcomes), tuple(outcomes.values()), _classes(record) if verdict else ())


def parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """Yield the records of feedback among the lines; what is none is left out."""
    for line in lines:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("prediction_id"), str):
            yield record


def _countable(named: Mapping[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in named.items() if is_countable(value)}


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
    if not isinstance(truths, list) or not isinstance(correct, list):
        truths, correct = [truths], [correct]
    judged = zip(truths, correct, strict=False)
    return class_rows((truth, right) for truth, right in judged if type(truth) is int and type(right) is bool)
