"""Prometheus metrics of the data: records written and dropped, feedback, predicted classes, mirroring, spans."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from gateway.shm.tally import CLASSES, Totals
from gateway.version_key import VersionKey

OTHER_CLASS: Final = "other"  # classes beyond those counted individually


@dataclass(frozen=True, slots=True)
class DataMetrics:
    """Counters of records: `written` by kind, `dropped` by kind and reason, `feedback` by model, version and verdict.

    `error`: why records cannot be written, "" while they can. `spans` by result.
    """

    written: Mapping[str, int] = field(default_factory=dict)
    dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    feedback: Mapping[tuple[str, int, str], int] = field(default_factory=dict)
    error: str = ""
    spans: Mapping[str, int] = field(default_factory=dict)


def of_data(
    data: DataMetrics, versions: Sequence[tuple[str, int, Totals]], labels: Mapping[VersionKey, Sequence[str]]
) -> Iterable[Metric]:
    """Return the metric families of the data. `labels`: class names by model and version, if they are known."""
    written = CounterMetricFamily("gateway_records_written", "Lines in the record files.", labels=["kind"])
    for kind, count in data.written.items():
        written.add_metric([kind], count)
    dropped = CounterMetricFamily("gateway_records_dropped", "Records that were not kept.", labels=["kind", "reason"])
    for (kind, reason), count in data.dropped.items():
        dropped.add_metric([kind, reason], count)
    feedback = CounterMetricFamily(
        "gateway_feedback", "Predictions that something new was said of.", labels=["model", "version", "verdict"]
    )
    for (model, version, verdict), count in sorted(data.feedback.items()):
        feedback.add_metric([model, str(version), verdict], count)
    spans = CounterMetricFamily("gateway_spans", "Spans for OpenTelemetry, by what came of them.", labels=["result"])
    for result, count in data.spans.items():
        spans.add_metric([result], count)
    return written, dropped, feedback, spans, *_of_versions(versions, labels)


def _of_versions(
    versions: Sequence[tuple[str, int, Totals]], labels: Mapping[VersionKey, Sequence[str]]
) -> Iterable[Metric]:
    classes = CounterMetricFamily(
        "gateway_predicted_class", "Rows, by the class predicted.", labels=["model", "version", "class"]
    )
    mirrors = CounterMetricFamily(
        "gateway_mirror", "Requests copied to the candidate, by what came of it.", labels=["model", "result"]
    )
    depth = GaugeMetricFamily("gateway_queue_depth", "Requests that wait for their batch.", labels=["model", "version"])
    mirrored: dict[tuple[str, str], int] = {}
    for model, version, totals in versions:
        depth.add_metric([model, str(version)], totals.waiting)
        for index, count in enumerate(totals.classes.sum(axis=0).tolist()):
            if count:
                classes.add_metric([model, str(version), _name(index, labels.get((model, version), ()))], count)
        for word, count in totals.mirrored.items():
            key = model, word
            mirrored[key] = mirrored.get(key, 0) + count
    for key, count in sorted(mirrored.items()):
        if count:
            mirrors.add_metric(list(key), count)
    return classes, mirrors, depth


def _name(index: int, labels: Sequence[str]) -> str:
    """Return the class's label, or its index if unknown. The last index stands for all classes from there on, unless
    the labels show that there are no more.
    """
    if index == CLASSES - 1 and len(labels) != CLASSES:
        return OTHER_CLASS
    return labels[index] if index < len(labels) else str(index)
