"""Writes the evidence behind a decision as a JSON record, and recomputes the e-values from such a record."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.control.guards.comparisons import Assessment, ComparisonEvidence, Guards
from gateway.control.guards.drift import Drift, blocks_from_json, blocks_to_json
from gateway.control.guards.evidence import SAMPLED, alpha_of, log_combined, log_drift, log_harm, log_safety
from gateway.control.guards.failure_counts import attributed, failed_by_chance, key_rows, rows
from gateway.control.guards.failure_sources import RATIOS
from gateway.control.guards.limits import Violation
from gateway.control.guards.mean_evidence import MeanEvidence, recomputed

LN_10: Final = math.log(10)
TIME: Final = "time_ns"


def evidence_record(
    time_ns: int, guards: Guards, assessment: Assessment, violated: tuple[Violation, ...]
) -> dict[str, Any]:
    """Return the record, ready for JSON. E-values are log10; rows of failures are (chance, candidate's, stable's);
    of failed sticky keys (chance, whether it is the candidate's, its failures, keys): see `FailureCounts.safest`.

    `alpha_j` is the part of alpha available after the evidence's `restart`th start; a combined e-value that reaches
    1/alpha_j triggers the action.
    """
    return {
        TIME: time_ns,
        "alpha": assessment.alpha,
        "restart": assessment.restart,
        "alpha_j": alpha_of(assessment.alpha, assessment.restart),
        "log10_e": {action: _log10(log_e) for action, log_e in assessment.log_e.items() if log_e > -math.inf},
        "guards": [
            {
                "name": found.name,
                "metric": found.metric,
                "action": found.action,
                "share": found.share,
                "verdict": str(found.verdict),
                "log10_e": _log10(found.log_e),
                "log10_safe": None if found.log_safe is None else _log10(found.log_safe),
                **_seen(comparison),
            }
            for found, comparison in zip(assessment.results, guards.comparisons, strict=True)
        ],
        "limits": [
            {
                "name": violation.limit.name,
                "metric": violation.limit.metric,
                "action": violation.limit.action,
                "above": violation.limit.above,
                "below": violation.limit.below,
                "window_s": violation.limit.window,
                "min_requests": violation.limit.min_requests,
                "value": violation.value,
                "requests": violation.count,
            }
            for violation in violated
        ],
    }


@dataclass(frozen=True, slots=True)
class RecomputedEvidence:
    """Recomputed log10 e-values: of harm by guard, of safety by guard, and combined by action."""

    guards: Mapping[str, float]
    safe: Mapping[str, float]
    combined: Mapping[str, float]


def recompute(record: Mapping[str, Any]) -> RecomputedEvidence:
    """Recompute the evidence of a record from its counts, blocks, outcomes and shares alone, to verify its stated
    e-values; that of means from a checkpoint and the latest outcomes.
    """
    log_e = {guard["name"]: _log_e(guard) for guard in record["guards"]}
    safe = {guard["name"]: _log_safe(guard) for guard in record["guards"] if "blocks" not in guard}
    combined = {}
    for action in record["log10_e"]:
        guards = [guard for guard in record["guards"] if guard["share"] and guard["action"] == action]
        combined[action] = log_combined([log_e[g["name"]] for g in guards], [g["share"] for g in guards])
    return RecomputedEvidence(*({name: _log10(log) for name, log in part.items()} for part in (log_e, safe, combined)))


def _seen(comparison: ComparisonEvidence) -> dict[str, Any]:
    process = comparison.process
    if isinstance(process, Drift):
        return {"blocks": blocks_to_json(process.blocks)}
    if isinstance(process, MeanEvidence):
        return {"outcome": comparison.settings.outcome, "means": process.record()}
    keyless, keys = process.safest
    return {
        "ratios": list(RATIOS[comparison.settings.metric]),
        "failures": [list(row) for row in rows(process.counts)],
        "safest": {
            "failures": [list(row) for row in rows(keyless)],
            "keys": [list(row) for row in key_rows(keys)],
            "sampled": list(SAMPLED),
        },
    }


def _log_e(guard: Mapping[str, Any]) -> float:
    if "blocks" in guard:
        return sum(log_drift(blocks) for blocks in blocks_from_json(guard["blocks"]))
    if "means" in guard:
        return recomputed(guard["means"])[0]
    return log_harm(attributed(guard["failures"]), guard["ratios"])


def _log_safe(guard: Mapping[str, Any]) -> float:
    if "means" in guard:
        return recomputed(guard["means"])[1]
    counts = guard.get("safest", guard)  # earlier gateways counted for safety what they did for harm
    failures, keys = attributed(counts["failures"]), counts.get("keys", ())
    if "sampled" in counts:
        return log_safety(failures, failed_by_chance(keys), counts["sampled"])
    first = {(chance, failed > 0, failed or 1): number for chance, failed, number in keys}  # later ones: 0 if stable's
    return log_safety(failures, first, (1.0,))


def _log10(log: float) -> float:
    return log / LN_10
