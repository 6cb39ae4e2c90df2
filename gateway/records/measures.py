"""Measures of quality that people know, such as accuracy and MAE, from sums of outcomes.

An outcome is one number a prediction (`wrong`, `loss`, `reward`, `metrics.revenue`); those of an output other than the
first begin with its name (`age.loss`).
"""

import math
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

METRICS: Final = "metrics."  # what the outcomes' names of business metrics begin with
SHARE: Final = "share"  # from 0 to 1, shown in percent
NUMBER: Final = "number"
COUNT: Final = "count"
RATIO: Final = "ratio"  # of an effect only: the part more, 0.5 for one and a half times as often


class OutcomeSum(NamedTuple):
    """An outcome's values, one a prediction: how many, and their sum."""

    values: int = 0
    total: float = 0.0

    @property
    def mean(self) -> float | None:
        """None without values."""
        return self.total / self.values if self.values else None

    def plus(self, values: int, total: float) -> "OutcomeSum":
        """Return the sum with as many values more."""
        return OutcomeSum(self.values + values, self.total + total)


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureName:
    """How an outcome is shown. `name`: as in documents, such as `age.mae`; `label`: for people, such as "age MAE".

    `form`: SHARE, NUMBER or COUNT. `higher_is_better`: None if that is not known, as for a business metric, or if
    neither is. `kind`: the name without the output's.
    """

    name: str
    label: str
    kind: str
    form: str = NUMBER
    higher_is_better: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """One measure. `outcome`: that it is computed from; `count` predictions have one, and `total` is their sum."""

    shown: MeasureName
    outcome: str
    value: float
    count: int
    total: float


_KINDS: Final[Mapping[str, MeasureName]] = {
    "wrong": MeasureName(name="accuracy", label="accuracy", kind="accuracy", form=SHARE, higher_is_better=True),
    "absolute_error": MeasureName(name="mae", label="MAE", kind="mae", higher_is_better=False),
    "squared_error": MeasureName(name="rmse", label="RMSE", kind="rmse", higher_is_better=False),
    "error": MeasureName(name="bias", label="bias", kind="bias"),
    "labels_wrong": MeasureName(
        name="labels_wrong", label="labels wrong", kind="labels_wrong", form=SHARE, higher_is_better=False
    ),
    "loss": MeasureName(name="loss", label="loss", kind="loss", higher_is_better=False),
    "ndcg": MeasureName(name="ndcg", label="NDCG", kind="ndcg", higher_is_better=True),
    "reciprocal_rank": MeasureName(name="mrr", label="MRR", kind="mrr", higher_is_better=True),
    "reward": MeasureName(name="reward", label="reward", kind="reward", higher_is_better=True),
    "complaint": MeasureName(
        name="complaints", label="complaints", kind="complaints", form=COUNT, higher_is_better=False
    ),
}  # in the order in which they are shown
_VALUES: Final[Mapping[str, Callable[[float, float], float]]] = {
    "accuracy": lambda mean, total: 1.0 - mean,
    "rmse": lambda mean, total: math.sqrt(max(mean, 0.0)),
    "complaints": lambda mean, total: total,
}  # from an outcome's mean and sum; others are the mean


def measure_names(outcomes: Mapping[str, object]) -> dict[str, MeasureName]:
    """Return how these outcomes are shown, by outcome: those of the first output, those of others, business metrics.

    Those that say the same as another one are left out. The values are what is known of each outcome, to be compared.
    """
    by_output: dict[str, dict[str, object]] = {}
    business = []
    for name, known in outcomes.items():
        if name.startswith(METRICS):
            business.append(name)
        else:
            output, _, base = name.rpartition(".")
            by_output.setdefault(output, {})[base] = known
    found = {}
    for output, bases in sorted(by_output.items()):
        shown = {_kind_of(base, bases): base for base in bases}
        for kind, measure in _KINDS.items():
            if kind in shown:
                base = shown[kind]
                found[f"{output}.{base}" if output else base] = _of_output(output, measure)
    taken = {one.label.lower() for one in (*_KINDS.values(), *found.values())}
    return found | {name: _of_business(name, taken) for name in business}


def measures(outcomes: Mapping[str, OutcomeSum]) -> tuple[Measure, ...]:
    """Return the measures of these sums, in the order of `measure_names`."""
    there = {name: one for name, one in outcomes.items() if one.values}
    return tuple(_measure(outcome, there[outcome], shown) for outcome, shown in measure_names(there).items())


def text_of(measure: Measure) -> str:
    """The measure for people, such as "MAE 41.2"."""
    return f"{measure.shown.label} {value_text(measure.value, measure.shown.form)}"


def value_text(value: float, form: str) -> str:
    """A value of a measure for people."""
    if form == SHARE:
        return f"{value:.1%}"
    if form == RATIO:
        return f"{1 + value:,.0f} ×" if value >= 999 else f"{1 + value:.3g} ×"
    return f"{value:,.0f}" if form == COUNT or abs(value) >= 1000 else f"{value:.3g}"


def _of_business(metric: str, taken: Container[str]) -> MeasureName:
    """A metric that is called as a measure keeps its prefix: it is what clients say, and not what the gateway knows."""
    label = metric.removeprefix(METRICS)
    return MeasureName(name=metric, label=metric if label.lower() in taken else label, kind=METRICS)


def _of_output(output: str, name: MeasureName) -> MeasureName:
    return replace(name, name=f"{output}.{name.name}", label=f"{output} {name.label}") if output else name


def _kind_of(base: str, known: Mapping[str, object]) -> str:
    """The measure that an outcome shows, "" for none: the loss is another one in each kind of prediction."""
    if base != "loss":
        return base
    if "squared_error" in known:
        return "absolute_error"
    if "ndcg" in known or ("wrong" in known and known["loss"] == known["wrong"]):
        return ""
    return "labels_wrong" if "wrong" in known else "loss"


def _measure(outcome: str, one: OutcomeSum, shown: MeasureName) -> Measure:
    mean = one.total / one.values
    value = _VALUES[shown.kind](mean, one.total) if shown.kind in _VALUES else mean
    return Measure(shown=shown, outcome=outcome, value=value, count=one.values, total=one.total)
