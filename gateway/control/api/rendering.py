"""Converts control's state into the JSON documents of the control plane."""

import math
from collections.abc import Sequence
from typing import Final

from gateway.backends.provenance_documents import provenance_document
from gateway.control.api.documents import (
    ConfigDocument,
    DecisionDocument,
    ForecastDocument,
    GuardDocument,
    ProcessDocument,
    RampDocument,
    RecordsDocument,
    ReleaseDocument,
    UnsplitDocument,
    VersionDocument,
)
from gateway.control.api.feedback_rendering import (
    LabelsOf,
    class_documents,
    measure_documents,
    no_labels,
    route_documents,
)
from gateway.control.api.provenance_rendering import ProvenanceOf, no_provenance
from gateway.control.api.registry_documents import registry_document, registry_model_document
from gateway.control.control_plane import ControlPlane
from gateway.control.guards.comparisons import Assessment, GuardVerdict
from gateway.control.guards.evidence import alpha_of
from gateway.control.guards.window import quantile_ms
from gateway.control.metrics.process_metrics import ProcessStatus
from gateway.control.record_status import KINDS, dropped
from gateway.control.release.audit import LN_10
from gateway.control.release.decisions import ReleaseDecision
from gateway.control.release.forecast import Progress
from gateway.control.release.known_effects import effect_documents
from gateway.control.release.release_status import ReleaseStatus, VersionStatus
from gateway.control.release.wording import verdict_text
from gateway.errors import Outcome, request_counts

QUANTILES: Final = (0.5, 0.95, 0.99)


def decision_document(decision: ReleaseDecision) -> DecisionDocument:
    """The document of one decision."""
    return {
        "sequence": decision.sequence,
        "time_ns": decision.time_ns,
        "model": decision.model,
        "candidate": decision.candidate,
        "action": decision.action,
        "by": decision.by,
        "reason": decision.reason,
        "evidence": decision.evidence,
    }


def release_document(
    overview: ReleaseStatus, labels_of: LabelsOf = no_labels, provenance_of: ProvenanceOf = no_provenance
) -> ReleaseDocument:
    """The document of one release, with its ramp, guards and forecast if it has them."""
    document: ReleaseDocument = {
        "model": overview.model,
        "stable": overview.stable,
        "candidate": overview.candidate,
        "stopped": overview.stopped,
        "stop": decision_document(overview.stop) if overview.stop else None,
        "epoch": overview.epoch,
        "routes": [
            {
                "route": route,
                "weight_percent": ppm / 10_000,
                "in_force_percent": 0 if overview.stopped else overview.weights_ppm[route] / 10_000,
            }
            for route, ppm in overview.configured_ppm.items()
        ],
        "versions": [_version(counted, labels_of(overview.model, counted.version)) for counted in overview.versions],
        "latency_compared": overview.latency_compared,
    }
    if overview.undo is not None:
        document["undo_to"] = overview.undo
    if overview.registry is not None:
        document["registry"] = registry_model_document(overview.registry)
    for version in document["versions"]:
        provenance = provenance_of(overview.model, version["version"])
        if provenance.known:
            version["provenance"] = provenance_document(provenance)
    if overview.candidate is not None:
        document["unsplit"] = _unsplit(overview.versions)
    if overview.progress is not None:
        if overview.ramp_ppm:
            document["ramp"] = _ramp(overview.progress, overview.ramp_ppm)
        document["guards"] = _guards(overview.progress.assessment, overview.versions)
        document["forecast"] = _forecast(overview.progress)
        document["effects"] = effect_documents(overview.effects)
    return document


def _unsplit(versions: Sequence[VersionStatus]) -> UnsplitDocument:
    requests = sum(counted.totals.unsplit for counted in versions)
    outcomes = {counted.variant: counted.totals.outcomes(counted.variant) for counted in versions}
    asked = sum(outcomes["stable"].values()) + outcomes["candidate"][Outcome.OK]  # stable counts the fallbacks, too
    return {"requests": requests, "percent": 100 * requests / max(asked, requests, 1)}


def _ramp(progress: Progress, ramp_ppm: Sequence[int]) -> RampDocument:
    return {
        "stage": str(progress.stage),
        "step": progress.step,
        "weights": [ppm / 10_000 for ppm in ramp_ppm],
        "weight_percent": ramp_ppm[progress.step] / 10_000,
        "next_step_in_s": progress.next_step_s,
        "blocked_on": progress.blocked_on,
    }


def _guards(assessment: Assessment, versions: Sequence[VersionStatus]) -> list[GuardDocument]:
    alpha_j = alpha_of(assessment.alpha, assessment.restart)
    return [
        {
            "name": found.name,
            "metric": found.metric,
            "verdict": str(found.verdict),
            "summary": verdict_text(found, versions),
            "log10_e": None if found.verdict == GuardVerdict.NO_DATA else found.log_e / LN_10,
            "threshold_log10": -math.log10(alpha_j * (found.share or 1)),
            "action": found.action if found.share else "none",
        }
        for found in assessment.results
    ]


def _forecast(progress: Progress) -> ForecastDocument:
    return {
        "requests_to_detect_doubling": None if progress.stop is None else progress.stop.requests,
        "requests_to_show_safety": None if progress.safe is None else progress.safe.requests,
        "at_least": progress.sticky,
    }


def _version(counted: VersionStatus, labels: Sequence[str]) -> VersionDocument:
    outcomes = counted.totals.outcomes(counted.variant)
    answered, failed = request_counts(outcomes)
    latency = counted.totals.latency(counted.variant)
    timed = sum(latency.counts)
    p50, p95, p99 = (quantile_ms(counted.totals.latency_counts(counted.variant), share) for share in QUANTILES)
    credit = counted.feedback
    return {
        "version": counted.version,
        "variant": counted.variant,
        "requests": sum(outcomes.values()),
        "errors": failed,
        "error_rate": failed / answered if answered else None,
        "outcomes": {str(outcome): count for outcome, count in outcomes.items()},
        "rescues": {reason: count for reason, count in counted.totals.rescues.items() if count},
        "latency_mean_ms": latency.sum_ns / timed / 1e6 if timed else None,
        "latency_p50_ms": p50,
        "latency_p95_ms": p95,
        "latency_p99_ms": p99,
        "accuracy": credit.accuracy,
        "labelled": credit.labelled,
        "reward_mean": credit.reward_mean,
        "measures": measure_documents(credit.outcomes),
        "routes": route_documents(credit),
        "classes": class_documents(credit, labels),
        "runs_on": list(counted.providers),
        "warning": counted.warning or None,
        "process": _process(counted.process),
    }


def _process(status: ProcessStatus | None) -> ProcessDocument | None:
    if status is None:
        return None
    return {
        "role": status.role,
        "state": status.state,
        "starts": status.starts,
        "memory_bytes": status.memory_bytes,
    }


def config_document(control: ControlPlane) -> ConfigDocument:
    """The document of the configuration in force; cheap to make."""
    status = control.routing_file.status
    return {
        "revision": status.revision,
        "generation": control.pool.config.generation,
        "acknowledged": control.pool.acknowledged(),
        "workers": control.pool.size,
        "loaded_time_s": status.loaded_s,
        "last_error": status.error or None,
        "warnings": list(status.warnings),
        "candidates_closed": status.candidates_closed,
        "unavailable": [
            {"model": name, "version": version, "reason": why}
            for (name, version), why in sorted(control.unavailable().items())
        ],
        "records": _records(control),
        "registry": registry_document(control.registry),
    }


def _records(control: ControlPlane) -> RecordsDocument:
    journal, kinds = control.records.writer, KINDS
    written = {kinds[stream]: count for stream, count in journal.written.items()}
    return {"error": journal.error or None, "written": written, "dropped": sum(dropped(control).values())}
