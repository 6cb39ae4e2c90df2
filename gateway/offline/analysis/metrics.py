"""What is measured of judged rows: each metric is the mean of an outcome, with a direction that is better."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

import numpy as np

from gateway.offline.examples import METRIC
from gateway.offline.unit_means import Floats, Mean, smoothed


class Better(StrEnum):
    """Which direction is better; of a business metric or a bias it is not known."""

    LOWER = "lower"
    HIGHER = "higher"
    UNKNOWN = "unknown"


def _same(value: float) -> float:
    return value


def _rest(value: float) -> float:
    return 1 - value


def _root(value: float) -> float:
    return math.sqrt(max(0.0, value))


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric, called as in status and Prometheus.

    `outcome`: whose mean it is, after `transform`; `share`: it is a share from 0 to 1, shown in percent; `tested`:
    slices are compared by it.
    """

    name: str
    outcome: str
    better: Better
    share: bool = False
    tested: bool = False
    transform: Callable[[float], float] = _same

    @property
    def label(self) -> str:
        """The name for a reader, as in the console: MAE for mae, without the `metrics.` of business metrics."""
        if self.name.startswith(METRIC):
            return self.name.removeprefix(METRIC)
        output, dot, base = self.name.rpartition(".")
        return f"{output}{dot and ' '}{_LABELS_OF.get(base, base)}"

    @property
    def harm(self) -> int:
        """1 if more of the outcome is worse, -1 if less is, 0 if it is not known."""
        if self.better is Better.UNKNOWN:
            return 0
        return 1 if (self.better is Better.LOWER) != (self.transform is _rest) else -1

    @property
    def sign(self) -> int:
        """-1 if the metric falls where the outcome rises, else 1."""
        return -1 if self.transform is _rest else 1

    def of(self, mean: Mean) -> tuple[float, float, float]:
        """The metric's value and the ends of its 95% interval, lower first."""
        likely = smoothed(mean) if self.share else mean
        low, high = self.transform(likely.low), self.transform(likely.high)
        if self.share:
            low, high = (min(max(end, 0.0), 1.0) for end in (low, high))
        return self.transform(mean.value), min(low, high), max(low, high)

    def text(self, value: float) -> str:
        """The value for a reader."""
        if math.isnan(value):
            return "-"
        return f"{100 * value:.1f}%" if self.share else f"{value:.4g}"

    def shown(self, mean: Mean) -> str:
        """The metric with its interval: 12.3% [10.1, 14.9]."""
        if not mean.count:
            return "-"
        value, low, high = self.of(mean)
        if not (math.isfinite(low) and math.isfinite(high)):
            return self.text(value)
        ends = f"{100 * low:.1f}, {100 * high:.1f}" if self.share else f"{low:.4g}, {high:.4g}"
        return f"{self.text(value)} [{ends}]"


_WRONG: Final = "wrong"
_LABELS_OF: Final = {"mae": "MAE", "rmse": "RMSE", "ndcg": "NDCG", "mrr": "MRR", "labels_wrong": "labels wrong"}
_CLASSES: Final = (Metric("accuracy", _WRONG, Better.HIGHER, share=True, tested=True, transform=_rest),)
_LABELS: Final = (
    Metric("accuracy", _WRONG, Better.HIGHER, share=True, transform=_rest),
    Metric("labels_wrong", "loss", Better.LOWER, share=True, tested=True),
)
_NUMBERS: Final = (
    Metric("mae", "loss", Better.LOWER, tested=True),
    Metric("rmse", "squared_error", Better.LOWER, transform=_root),
    Metric("bias", "error", Better.UNKNOWN, tested=True),
)
_LISTS: Final = (
    Metric("ndcg", "ndcg", Better.HIGHER, share=False, tested=True),
    Metric("mrr", "reciprocal_rank", Better.HIGHER),
)
_NAMES: Final = frozenset({_WRONG, "loss", "squared_error", "error", "ndcg", "reciprocal_rank"})


def metrics_of(outcomes: Mapping[str, Floats]) -> list[Metric]:
    """The metrics that these outcomes make, those of the main output first.

    Further outputs' outcomes are called OUTPUT.NAME; business metrics metrics.NAME.
    """
    names = [name for name in outcomes if name != "reward" and not name.startswith(METRIC)]
    found: list[Metric] = []
    for prefix in sorted({name[: -len(known)] for name in names for known in _NAMES if _ends(name, known)}):
        mine = {name.removeprefix(prefix): outcomes[name] for name in names if name.startswith(prefix)}
        found += [
            replace(metric, name=f"{prefix}{metric.name}", outcome=f"{prefix}{metric.outcome}")
            for metric in _main(mine)
        ]
    if "reward" in outcomes:
        found.append(Metric("reward", "reward", Better.HIGHER, tested=True))
    business = sorted(name for name in outcomes if name.startswith(METRIC))
    return [*found, *(Metric(name, name, Better.UNKNOWN, tested=True) for name in business)]


def _ends(name: str, known: str) -> bool:
    return name == known or name.endswith(f".{known}")


def _main(outcomes: Mapping[str, Floats]) -> tuple[Metric, ...]:
    """The metrics of one output. For a class, the loss is 0 or 1 as `wrong` is; for labels, the share of wrong ones."""
    if "squared_error" in outcomes:
        return _NUMBERS
    if "ndcg" in outcomes:
        return _LISTS
    if _WRONG in outcomes:
        loss = outcomes.get("loss")
        return _CLASSES if loss is None or np.array_equal(loss, outcomes[_WRONG], equal_nan=True) else _LABELS
    return (Metric("loss", "loss", Better.LOWER, tested=True),) if "loss" in outcomes else ()
