"""Failures since the epoch began, over the whole release and by route: what the ratios that are shown come from.

The evidence that stops is not here. A sticky key is one piece of evidence on all routes together: what counts is its
first failure, on the route that took it, at the chance that was still open; further ones, on any route, are repeated.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.routing.buckets import BUCKETS
from gateway.shm.failure_events import NO_ROUTE, route_id

MOST_COUNTED: Final = 100  # routes of a release, those that failed first
MOST_SHOWN: Final = 20  # of them, those that have failed most often


class EpochCounts:
    """`counts`: failures that count, by chance and variant; `repeated`: those of stable's and of the candidate's sticky
    keys that do not, since it was known already whose they would be.
    """

    def __init__(self) -> None:
        self.counts: Counter[tuple[float, bool]] = Counter()
        self.repeated = [0, 0]

    def add(self, weight_ppm: int, candidate: bool, chance: float) -> None:
        """Count a failure, as `FailureCounts.add`. `chance`: of the candidate; 0 or 1 if it was certain."""
        if 0 < chance < 1:
            self.counts[chance, candidate] += 1
        elif 0 < weight_ppm < BUCKETS:
            self.repeated[candidate] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {"of_epoch": listed(self.counts), "repeated": self.repeated[:]}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`."""
        self.counts = counter(kept.get("of_epoch", kept.get("counts", ())))  # earlier gateways did not keep them
        self.repeated = list(kept.get("repeated", (0, 0)))


class RouteCounts:
    """The counts of those of a release's `routes` that have failed, if it has several: each has weights of its own.

    Nothing is kept for the others: there may be hundreds of releases with dozens of routes.
    """

    def __init__(self, routes: Sequence[str]) -> None:
        self.routes = routes
        self._counts: dict[int, EpochCounts] = {}

    def add(self, route: int, weight_ppm: int, candidate: bool, chance: float) -> None:
        """Count a failure. `route`: the `route_id` of the one that took it."""
        if route == NO_ROUTE or len(self.routes) < 2:
            return
        if route not in self._counts:
            if len(self._counts) >= MOST_COUNTED:
                return
            self._counts[route] = EpochCounts()
        self._counts[route].add(weight_ppm, candidate, chance)

    def shown(self) -> Sequence[tuple[str, EpochCounts]]:
        """The routes that have failed most often, in the order of the release."""
        named = self._named()
        most = sorted(named, key=lambda one: named[one].counts.total(), reverse=True)[:MOST_SHOWN]
        return [(name, one) for name, one in named.items() if name in most]

    def reset(self) -> None:
        """Start over, for a new epoch."""
        self._counts = {}

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {name: one.to_json() for name, one in self._named().items()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`."""
        self._counts = {route_id(name): EpochCounts() for name in kept}
        for name, one in kept.items():
            self._counts[route_id(name)].restore(one)

    def _named(self) -> dict[str, EpochCounts]:
        """The counts of the routes that the release has, in its order. Two with the same id are not told apart."""
        if not self._counts:
            return {}
        ids = Counter(map(route_id, self.routes))
        known = ((name, self._counts.get(route_id(name))) for name in self.routes if ids[route_id(name)] == 1)
        return {name: one for name, one in known if one is not None}


def listed(counts: Mapping[Any, int]) -> list[list[Any]]:
    """Return counts by (chance, which) as JSON."""
    return [[chance, which, count] for (chance, which), count in counts.items()]


def counter(listed: Sequence[Sequence[Any]]) -> Counter[tuple[float, Any]]:
    """Convert back from `listed`."""
    return Counter({(chance, which): count for chance, which, count in listed})
