"""Finds guards and conditions that can never act, because what they measure is not in the versions' predictions."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.backends.measurable import Measurable
from gateway.settings.model import Kind
from gateway.settings.routing import ReleaseSettings

MEASURED: Final[Mapping[str, frozenset[Kind]]] = {  # metrics by the kinds of predictions that have them
    "wrong_feedback": frozenset({Kind.CLASSIFICATION, Kind.MULTILABEL}),
    "accuracy": frozenset({Kind.CLASSIFICATION, Kind.MULTILABEL}),
    "predicted_class": frozenset({Kind.CLASSIFICATION}),
    "mirror_disagreement": frozenset({Kind.CLASSIFICATION}),
    "loss": frozenset({Kind.CLASSIFICATION, Kind.MULTILABEL, Kind.REGRESSION, Kind.RANKING}),
}
_INSTEAD: Final[Mapping[str, str]] = {"wrong_feedback": "compare loss", "accuracy": "use loss"}


def inert_guards(name: str, settings: ReleaseSettings, measurable: Mapping[int, Measurable]) -> list[str]:
    """The guards and conditions of model `name` that can never act, each with its path in the routing file, the reason
    and what would make it act.

    `measurable`: by version, what can be measured of its predictions. Nothing is said of versions that it lacks.
    """
    if settings.candidate is None:
        return []
    return [f"models.{name}.{problem}" for problem in _problems(settings, settings.candidate, measurable)]


def _problems(settings: ReleaseSettings, candidate: int, measurable: Mapping[int, Measurable]) -> Iterator[str]:
    versions = {"stable": settings.stable, "candidate": candidate}
    guards = settings.guards
    for index, comparison in enumerate(guards.comparisons if guards else ()):
        why = _first(comparison.metric, measurable, settings.stable, candidate)
        if not why and comparison.metric == "mirror_disagreement" and not (settings.mirror and settings.mirror.weight):
            why = "nothing is mirrored: give the release a mirror with a weight"
        if why:
            yield f"guards.comparisons[{index}]: {comparison.metric} can never act: {why}"
    for index, limit in enumerate(guards.limits if guards else ()):
        of, _, metric = limit.metric.partition(".")
        if of in versions and (why := _first(metric, measurable, versions[of])):
            yield f"guards.limits[{index}]: {limit.metric} can never act: {why}"
    for number, route in enumerate(settings.split.routes if settings.split else ()):
        for index, condition in enumerate(route.while_):
            of, _, metric = condition.metric.partition(".")
            if of in versions and (why := _first(metric, measurable, versions[of])):
                yield f"split.routes[{number}].while[{index}]: {condition.metric} is never known: {why}"


def _first(metric: str, measurable: Mapping[int, Measurable], *versions: int) -> str:
    """Why the metric is not known of the first of these versions that lacks it; empty if none does."""
    for version in versions:
        if (found := measurable.get(version)) and (why := _why_not(metric, found)):
            return f"version {version}: {why}"
    return ""


def _why_not(metric: str, found: Measurable) -> str:
    kinds = MEASURED.get(metric)
    if kinds is None or found.kind is None or found.kind in kinds:
        return ""
    if found.reason:
        return found.reason
    instead = f"; {_INSTEAD[metric]}" if metric in _INSTEAD and found.kind in MEASURED["loss"] else ""
    return f"output '{found.output}' is of kind {found.kind}, and {metric} is of {' and '.join(sorted(kinds))}{instead}"
