"""The JSON that `gateway trace --json` prints."""

from dataclasses import asdict
from typing import Any, Final

from gateway.control.api.provenance_rendering import provenance_document
from gateway.offline.trace.trace import Mirror, Trace
from gateway.offline.trace.version import TracedVersion
from gateway.records.prediction import Prediction
from gateway.records.time_range import format_time

RECORD: Final = (
    "outcome", "route", "propensity", "bucket", "salt", "generation", "customer", "delegated_by", "modality",
    "rescued_from", "rescue_reason", "latency_us", "queue_us", "batch", "predicted", "predictions", "error", "trace_id",
    "request_id", "request_sha256",
)  # fmt: skip
FEEDBACK: Final = ("truth", "truth_class", "correct", "row", "reward", "metrics", "comment", "customer")


def trace_document(trace: Trace) -> dict[str, Any]:
    """The document of a trace: without the request and the response, which may be large and confidential."""
    token = trace.token
    return {
        "prediction_id": trace.prediction_id,
        "signature": trace.signature or "valid",
        "model": token.model,
        "version": token.version,
        "variant": str(token.variant),
        "route": token.route,
        "weight_percent": token.weight_ppm / 10_000,
        "time": format_time(token.time_ns),
        "record": None if trace.prediction is None else _record(trace.prediction),
        "missing": trace.missing or None,
        "feedback": [_feedback(one) for one in trace.feedback],
        "feedback_count": trace.feedback_count,
        "label_conflict": trace.contradicting,
        "mirror": None if trace.mirror is None else _mirror(trace.mirror),
        "versions": [_version(one) for one in trace.versions],
    }


def _record(prediction: Prediction) -> dict[str, Any]:
    named = {name: getattr(prediction, name) for name in RECORD}
    return {"time": format_time(prediction.time_ns), "model_sha256": prediction.model_sha256, **named}


def _feedback(record: dict[str, Any]) -> dict[str, Any]:
    return {"time": format_time(record["time_ns"]), **{name: record.get(name) for name in FEEDBACK}}


def _mirror(mirror: Mirror) -> dict[str, Any]:
    return {
        "time": format_time(mirror.time_ns),
        "version": mirror.version,
        "model_sha256": mirror.sha256,
        "agreement": mirror.agreement,
        "predicted": mirror.predicted,
    }


def _version(version: TracedVersion) -> dict[str, Any]:
    return {
        "role": str(version.role),
        "version": version.version,
        "model_sha256": version.sha256,
        "state": str(version.state),
        "folder": None if version.folder is None else str(version.folder),
        "detail": version.detail or None,
        "provenance": provenance_document(version.provenance),
        "dataset": None if version.dataset is None else asdict(version.dataset),
        "dataset_problem": version.dataset_problem or None,
    }
