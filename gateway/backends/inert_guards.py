"""Guards and conditions that can never act, because the versions' answers hold no class to compare."""

from collections.abc import Iterator, Mapping
from typing import Final

from gateway.settings.routing import ReleaseSettings

OF_CLASSES: Final = frozenset({"wrong_feedback", "predicted_class", "mirror_disagreement"})
ACCURACY: Final = ".accuracy"


def inert(name: str, settings: ReleaseSettings, obstacles: Mapping[int, str]) -> list[str]:
    """What can never act in the release of the model `name`, each with its path in the routing file and the reason.

    `obstacles`: by version, why no class can be read from its answers; empty where one can.
    """
    if settings.candidate is None:
        return []
    return [f"models.{name}.{problem}" for problem in _problems(settings, settings.candidate, obstacles)]


def _problems(settings: ReleaseSettings, candidate: int, obstacles: Mapping[int, str]) -> Iterator[str]:
    versions = {"stable": settings.stable, "candidate": candidate}
    guards = settings.guards
    for index, comparison in enumerate(guards.comparisons if guards else ()):
        place = f"guards.comparisons[{index}]"
        why = _first(obstacles, settings.stable, candidate) if comparison.metric in OF_CLASSES else ""
        if not why and comparison.metric == "mirror_disagreement" and not (settings.mirror and settings.mirror.weight):
            why = "nothing is mirrored: give the release a mirror with a weight"
        if why:
            yield f"{place}: {comparison.metric} can never act: {why}"
    for index, limit in enumerate(guards.limits if guards else ()):
        if limit.metric.endswith(ACCURACY) and (why := _first(obstacles, versions[limit.metric.partition(".")[0]])):
            yield f"guards.limits[{index}]: {limit.metric} can never act: {why}"
    for number, route in enumerate(settings.split.routes if settings.split else ()):
        for index, condition in enumerate(route.while_):
            of = condition.metric.partition(".")[0]
            if condition.metric.endswith(ACCURACY) and (why := _first(obstacles, versions[of])):
                yield f"split.routes[{number}].while[{index}]: {condition.metric} is never known: {why}"


def _first(obstacles: Mapping[int, str], *versions: int) -> str:
    return next((f"version {version}: {why}" for version in versions if (why := obstacles.get(version))), "")
