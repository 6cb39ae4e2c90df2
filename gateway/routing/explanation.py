"""Explains in words which version answers a request, and why.

It tests the routes one by one, in order: an independent check of MatchIndex.
"""

from dataclasses import dataclass, replace

from gateway.routing.attributes import Attributes, accessor, conditions, spelled
from gateway.routing.buckets import BUCKETS, bucket_of
from gateway.routing.matchers import compile_matcher, describe_matcher
from gateway.routing.release import DEFAULT_ROUTE, Decision, Release, Variant
from gateway.settings.matching import MatchSettings
from gateway.settings.routing import RouteSettings


@dataclass(frozen=True, slots=True)
class RouteMatch:
    """Whether one route matched; `reason` says which condition did or did not hold."""

    route: str
    matched: bool
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """A decision and its reasons. `key_source`: what the key is, that is customer, header:NAME or prediction.

    `decision` is None if neither the request nor the caller gave a key: each such prediction is assigned at random.
    """

    decision: Decision | None
    route: str
    weight_ppm: int
    trials: tuple[RouteMatch, ...]
    key: str | None
    key_source: str
    salt: str
    why: str


def explain(release: Release, attributes: Attributes, prediction_id: str | None, stopped: bool = False) -> Explanation:
    """The decision on a request with these attributes, and why. `prediction_id`: its key if it has no sticky one."""
    trials = []
    position = None
    for index, rule in enumerate(release.routes):
        trials.append(_tried(rule, attributes))
        if trials[-1].matched:
            position = index
            break
    sticky = release.sticky_key(attributes) or None
    key = sticky or prediction_id
    source = release.stickiness if sticky else "prediction"
    route = DEFAULT_ROUTE if position is None else release.routes[position].name
    weight_ppm = 0 if position is None or stopped else release.weights_ppm[position]
    decision = _decision(release, route, weight_ppm, key, sticky is not None)
    why = _fixed(release, position, stopped) or _by_chance(route, weight_ppm, source, key, decision)
    return Explanation(
        decision=decision,
        route=route,
        weight_ppm=weight_ppm,
        trials=tuple(trials),
        key=key,
        key_source=source,
        salt=release.salt,
        why=why,
    )


def _decision(release: Release, route: str, weight_ppm: int, key: str | None, sticky: bool) -> Decision | None:
    if release.candidate is None:
        return Decision(release.stable, Variant.STABLE, DEFAULT_ROUTE, None, 0, 1.0)
    if key is not None:
        return release.assign(route, weight_ppm, bucket_of(release.salt, key), sticky)
    if weight_ppm in (0, BUCKETS):
        return replace(release.assign(route, weight_ppm, 0), bucket=None)
    return None


def _tried(route: RouteSettings, attributes: Attributes) -> RouteMatch:
    if not route.match:
        return RouteMatch(route.name, True, "matches every request")
    refusals = []
    for item in route.match:
        refusal = _refusal(item, attributes)
        if refusal is None:
            return RouteMatch(route.name, True, _agreement(item, attributes))
        refusals.append(refusal)
    return RouteMatch(route.name, False, "; ".join(refusals))


def _refusal(item: MatchSettings, attributes: Attributes) -> str | None:
    """The first condition that does not hold, in words; None if all do."""
    for name, matcher in conditions(item):
        value = accessor(name)(attributes)
        if not compile_matcher(matcher)(value):
            return f"{spelled(name)} is {_quoted(value)}, not {describe_matcher(matcher)}"
    return None


def _agreement(item: MatchSettings, attributes: Attributes) -> str:
    parts = [
        f"{spelled(name)} is {_quoted(accessor(name)(attributes))}, matching {describe_matcher(matcher)}"
        for name, matcher in conditions(item)
    ]
    return "; ".join(parts) or "matches every request"


def _quoted(value: str | None) -> str:
    return "missing" if value is None else f"'{value}'"


def _fixed(release: Release, position: int | None, stopped: bool) -> str:
    """Why stable answers whatever the key is; "" if the key decides."""
    if release.candidate is None:
        return "there is no candidate: stable answers every request"
    if position is None:
        return "no route matches: stable answers"
    return "the candidate is stopped: stable answers every request" if stopped else ""


def _by_chance(route: str, weight_ppm: int, source: str, key: str | None, decision: Decision | None) -> str:
    share = f"route '{route}' sends {weight_ppm / 10_000:g}% to the candidate"
    if key is None:
        return f"{share}; the request has no key to stick to, so each prediction is assigned at random"
    if decision is None:
        return share
    side = "below" if decision.variant is Variant.CANDIDATE else "not below"
    return (
        f"{share}, the buckets below {weight_ppm:,} of {BUCKETS:,}; {source} '{key}' is in bucket {decision.bucket:,},"
        f" {side} that: {decision.variant} answers"
    )
