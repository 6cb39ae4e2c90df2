"""Failures since the epoch began, over the whole release and by route: what the ratios that are shown come from.

The evidence that stops is not here. It restarts, and these go on, and so they know the sticky keys since the epoch
began. A key is one piece of evidence: what counts is its first failure, and later ones at the chance that is still
open; others are repeated. That is known for each route by itself. Were it for all together, a candidate that fails less
on one route would seem to fail more on another: stable's keys would have failed on the one already, and of those that
are new on the other most would be the candidate's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from gateway.evidence.key_bounds import KeyBounds
from gateway.routing.buckets import BUCKETS
from gateway.shm.failure_events import NO_ROUTE, route_id

MOST_COUNTED: Final = 100  # routes of a release, those that failed first
MOST_SHOWN: Final = 20  # of them, those that have failed most often
MOST_KEYS: Final = 20_000  # on all routes of a release together, some 3 MB; failures of further ones do not count
KNOWN: Final = "known"


class EpochCounts:
    """`counts`: failures that count, by chance and variant; `repeated`: those of stable's and of the candidate's sticky
    keys that do not, since it was known already whose they would be. `once`: as for `FailureCounts`. At most
    `most_keys` keys count; None: no limit.
    """

    def __init__(self, *, once: bool, most_keys: int | None = None) -> None:
        self.counts: Counter[tuple[float, bool]] = Counter()
        self.repeated = [0, 0]
        self._once = once
        self._known = KeyBounds(most_keys)

    def add(self, weight_ppm: int, candidate: bool, key: int | None) -> None:
        """Count a failure, as `FailureCounts.add`."""
        known = self._known
        if key is not None and known.is_full and key not in known:
            return  # nor are they further failures of a key
        chance = self._chance(weight_ppm, candidate, key)
        if 0 < chance < 1:
            self.counts[chance, candidate] += 1
        elif 0 < weight_ppm < BUCKETS:
            self.repeated[candidate] += 1

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {"of_epoch": listed(self.counts), "repeated": self.repeated[:], KNOWN: self._known.to_packed()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`."""
        self.counts = counter(kept.get("of_epoch", kept.get("counts", ())))  # earlier gateways did not keep them
        self.repeated = list(kept.get("repeated", (0, 0)))
        self._known.restore(kept[KNOWN])

    def _chance(self, weight_ppm: int, candidate: bool, key: int | None) -> float:
        """Of the candidate, by what is known of the key, which learns it; 0.0 if that was certain, or the key counts
        once and has.
        """
        if key is None:
            return weight_ppm / BUCKETS
        return 0.0 if self._once and key in self._known else self._known.learn(weight_ppm, candidate, key)


class RouteCounts:
    """The counts of those of a release's `routes` that have failed, if it has several: each has weights of its own.
    `once`: as for `FailureCounts`.

    Nothing is kept for the others: there may be hundreds of releases with dozens of routes.
    """

    def __init__(self, routes: Sequence[str], *, once: bool) -> None:
        self.routes = routes
        self._once = once
        self._most_keys = MOST_KEYS // max(min(len(routes), MOST_COUNTED), 1)
        self._counts: dict[int, EpochCounts] = {}

    def add(self, route: int, weight_ppm: int, candidate: bool, key: int | None) -> None:
        """Count a failure, as `FailureCounts.add`. `route`: the `route_id` of the one that took it."""
        if route == NO_ROUTE or len(self.routes) < 2:
            return
        if route not in self._counts:
            if len(self._counts) >= MOST_COUNTED:
                return
            self._counts[route] = self._new()
        self._counts[route].add(weight_ppm, candidate, key)

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
        """Restore the output of `to_json`. What is kept without keys is of a gateway that knew them for all routes
        together: that starts over.
        """
        self.reset()
        for name, one in kept.items():
            if KNOWN in one:
                counts = self._counts[route_id(name)] = self._new()
                counts.restore(one)

    def _new(self) -> EpochCounts:
        return EpochCounts(once=self._once, most_keys=self._most_keys)

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
