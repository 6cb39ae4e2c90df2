"""Traces a prediction id to the document of what is known of it."""

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final, cast

from gateway.backends.provenance_documents import provenance_document
from gateway.backends.repository import Repository
from gateway.errors import GatewayError
from gateway.offline.reader import Records
from gateway.offline.trace.trace import Meters, Mirror, Settings, Trace, Tracer
from gateway.offline.trace.version import TracedVersion, VersionTracer
from gateway.records.prediction import Prediction
from gateway.records.time_range import format_time
from gateway.records.token_keys import stored_signer
from gateway.records.trace_document import (
    DatasetDocument,
    TracedFeedback,
    TracedMirror,
    TraceDocument,
    TracedRecord,
    TracedVersionDocument,
)

VALID: Final = "valid"
RECORD: Final = (
    "outcome", "route", "propensity", "bucket", "salt", "generation", "customer", "delegated_by", "modality",
    "rescued_from", "rescue_reason", "latency_us", "queue_us", "batch", "predicted", "predictions", "error", "trace_id",
    "request_id", "request_sha256",
)  # fmt: skip
FEEDBACK: Final = ("truth", "truth_class", "correct", "row", "reward", "metrics", "comment", "customer")
SHOWN_ID: Final = 24  # characters


def traced(prediction_id: str, records: Records, models: Path, settings: Settings, meters: Meters) -> TraceDocument:
    """Trace an id through the records and the versions in the folder `models`. Raises GatewayError, OSError."""
    repository = Repository(models)
    tracer = Tracer(records, VersionTracer(repository), stored_signer(settings.state), settings, time.time_ns)
    trace = tracer.trace(prediction_id, meters)
    return trace_document(trace, _labels(trace.token.model, repository))


def no_record(trace: TraceDocument) -> str:
    """The error that the prediction has no record, and why; empty if it has one."""
    missing = trace["missing"]
    return f"{trace['prediction_id'][:SHOWN_ID]}… cannot be traced to its record: {missing}" if missing else ""


def trace_document(trace: Trace, labels: Sequence[str] = ()) -> TraceDocument:
    """The document of a trace. `labels`: the names of the classes."""
    token = trace.token
    return {
        "prediction_id": trace.prediction_id,
        "signature": trace.signature or VALID,
        "model": token.model,
        "version": token.version,
        "variant": str(token.variant),
        "route": token.route,
        "weight_percent": token.weight_ppm / 10_000,
        "time": format_time(token.time_ns),
        "record": None if trace.prediction is None else _record(trace.prediction, labels),
        "missing": trace.missing or None,
        "feedback": [_feedback(one) for one in trace.feedback],
        "feedback_count": trace.feedback_count,
        "label_conflict": trace.contradicting,
        "mirror": None if trace.mirror is None else _mirror(trace.mirror),
        "versions": [_version(one) for one in trace.versions],
    }


def _labels(model: str, repository: Repository) -> Sequence[str]:
    """The names of the model's classes, as its folder says now; empty if it says none."""
    try:
        there = bool(repository.versions(model))
        prediction = repository.settings(model).main_prediction if there else None
    except GatewayError:
        return ()
    return prediction.labels if prediction else ()


def _record(prediction: Prediction, labels: Sequence[str]) -> TracedRecord:
    named = {name: getattr(prediction, name) for name in RECORD}
    predicted = prediction.predicted
    label = labels[predicted] if predicted is not None and 0 <= predicted < len(labels) else None
    first = {"time": format_time(prediction.time_ns), "model_sha256": prediction.model_sha256}
    return cast("TracedRecord", first | named | {"predicted_label": label})


def _feedback(record: dict[str, Any]) -> TracedFeedback:
    given = {name: record.get(name) for name in FEEDBACK}
    return cast("TracedFeedback", {"time": format_time(record["time_ns"]), **given})


def _mirror(mirror: Mirror) -> TracedMirror:
    return {
        "time": format_time(mirror.time_ns),
        "version": mirror.version,
        "model_sha256": mirror.sha256,
        "agreement": mirror.agreement,
        "predicted": mirror.predicted,
    }


def _version(version: TracedVersion) -> TracedVersionDocument:
    return {
        "role": str(version.role),
        "version": version.version,
        "model_sha256": version.sha256,
        "state": str(version.state),
        "folder": None if version.folder is None else str(version.folder),
        "detail": version.detail or None,
        "provenance": provenance_document(version.provenance),
        "dataset": None if version.dataset is None else cast("DatasetDocument", asdict(version.dataset)),
        "dataset_problem": version.dataset_problem or None,
    }
