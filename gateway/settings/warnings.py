"""Warns about routing settings that are valid but probably a mistake; shown by `gateway check`, status and the console.

None of them is refused, because each may be intended for a while, such as a candidate that has no traffic yet.
"""

from collections.abc import Iterator, Sequence
from typing import Final

from gateway.settings.coverage import conditions_of, matches_all, matches_nothing, unreachable_routes
from gateway.settings.guards import ConditionSettings, GuardsSettings, LimitSettings
from gateway.settings.metric_names import DRIFTS, METRICS_PREFIX, MIRROR_DISAGREEMENT
from gateway.settings.routing import ReleaseSettings, RouteSettings, RoutingSettings
from gateway.settings.units import PPM

SHARE_METRICS: Final = frozenset(("error_rate", "accuracy", MIRROR_DISAGREEMENT))  # always between 0 and 1
KNOWN_WITHOUT_TRAFFIC: Final = "candidate.requests_per_s"
CANDIDATE: Final = "candidate."
MAX_COMPARED: Final = 8  # routes whose predicted classes are compared: gateway.shm.tally counts so many separately
Line = ConditionSettings | LimitSettings
Late = Sequence[tuple[int, list[int]]]  # routes that never match, with the earlier ones that match instead


def routing_warnings(routing: RoutingSettings) -> list[str]:
    """Return one line per warning: the path in the file, the effect, and the remedy."""
    return [
        f"models.{name}{warning}" for name, release in routing.models.items() for warning in release_warnings(release)
    ]


def release_warnings(release: ReleaseSettings) -> Iterator[str]:
    """Yield the warnings of one release; each begins with the path below the release."""
    routes = release.split.routes if release.split else ()
    mirrors = release.mirror is not None and release.mirror.weight > 0
    if release.candidate is None:
        if release.split is not None:
            yield ".split: it has no effect without a candidate; name one, or remove the split"
        return
    late = unreachable_routes(routes)
    yield from _order(routes, late)
    reached = _reached(routes, {position for position, _ in late})
    yield from _traffic(release, reached, mirrors)
    yield from _ramp(release, routes)
    yield from _conditions(routes, reached)
    yield from _guards(release, reached, mirrors)


def _order(routes: Sequence[RouteSettings], late: Late) -> Iterator[str]:
    """Routes that never match, because of earlier routes or because of their own conditions."""
    for position, route in enumerate(routes):
        for number, item in enumerate(route.match):
            for where, matcher in conditions_of(item).items():
                if matches_nothing(matcher):
                    yield (
                        f".split.routes[{position}].match[{number}].{where}: no value fits all of these conditions,"
                        f" so '{route.name}' does not match by it; remove one of them"
                    )
        if matches_all(route) and position + 1 < len(routes):
            after = _listed([other.name for other in routes[position + 1 :]])
            yield (
                f".split.routes[{position}]: '{route.name}' matches every request, so those after it never do: {after};"
                f" put '{route.name}' last"
            )
    for position, earlier in late:
        name, names = routes[position].name, _listed([routes[other].name for other in earlier])
        match = "match" if len(earlier) > 1 else "matches"
        yield (
            f".split.routes[{position}]: '{name}' never matches: {names} before it {match} all that it does;"
            f" put '{name}' first, or remove it"
        )


def _reached(routes: Sequence[RouteSettings], late: set[int]) -> list[RouteSettings]:
    """Return the routes that some request can reach."""
    reached = []
    for position, route in enumerate(routes):
        if position not in late:
            reached.append(route)
        if matches_all(route):
            break
    return reached


def _traffic(release: ReleaseSettings, reached: Sequence[RouteSettings], mirrors: bool) -> Iterator[str]:
    if any(route.weight == "ramp" or route.weight for route in reached):
        return
    if not mirrors:
        why = "no route that a request can reach has a weight above 0" if reached else "there is no route"
        yield f".candidate: version {release.candidate} gets no traffic: {why}; add one under split.routes"


def _ramp(release: ReleaseSettings, routes: Sequence[RouteSettings]) -> Iterator[str]:
    if release.ramp is not None and all(route.weight != "ramp" for route in routes):
        yield ".ramp: no route follows it; write `weight: ramp` in the route that should, or remove the ramp"


def _conditions(routes: Sequence[RouteSettings], reached: Sequence[RouteSettings]) -> Iterator[str]:
    """Routes whose `while` never opens or never closes."""
    shows = any((route.weight == "ramp" or route.weight) and not _asks_candidate(route) for route in reached)
    for position, route in enumerate(routes):
        for number, condition in enumerate(route.while_):
            path = f".split.routes[{position}].while[{number}]"
            certain = _certain(condition)
            if certain is not None:
                yield f"{path}: {'always' if certain else 'never'} holds: {_range(condition)}"
        if _asks_candidate(route) and not shows:
            yield (
                f".split.routes[{position}].while: '{route.name}' never opens: it stays closed without data, and no"
                " other route gives the candidate traffic to measure; add one, such as a pilot"
            )


def _asks_candidate(route: RouteSettings) -> bool:
    """Whether the route is closed as long as the candidate has no traffic. Mirrored requests are none, but known."""
    return any(
        condition.metric.startswith(CANDIDATE)
        and condition.metric != f"{CANDIDATE}{MIRROR_DISAGREEMENT}"
        and (condition.metric != KNOWN_WITHOUT_TRAFFIC or condition.above is not None)
        for condition in route.while_
    )


def _guards(release: ReleaseSettings, reached: Sequence[RouteSettings], mirrors: bool) -> Iterator[str]:
    """Limits and comparisons that never act."""
    guards = release.guards or GuardsSettings()
    ramped = any(route.weight == "ramp" for route in reached)
    for position, limit in enumerate(guards.limits):
        path, certain = f".guards.limits[{position}]", _certain(limit)
        if certain is not None:
            yield f"{path}: '{limit.name}' {'always' if certain else 'never'} acts: {_range(limit)}"
        if limit.action == "pause" and not ramped:
            yield f"{path}: '{limit.name}' {_NO_RAMP}"
    randomised = any(_randomised(release, route) for route in reached)
    for position, comparison in enumerate(guards.comparisons):
        path = f".guards.comparisons[{position}]: '{comparison.name}'"
        if comparison.metric == MIRROR_DISAGREEMENT and not mirrors:
            yield f"{path} has no evidence: nothing is mirrored; add `mirror: {{weight: 10}}`, or remove the comparison"
        elif comparison.metric != MIRROR_DISAGREEMENT and not randomised:
            yield (
                f"{path} has no evidence: no route assigns requests at random, since none has a weight between 0 and"
                " 100; give one such a weight, or remove the comparison"
            )
        elif comparison.metric in DRIFTS and (beyond := _beyond(release, reached)):
            yield (
                f"{path} does not compare {_listed(beyond)}: {_COMPARED[comparison.metric]} are compared on the first"
                f" {MAX_COMPARED} routes only; put the routes that should count before them, or let one route match"
                " what several do"
            )
        elif comparison.action == "pause" and comparison.metric not in DRIFTS and not ramped:
            yield f"{path} {_NO_RAMP}"


def _beyond(release: ReleaseSettings, reached: Sequence[RouteSettings]) -> list[str]:
    """Return the randomised routes whose predicted classes are not compared."""
    routes = release.split.routes if release.split else ()
    names = {route.name for route in reached if _randomised(release, route)}
    return [route.name for route in routes[MAX_COMPARED:] if route.name in names]


_COMPARED: Final = {"predicted_class": "classes", "predicted_value": "numbers"}
_NO_RAMP: Final = "never acts: it only pauses a ramp, but no route follows one; write `action: stop`"


def _randomised(release: ReleaseSettings, route: RouteSettings) -> bool:
    if route.weight == "ramp":
        return release.ramp is not None and any(0 < weight < PPM for weight in release.ramp.weights_ppm)
    return 0 < route.weight < PPM


def _certain(line: Line) -> bool | None:
    """Whether the metric is always (True) or never (False) beyond the level; None if it depends on the traffic."""
    name = line.metric.partition(".")[2]
    lowest = None if name == "reward_mean" or name.startswith(METRICS_PREFIX) else 0.0
    highest = 1.0 if name in SHARE_METRICS else None
    if line.above is not None:
        if highest is not None and line.above >= highest:
            return False
        return True if lowest is not None and line.above < lowest else None
    assert line.below is not None
    if lowest is not None and line.below <= lowest:
        return False
    return True if highest is not None and line.below > highest else None


def _range(line: Line) -> str:
    level = line.above if line.above is not None else line.below
    side = "above" if line.above is not None else "below"
    if line.metric.partition(".")[2] in SHARE_METRICS:
        remedy = f"for {level:g} percent write {level:g}%"
        return f"{line.metric} is a share from 0 to 1, and the threshold is {side} {level:g}; {remedy}"
    return f"{line.metric} is 0 or more, and the threshold is {side} {level:g}"


def _listed(names: Sequence[str]) -> str:
    shown = [f"'{name}'" for name in names[:5]]
    if len(names) > len(shown):
        shown.append(f"{len(names) - len(shown)} more")
    return ", ".join(shown[:-1]) + (" and " if len(shown) > 1 else "") + shown[-1]
