"""Renders an error analysis as JSON, for scripts."""

from typing import Any

import orjson

from gateway.offline.analysis.analyzer import HOUR_NS, Analysis
from gateway.offline.analysis.hard_examples import HardExample
from gateway.offline.analysis.label_conflicts import LabelConflict
from gateway.offline.analysis.slices import Slice
from gateway.offline.statistics import Rate
from gateway.records.time_range import format_time


def document(analysis: Analysis) -> bytes:
    """Return all findings as JSON."""
    agreement = analysis.agreement
    return orjson.dumps(
        {
            "model": analysis.model,
            "rows": analysis.rows,
            "first": format_time(analysis.first_ns),
            "last": format_time(analysis.last_ns),
            "outcomes": analysis.outcomes,
            "wrong": _rate(analysis.wrong),
            "rescued": _rate(analysis.rescued),
            "slices_tested": analysis.tested,
            "slices": [_slice(one) for one in analysis.slices],
            "contradicted_inputs": analysis.contradicted,
            "conflicts": [_conflict(one) for one in analysis.conflicts],
            "least_confident": [_example(one) for one in analysis.least_confident],
            "disagreements": [_example(one) for one in analysis.disagreements],
            "mirrored": {
                "agree": _rate(agreement.same),
                "stable_right": agreement.stable_right,
                "candidate_right": agreement.candidate_right,
                "neither_right": agreement.neither_right,
            },
            "confusion": [
                {"truth": analysis.name_of(truth), "predicted": analysis.name_of(predicted), "rows": rows}
                for (truth, predicted), rows in sorted(analysis.confusion.items())
            ],
            "hourly_accuracy": [
                {"hour": format_time(hour * HOUR_NS), "version": version, **_rate(rate)}
                for (hour, version), rate in analysis.hourly.items()
            ],
        }
    )


def _rate(rate: Rate) -> dict[str, Any]:
    """orjson writes NaN, the rate if nothing was counted, as null."""
    return {"hits": rate.hits, "count": rate.count, "rate": rate.value, "low": rate.low, "high": rate.high}


def _slice(one: Slice) -> dict[str, Any]:
    return {
        "measure": one.measure,
        "dimension": one.dimension,
        "value": one.value,
        **_rate(one.rate),
        "rest": _rate(one.rest),
        "p_value": one.p_value,
        "q_value": one.q_value,
    }


def _conflict(one: LabelConflict) -> dict[str, Any]:
    return {
        "input": one.input.text or None,
        "labels": [
            {
                "truth": given.label.truth,
                "customer": given.label.customer,
                "time": format_time(given.label.time_ns),
                "prediction_id": given.prediction_id,
                "predicted": given.predicted,
            }
            for given in one.labels
        ],
    }


def _example(one: HardExample) -> dict[str, Any]:
    return {
        "prediction_id": one.prediction_id,
        "customer": one.customer,
        "predicted": one.predicted,
        "margin": one.margin,
        "candidate_predicted": one.other,
        "distance": one.distance,
        "input": one.input.text or None,
    }
