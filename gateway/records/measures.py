"""Measures of quality that people know, such as accuracy and MAE, from sums of outcomes.

An outcome is one number a prediction (`wrong`, `loss`, `reward`, `metrics.revenue`); those of an output other than the
first begin with its name (`age.loss`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

METRICS: Final = "metrics."  # what the outcomes' names of business metrics begin with
SHARE: Final = "share"  # from 0 to 1, shown in percent
NUMBER: Final = "number"
COUNT: Final = "count"


class OutcomeSum(NamedTuple):
    """An outcome's values, one a prediction: how many, and their sum."""

    count: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """None without values."""
        return self.total / self.count if self.count else None

    def plus(self, count: int, total: float) -> "OutcomeSum":
        """Return the sum with as many values more, or fewer if negative."""
        return OutcomeSum(self.count + count, self.total + total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure. `name`: as in documents, such as `age.mae`; `label`: for people, such as "age MAE".

    `outcome`: that it is computed from; `count` predictions have one, and `total` is their sum. `form`: SHARE, NUMBER
    or COUNT. `higher_is_better`: None if that is not known, as for a business metric, or if neither is.
    """

    name: str
    label: str
    outcome: str
    value: float
    count: int
    total: float
    form: str = NUMBER
    higher_is_better: bool | None = None


@dataclass(frozen=True, slots=True)
class _Kind:
    """How a measure is named, shown and computed from an outcome's mean and sum."""

    name: str
    label: str
    form: str
    higher_is_better: bool | None
    of: Callable[[float, float], float] = lambda mean, total: mean


_KINDS: Final[Mapping[str, _Kind]] = {
    "wrong": _Kind("accuracy", "accuracy", SHARE, True, lambda mean, total: 1.0 - mean),
    "absolute_error": _Kind("mae", "MAE", NUMBER, False),
    "squared_error": _Kind("rmse", "RMSE", NUMBER, False, lambda mean, total: math.sqrt(max(mean, 0.0))),
    "error": _Kind("bias", "bias", NUMBER, None),
    "labels_wrong": _Kind("labels_wrong", "labels wrong", SHARE, False),
    "loss": _Kind("loss", "loss", NUMBER, False),
    "ndcg": _Kind("ndcg", "NDCG", NUMBER, True),
    "reciprocal_rank": _Kind("mrr", "MRR", NUMBER, True),
    "reward": _Kind("reward", "reward", NUMBER, True),
    "complaint": _Kind("complaints", "complaints", COUNT, False, lambda mean, total: total),
}  # in the order in which they are shown


def measures(outcomes: Mapping[str, OutcomeSum]) -> tuple[Measure, ...]:
    """Return the measures of these sums: those of the first output, those of others, and business metrics."""
    by_output: dict[str, dict[str, OutcomeSum]] = {}
    business = []
    for name, one in outcomes.items():
        if name.startswith(METRICS):
            label = name.removeprefix(METRICS)
            business += [_measure("", name, one, _Kind(name, label, NUMBER, None))] if one.count else []
        elif one.count:
            output, _, base = name.rpartition(".")
            by_output.setdefault(output, {})[base] = one
    known = []
    for output, sums in sorted(by_output.items()):
        shown = {_kind_of(base, sums): base for base in sums}
        known += [_measure(output, shown[kind], sums[shown[kind]], _KINDS[kind]) for kind in _KINDS if kind in shown]
    return (*known, *business)


def text_of(measure: Measure) -> str:
    """The measure for people, such as "MAE 41.2"."""
    return f"{measure.label} {value_text(measure.value, measure.form)}"


def value_text(value: float, form: str) -> str:
    """A value of a measure for people."""
    if form == SHARE:
        return f"{value:.1%}"
    return f"{value:,.0f}" if form == COUNT or abs(value) >= 1000 else f"{value:.3g}"


def _kind_of(base: str, sums: Mapping[str, OutcomeSum]) -> str:
    """The measure that an outcome shows, "" for none: the loss is another one in each kind of prediction."""
    if base != "loss":
        return base
    if "squared_error" in sums:
        return "absolute_error"
    if "ndcg" in sums or sums["loss"] == sums.get("wrong"):
        return ""
    return "labels_wrong" if "wrong" in sums else "loss"


def _measure(output: str, base: str, one: OutcomeSum, kind: _Kind) -> Measure:
    return Measure(
        name=f"{output}.{kind.name}" if output else kind.name,
        label=f"{output} {kind.label}" if output else kind.label,
        outcome=f"{output}.{base}" if output else base,
        value=kind.of(one.total / one.count, one.total),
        count=one.count,
        total=one.total,
        form=kind.form,
        higher_is_better=kind.higher_is_better,
    )
