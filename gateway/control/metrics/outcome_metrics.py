"""Prometheus metrics of outcomes: how many values of each have come and their sums, and recall by class."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from prometheus_client.core import CounterMetricFamily, Metric

from gateway.control.metrics.class_names import class_name
from gateway.control.record_writer.outcome_sums import CORRECT, WRONG, ClassTruths, ReceivedSum
from gateway.version_key import VersionKey

POSITIVE: Final = "positive"
NEGATIVE: Final = "negative"


class OutcomeLabels(NamedTuple):
    """What outcomes are told apart by. The number of names and routes of a version is bounded."""

    model: str
    version: int
    variant: str
    route: str
    outcome: str


@dataclass(frozen=True, slots=True)
class OutcomeMetrics:
    """What has been received since the start, corrections too. `classes`: by model, version and class index."""

    sums: Mapping[OutcomeLabels, ReceivedSum] = field(default_factory=dict)
    classes: Mapping[tuple[str, int, int], ClassTruths] = field(default_factory=dict)


def of_outcomes(seen: OutcomeMetrics, labels: Mapping[VersionKey, Sequence[str]]) -> Iterable[Metric]:
    """Return the metric families. `labels`: class names by model and version, if they are known.

    A counter must not fall, but outcomes may be negative: their sum is the series `positive` less `negative`.
    """
    by_outcome = ["model", "version", "variant", "route", "outcome"]
    counts = CounterMetricFamily("gateway_outcomes", "Values of outcomes that feedback gave.", labels=by_outcome)
    sums = CounterMetricFamily(
        "gateway_outcome_sum",
        "Sum of the outcomes' values: of the positive ones, and of the negative ones without their sign.",
        labels=[*by_outcome, "sign"],
    )
    for key, received in sorted(seen.sums.items()):
        values = [str(label) for label in key]
        counts.add_metric(values, received.values)
        sums.add_metric([*values, POSITIVE], received.positive)
        if received.negative:
            sums.add_metric([*values, NEGATIVE], received.negative)
    truths = CounterMetricFamily(
        "gateway_class_truths",
        "Rows with a truth, by true class and whether it was predicted.",
        labels=["model", "version", "class", "verdict"],
    )
    for (model, version, index), rows in sorted(seen.classes.items()):
        name = class_name(index, labels.get((model, version), ()))
        truths.add_metric([model, str(version), name, CORRECT], rows.correct)
        truths.add_metric([model, str(version), name, WRONG], rows.wrong)
    return counts, sums, truths
