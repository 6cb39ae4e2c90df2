"""Finds guards and conditions that can never act because the versions' answers hold no class to compare."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.settings.routing import ReleaseSettings

CLASS_METRICS: Final = frozenset({"wrong_feedback", "predicted_class", "mirror_disagreement"})
ACCURACY_SUFFIX: Final = ".accuracy"


def inert_guards(name: str, settings: ReleaseSettings, no_class_reasons: Mapping[int, str]) -> list[str]:
    """The guards and conditions of model `name` that can never act, each with its path in the routing file and the
    reason.

    `no_class_reasons`: by version, why no class can be read from its answers; empty if one can.
    """
    if settings.candidate is None:
        return []
    return [f"models.{name}.{problem}" for problem in _problems(settings, settings.candidate, no_class_reasons)]


def _problems(settings: ReleaseSettings, candidate: int, no_class_reasons: Mapping[int, str]) -> Iterator[str]:
    versions = {"stable": settings.stable, "candidate": candidate}
    guards = settings.guards
    for index, comparison in enumerate(guards.comparisons if guards else ()):
        place = f"guards.comparisons[{index}]"
        why = _first(no_class_reasons, settings.stable, candidate) if comparison.metric in CLASS_METRICS else ""
        if not why and comparison.metric == "mirror_disagreement" and not (settings.mirror and settings.mirror.weight):
            why = "nothing is mirrored: give the release a mirror with a weight"
        if why:
            yield f"{place}: {comparison.metric} can never act: {why}"
    for index, limit in enumerate(guards.limits if guards else ()):
        if limit.metric.endswith(ACCURACY_SUFFIX) and (
            why := _first(no_class_reasons, versions[limit.metric.partition(".")[0]])
        ):
            yield f"guards.limits[{index}]: {limit.metric} can never act: {why}"
    for number, route in enumerate(settings.split.routes if settings.split else ()):
        for index, condition in enumerate(route.while_):
            of = condition.metric.partition(".")[0]
            if condition.metric.endswith(ACCURACY_SUFFIX) and (why := _first(no_class_reasons, versions[of])):
                yield f"split.routes[{number}].while[{index}]: {condition.metric} is never known: {why}"


def _first(no_class_reasons: Mapping[int, str], *versions: int) -> str:
    return next((f"version {version}: {why}" for version in versions if (why := no_class_reasons.get(version))), "")
