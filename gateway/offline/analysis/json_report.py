"""Renders an error analysis as JSON, for scripts."""

from typing import Any

import orjson

from gateway.offline.analysis.analyzer import Analysis
from gateway.offline.analysis.hard_examples import HardExample
from gateway.offline.analysis.label_conflicts import LabelConflict
from gateway.offline.analysis.metrics import Metric
from gateway.offline.analysis.slices import Slice
from gateway.offline.analysis.tallies import HOUR_NS
from gateway.offline.analysis.versions import Comparison, Effect
from gateway.offline.examples import Predicting
from gateway.offline.statistics import Rate
from gateway.offline.unit_means import Mean
from gateway.records.time_range import format_time


def document(analysis: Analysis) -> bytes:
    """Return all findings as JSON."""
    agreement, predicting = analysis.agreement, analysis.predicting
    return orjson.dumps(
        {
            "model": analysis.model,
            "kind": analysis.kind,
            "rows": analysis.rows,
            "first": format_time(analysis.first_ns),
            "last": format_time(analysis.last_ns),
            "outcomes": analysis.outcomes,
            "wrong": _rate(analysis.wrong),
            "rescued": _rate(analysis.rescued),
            "sampled_one_in": analysis.sampled,
            "versions": [
                {"version": one.version, "metric": one.metric.name, **_mean(one.metric, one.mean)}
                for one in analysis.versions
            ],
            "comparison": _comparison(analysis.comparison) if analysis.comparison else None,
            "slices_tested": analysis.tested,
            "slices": [_slice(one) for one in analysis.slices],
            "contradicted_inputs": analysis.contradicted,
            "conflicts": [_conflict(one, predicting) for one in analysis.conflicts],
            "worst": [_example(one, predicting) for one in analysis.worst],
            "least_confident": [_example(one, predicting) for one in analysis.least_confident],
            "disagreements": [_example(one, predicting) for one in analysis.disagreements],
            "mirrored": {
                "agree": _rate(agreement.same),
                "stable_right": agreement.stable_right,
                "candidate_right": agreement.candidate_right,
                "neither_right": agreement.neither_right,
                "pairs": [
                    {"stable": predicting.name_of(stable), "candidate": predicting.name_of(candidate), "rows": rows}
                    for stable, candidate, rows in agreement.pairs
                ],
            },
            "confusion": [
                {
                    "version": version,
                    "truth": predicting.name_of(truth),
                    "predicted": predicting.name_of(predicted),
                    "rows": rows,
                }
                for version, counts in sorted(analysis.tallies.confusions.items())
                for (truth, predicted), rows in sorted(counts.items())
            ],
            "recall": [
                {"version": version, "class": predicting.name_of(name), **_rate(rate)}
                for name, rates in analysis.tallies.recalls().items()
                for version, rate in rates.items()
            ],
            "residuals": [
                {
                    "slice": one.slice or None,
                    "version": one.version,
                    "count": one.count,
                    "mean": one.mean,
                    "quantiles": dict(zip(("p5", "p25", "p50", "p75", "p95"), one.quantiles, strict=True)),
                }
                for one in analysis.residuals
            ],
            "hourly_accuracy": [
                {"hour": format_time(hour * HOUR_NS), "version": version, **_rate(rate)}
                for (hour, version), rate in analysis.tallies.hourly.items()
            ],
        }
    )


def _rate(rate: Rate) -> dict[str, Any]:
    """orjson writes NaN, the rate if nothing was counted, as null."""
    return {"hits": rate.hits, "count": rate.count, "rate": rate.value, "low": rate.low, "high": rate.high}


def _mean(metric: Metric, mean: Mean) -> dict[str, Any]:
    """The metric and its interval; orjson writes NaN and infinity as null."""
    value, low, high = metric.of(mean)
    return {"value": value, "low": low, "high": high, "count": mean.count, "units": mean.units}


def _comparison(one: Comparison) -> dict[str, Any]:
    return {
        "stable": one.stable,
        "candidate": one.candidate,
        "rows": one.rows,
        "units": one.units,
        "effects": [_effect(effect) for effect in one.effects],
        "slices_tested": one.tested,
        "slices": [
            {
                "dimension": effect.dimension,
                "value": effect.slice,
                **_effect(effect),
                "p_value": effect.p_value,
                "q_value": effect.q_value,
            }
            for effect in one.slices
        ],
    }


def _effect(one: Effect) -> dict[str, Any]:
    return {
        "metric": one.metric.name,
        "stable": _mean(one.metric, one.stable),
        "candidate": _mean(one.metric, one.candidate),
        "difference": one.value,
        "low": one.low,
        "high": one.high,
        "verdict": one.verdict,
        "more_units": one.more_units,
        "asymptotic": one.asymptotic,
    }


def _slice(one: Slice) -> dict[str, Any]:
    return {
        "measure": one.measure,
        "than_the_rest": one.than,
        "dimension": one.dimension,
        "value": one.value,
        **_measured(one, one.rate),
        "rest": _measured(one, one.rest),
        "p_value": one.p_value,
        "q_value": one.q_value,
    }


def _measured(one: Slice, measured: Rate | Mean) -> dict[str, Any]:
    if isinstance(measured, Rate):
        return _rate(measured)
    assert one.metric is not None
    found = _mean(one.metric, measured)
    return {"mean": found.pop("value"), **found}


def _conflict(one: LabelConflict, predicting: Predicting) -> dict[str, Any]:
    return {
        "input": one.input.text or None,
        "labels": [
            {
                "truth": given.label.truth,
                "class": None if given.label.truth_class is None else predicting.name_of(given.label.truth_class),
                "customer": given.label.customer,
                "time": format_time(given.label.time_ns),
                "prediction_id": given.prediction_id,
                "predicted": given.predicted,
            }
            for given in one.labels
        ],
    }


def _example(one: HardExample, predicting: Predicting) -> dict[str, Any]:
    return {
        "prediction_id": one.prediction_id,
        "row": one.row,
        "customer": one.customer,
        "predicted": one.predicted,
        "predicted_class": predicting.name_of(one.predicted),
        "margin": one.margin,
        "candidate_predicted": one.other,
        "candidate_predicted_class": predicting.name_of(one.other),
        "distance": one.distance,
        "truth": one.truth,
        "loss": one.loss,
        "input": one.input.text or None,
    }
