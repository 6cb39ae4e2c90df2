"""A release: one model's stable version, its candidate, and the rules that split the traffic between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from gateway.routing.attributes import Accessor, Attributes, accessor, conditions
from gateway.routing.buckets import BUCKETS, bucket_of
from gateway.routing.match_index import NO_MATCH, MatchIndex
from gateway.settings.routing import ReleaseSettings, RouteSettings, SplitSettings

DEFAULT_ROUTE: Final = "default"
PINNED_ROUTE: Final = "pinned"


class Variant(StrEnum):
    """The role of a version in a decision."""

    STABLE = "stable"
    CANDIDATE = "candidate"
    PINNED = "pinned"


STABLE: Final = Variant.STABLE  # used on every request: access through the enum costs more than a hash
CANDIDATE: Final = Variant.CANDIDATE
PINNED: Final = Variant.PINNED


@dataclass(slots=True)  # the fields of a named tuple take several times as long to read
class Decision:
    """Which version answers a request, and with what probability.

    `bucket` is None if nothing was split. `propensity` is the probability that `variant` had under `weight_ppm`.
    `sticky`: the bucket is that of a key that comes again, such as the customer, not of this prediction alone.
    """

    version: int
    variant: Variant
    route: str
    bucket: int | None
    weight_ppm: int
    propensity: float
    sticky: bool = False

    @property
    def randomised(self) -> bool:
        """Whether the version was chosen at random, so that the outcome is evidence for or against the candidate."""
        return 0 < self.weight_ppm < BUCKETS


class Release:
    """The compiled release of one model.

    The rules never change. `weights_ppm`, one for each route, is read for every request; control changes those of
    `live_routes` through `set_weights`.
    """

    __slots__ = (
        "_default", "_names", "_rules", "_sticky", "candidate", "headers", "live_routes", "name", "routes", "salt",
        "stable", "stickiness", "weights_ppm",
    )  # fmt: skip

    def __init__(self, name: str, settings: ReleaseSettings) -> None:
        split = settings.split or SplitSettings()
        self.name = name
        self.stable = settings.stable
        self.candidate = settings.candidate
        self.routes = split.routes
        self.stickiness = split.stickiness
        self.salt = split.salt or f"{name}-{settings.candidate}"
        self.headers = _headers(split)
        self.weights_ppm = [initial_weight(route) for route in split.routes]
        self.live_routes = tuple(i for i, route in enumerate(split.routes) if route.weight == "ramp" or route.while_)
        self._names = [route.name for route in split.routes]
        self._rules = MatchIndex([route.match for route in split.routes])
        self._sticky = _sticky(split.stickiness)
        self._default = Decision(settings.stable, Variant.STABLE, DEFAULT_ROUTE, None, 0, 1.0)

    def decide(self, attributes: Attributes, key: str | int, stopped: bool = False) -> Decision:
        """Decide which version answers. `key`, unique to the request, decides if it has no sticky key."""
        if self.candidate is None:
            return self._default
        position = self._rules.first(attributes)
        sticky = self._sticky(attributes)
        bucket = bucket_of(self.salt, sticky or key)
        if position == NO_MATCH:
            return Decision(self.stable, STABLE, DEFAULT_ROUTE, bucket, 0, 1.0, bool(sticky))
        weight_ppm = 0 if stopped else self.weights_ppm[position]
        return self.assign(self._names[position], weight_ppm, bucket, bool(sticky))

    def assign(self, route: str, weight_ppm: int, bucket: int, sticky: bool = False) -> Decision:
        """The decision for a bucket on a route of this weight."""
        if self.candidate is not None and bucket < weight_ppm:
            return Decision(self.candidate, CANDIDATE, route, bucket, weight_ppm, weight_ppm / BUCKETS, sticky)
        return Decision(self.stable, STABLE, route, bucket, weight_ppm, (BUCKETS - weight_ppm) / BUCKETS, sticky)

    def set_weights(self, weights_ppm: Sequence[int]) -> None:
        """Give the live routes, in their order, the weights that control has set."""
        for position, weight_ppm in zip(self.live_routes, weights_ppm, strict=False):
            self.weights_ppm[position] = weight_ppm

    def pinned(self, version: int) -> Decision:
        """The decision for a request that names its version itself."""
        return Decision(version, PINNED, PINNED_ROUTE, None, 0, 1.0)

    def sticky_key(self, attributes: Attributes) -> str | None:
        """The key that ties a request to its variant; None if it is missing or the split is not sticky."""
        return self._sticky(attributes)


class ReleaseCache:
    """The releases of a process, each compiled once for as long as its settings are in force."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[ReleaseSettings, Release]] = {}

    def of(self, name: str, settings: ReleaseSettings) -> Release:
        """The release of a model; compiled anew if `settings` is not the object of the last call."""
        known = self._known.get(name)
        if known is None or known[0] is not settings:
            known = self._known[name] = settings, Release(name, settings)
        return known[1]


def initial_weight(route: RouteSettings) -> int:
    """The weight of a route, in ppm, before control sets it."""
    return route.weight if isinstance(route.weight, int) and not route.while_ else 0  # closed until control opens it


def _headers(split: SplitSettings) -> frozenset[str]:
    items = (item for route in split.routes for item in route.match)
    named = {name for item in items for (kind, name), _ in conditions(item) if kind == "headers"}
    sticky = {split.stickiness.removeprefix("header:")} if split.stickiness.startswith("header:") else set()
    return frozenset(named | sticky)


def _sticky(stickiness: str) -> Accessor:
    if stickiness == "customer":
        return accessor(("customer", ""))
    if stickiness == "prediction":
        return lambda attributes: None
    return accessor(("headers", stickiness.removeprefix("header:")))
