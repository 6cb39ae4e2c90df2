"""Finds guards and conditions that can never act, because what they measure is not in the versions' predictions."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.backends.measurable import Measurable, Measurables
from gateway.settings.guards import ComparisonSettings
from gateway.settings.metric_names import METRICS_PREFIX, MIRROR_DISAGREEMENT, OUTCOMES
from gateway.settings.model import Kind
from gateway.settings.routing import ReleaseSettings

LOSS: Final = "loss"
WRONG: Final = "wrong"
PREDICTED_VALUE: Final = "predicted_value"
_RIGHT_OR_WRONG: Final = frozenset({Kind.CLASSIFICATION, Kind.MULTILABEL})
KINDS_WITH: Final[Mapping[str, frozenset[Kind]]] = {  # the kinds of predictions that have a metric; all have the others
    "wrong_feedback": _RIGHT_OR_WRONG,
    WRONG: _RIGHT_OR_WRONG,
    "accuracy": _RIGHT_OR_WRONG,
    "predicted_class": frozenset({Kind.CLASSIFICATION}),
    PREDICTED_VALUE: frozenset({Kind.REGRESSION}),
    MIRROR_DISAGREEMENT: frozenset({Kind.CLASSIFICATION, Kind.REGRESSION}),  # where truths say who is wrong
    LOSS: _RIGHT_OR_WRONG | {Kind.REGRESSION, Kind.RANKING},
    "squared_error": frozenset({Kind.REGRESSION}),
    "reciprocal_rank": frozenset({Kind.RANKING}),
    "ndcg": frozenset({Kind.RANKING}),
}
_NOT_MIRRORED: Final = "nothing is mirrored: give the release a mirror with a weight"
_USE_LOSS: Final = frozenset({"wrong_feedback", "accuracy"})  # where a prediction is not simply right or wrong


def inert_guards(name: str, settings: ReleaseSettings, measurable: Mapping[int, Measurables]) -> list[str]:
    """The guards and conditions of model `name` that can never act, each with its path in the routing file, the reason
    and what would make it act.

    `measurable`: by version, what can be measured of its predictions. Nothing is said of versions that it lacks.
    """
    if settings.candidate is None:
        return []
    return [f"models.{name}.{problem}" for problem in _problems(settings, settings.candidate, measurable)]


def _problems(settings: ReleaseSettings, candidate: int, measurable: Mapping[int, Measurables]) -> Iterator[str]:
    guards, mirrors = settings.guards, settings.mirror is not None and settings.mirror.weight > 0

    def unknown(name: str) -> str:
        """Why a live metric is never known."""
        of, _, metric = name.partition(".")
        if metric == MIRROR_DISAGREEMENT:  # of predictions of any kind
            return "" if mirrors else _NOT_MIRRORED
        version = {"stable": settings.stable, "candidate": candidate}.get(of)
        return "" if version is None else _first(metric, measurable, version)

    for index, comparison in enumerate(guards.comparisons if guards else ()):
        why = _first(comparison.metric, measurable, settings.stable, candidate)
        if not why and comparison.metric == MIRROR_DISAGREEMENT and not mirrors:
            why = _NOT_MIRRORED
        if why := why or _unscaled(comparison, measurable.get(settings.stable, ())):
            yield f"guards.comparisons[{index}]: {comparison.metric} can never act: {why}"
    for index, limit in enumerate(guards.limits if guards else ()):
        if why := unknown(limit.metric):
            yield f"guards.limits[{index}]: {limit.metric} can never act: {why}"
    for number, route in enumerate(settings.split.routes if settings.split else ()):
        for index, condition in enumerate(route.while_):
            if why := unknown(condition.metric):
                yield f"split.routes[{number}].while[{index}]: {condition.metric} is never known: {why}"


def _first(metric: str, measurable: Mapping[int, Measurables], *versions: int) -> str:
    """Why the metric is not known of the first of these versions that lacks it; empty if none does."""
    for version in versions:
        if (outputs := measurable.get(version)) and (why := _why_not(metric, outputs)):
            return f"version {version}: {why}"
    return ""


def _why_not(metric: str, outputs: Measurables) -> str:
    name, outcome = _split(metric)
    kinds = KINDS_WITH.get(outcome)
    if kinds is None:
        return ""
    found = _output(name, outputs)
    if found is None:
        known = ", ".join(one.output for one in outputs if one.output) or "none"
        return f"'{name}' is no output in prediction of model.yaml; there are {known}"
    if found.kind in kinds:
        return ""
    if found.reason:
        return found.reason
    instead = "; compare loss" if metric in _USE_LOSS and found.kind in KINDS_WITH[LOSS] else ""
    needs = " or ".join(kind for kind in Kind if kind in kinds)
    return f"output '{found.output}' is of kind {found.kind}, and {outcome} needs {needs}{instead}"


def _unscaled(comparison: ComparisonSettings, outputs: Measurables) -> str:
    """Why the loss of a regression, which is no share, or its numbers cannot be compared; empty if they can."""
    name, outcome = _split(comparison.metric)
    if outcome == PREDICTED_VALUE and outputs and outputs[0].loss_range is None:
        return f"the range of '{outputs[0].output}' is not known: add range to its prediction in model.yaml"
    found = _output(name, outputs)
    if outcome != LOSS or found is None or found.kind is not Kind.REGRESSION or comparison.range is not None:
        return ""
    bounds = found.loss_range
    example = f"[0, {bounds[1]:g}]" if bounds else "[0, 100]"
    return f"the loss of '{found.output}', a regression, is in its unit: give the guard a range, such as {example}"


def _split(metric: str) -> tuple[str, str]:
    """The output that a metric is about, "" for the main one, and the rest of its name."""
    name, _, outcome = metric.rpartition(".")
    if metric.startswith(METRICS_PREFIX):
        return "", metric
    return (name, outcome) if outcome in (*OUTCOMES, WRONG) else ("", metric)


def _output(name: str, outputs: Measurables) -> Measurable | None:
    if not name:
        return outputs[0] if outputs else None
    return next((one for one in outputs if one.output == name), None)
