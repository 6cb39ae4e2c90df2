"""Prometheus metrics of the data: records written and dropped, feedback, predicted classes, mirroring, spans."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.control.metrics.class_names import class_name
from gateway.control.metrics.outcome_metrics import OutcomeMetrics, of_outcomes
from gateway.shm.tally import Totals
from gateway.version_key import VersionKey


@dataclass(frozen=True, slots=True)
class DataMetrics:
    """Counters of records: `written` by kind, `dropped` by kind and reason, `feedback` by model, version and verdict.

    `error`: why records cannot be written, "" while they can. `spans` by result. `outcomes`: what feedback gave.
    """

    written: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    feedback: Mapping[tuple[str, int, str], int] = field(default_factory=dict)
    error: str = ""
    spans: Mapping[str, int] = field(default_factory=dict)
    outcomes: OutcomeMetrics = field(default_factory=OutcomeMetrics)


def of_data(
    data: DataMetrics, versions: Sequence[tuple[str, int, Totals]], labels: Mapping[VersionKey, Sequence[str]]
) -> Iterable[Metric]:
    """Return the metric families of the data. `labels`: class names by model and version, if they are known."""
    written = CounterMetricFamily("gateway_records_written", "Lines in the record files.", labels=["kind"])
    for kind, count in data.written.items():
        written.add_metric([kind], count)
    dropped = CounterMetricFamily(
        "gateway_records_dropped", "Records that were dropped, by kind and reason.", labels=["kind", "reason"]
    )
    for (kind, reason), count in data.dropped.items():
        dropped.add_metric([kind, reason], count)
    feedback = CounterMetricFamily(
        "gateway_feedback", "Predictions with new feedback, by verdict.", labels=["model", "version", "verdict"]
    )
    for (model, version, verdict), count in sorted(data.feedback.items()):
        feedback.add_metric([model, str(version), verdict], count)
    spans = CounterMetricFamily("gateway_spans", "OpenTelemetry spans, by result.", labels=["result"])
    for result, count in data.spans.items():
        spans.add_metric([result], count)
    return written, dropped, feedback, spans, *of_outcomes(data.outcomes, labels), *_of_versions(versions, labels)


def _of_versions(
    versions: Sequence[tuple[str, int, Totals]], labels: Mapping[VersionKey, Sequence[str]]
) -> Iterable[Metric]:
    classes = CounterMetricFamily(
        "gateway_predicted_class", "Rows, by predicted class.", labels=["model", "version", "class"]
    )
    mirrors = CounterMetricFamily(
        "gateway_mirror", "Requests copied to the candidate, by result.", labels=["model", "result"]
    )
    depth = GaugeMetricFamily(
        "gateway_queue_depth", "Requests that wait for their batch, now.", labels=["model", "version"]
    )
    mirrored: dict[tuple[str, str], int] = {}
    for model, version, totals in versions:
        depth.add_metric([model, str(version)], totals.waiting)
        for index, count in enumerate(totals.classes.sum(axis=0).tolist()):
            if count:
                classes.add_metric([model, str(version), class_name(index, labels.get((model, version), ()))], count)
        for word, count in totals.mirrored.items():
            key = model, word
            mirrored[key] = mirrored.get(key, 0) + count
    for key, count in sorted(mirrored.items()):
        if count:
            mirrors.add_metric(list(key), count)
    return classes, mirrors, depth
