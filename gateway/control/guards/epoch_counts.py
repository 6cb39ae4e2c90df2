"""Failures since the epoch began, over the whole release and by route: what the ratios that are shown come from.

The evidence that stops is not here. It restarts, and these go on, and so they know the sticky keys since the epoch
began. A key is one piece of evidence: what counts is its first failure, and later ones at the chance that is still
open; others are repeated. That is known for each route by itself. Were it for all together, a candidate that fails less
on one route would seem to fail more on another: stable's keys would have failed on the one already, and of those that
are new on the other most would be the candidate's.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import count
from typing import Any, Final

from gateway.evidence.key_bounds import KeyBounds
from gateway.routing.buckets import BUCKETS
from gateway.shm.failure_events import NO_ROUTE, route_id

MOST_COUNTED: Final = 100  # routes of a release, those that failed first
MOST_SHOWN: Final = 20  # of them, those that have failed most often
MOST_KEYS: Final = 20_000  # on all routes of a release together, some 3 MB; failures of further ones do not count
ROUTES: Final = "routes"
ROUTE_KEYS: Final = "route_keys"
NUMBER: Final = "number"
KEYS: Final = "keys"
KNOWN: Final = "known"  # of a route, as an earlier gateway kept it


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


class OneRoute(EpochCounts):
    """Those of one route. `number`: its own within the epoch, below MOST_COUNTED; its keys are known as the numbers
    from `first_key` on. `keys`: how many are.
    """

    def __init__(self, number: int, keys: int = 0) -> None:
        super().__init__()
        self.number = number
        self.keys = keys

    @property
    def first_key(self) -> int:
        """What is added to its keys, so that those of all routes can be told apart."""
        return self.number * BUCKETS

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {**super().to_json(), NUMBER: self.number, KEYS: self.keys}


class RouteCounts:
    """The counts of those of a release's `routes` that have failed, if it has several: each has weights of its own.
    `once`: as for `FailureCounts`.

    Nothing is kept for the others: there may be hundreds of releases with dozens of routes. The keys of all routes are
    kept together, since each KeyBounds has some hundreds that are not packed, and a hundred routes would hold control
    up each time that they are kept.
    """

    def __init__(self, routes: Sequence[str], *, once: bool) -> None:
        self.routes = routes
        self._once = once
        self._most_keys = MOST_KEYS // max(min(len(routes), MOST_COUNTED), 1)
        self._counts: dict[int, OneRoute] = {}
        self._known = KeyBounds()

    def add(self, route: int, weight_ppm: int, candidate: bool, key: int | None) -> None:
        """Count a failure, as `FailureCounts.add`. `route`: the `route_id` of the one that took it."""
        if route == NO_ROUTE or len(self.routes) < 2:
            return
        one = self._counts.get(route)
        if one is None:
            if route not in self._names or len(self._counts) >= MOST_COUNTED:
                return
            one = self._counts[route] = OneRoute(self._free_number)
        if key is not None:
            key += one.first_key
            if key not in self._known:
                if one.keys >= self._most_keys:
                    return  # nor are they further failures of a key
                one.keys += 0 < weight_ppm < BUCKETS
        one.add(weight_ppm, candidate, open_chance(weight_ppm, candidate, key, self._known, once=self._once))

    def shown(self) -> Sequence[tuple[str, EpochCounts]]:
        """The routes that have failed most often, in the order of the release."""
        named = self._named()
        most = sorted(named, key=lambda one: named[one].counts.total(), reverse=True)[:MOST_SHOWN]
        return [(name, one) for name, one in named.items() if name in most]

    def reset(self) -> None:
        """Start over, for a new epoch."""
        self._counts = {}
        self._known.clear()

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        routes = {name: one.to_json() for name, one in self._named().items()}
        return {ROUTES: routes, ROUTE_KEYS: self._known.to_packed()}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`. Routes that the release has no more are forgotten, and so is what is kept
        without keys: that is of a gateway that knew them for all routes together.
        """
        self.reset()
        self._known.restore(kept.get(ROUTE_KEYS, ()))
        gone = set()
        for name, state in kept.get(ROUTES, {}).items():
            if NUMBER not in state:
                self._restore_earlier(name, state)
                continue
            one = OneRoute(state[NUMBER], state[KEYS])
            one.restore(state)
            if self._has(name):
                self._counts[route_id(name)] = one
            else:
                gone.add(one.number)
        if gone:
            rows = self._known.to_json()
            self._known.restore([*pair, [key for key in keys if key // BUCKETS not in gone]] for *pair, keys in rows)

    def _restore_earlier(self, name: str, state: Mapping[str, Any]) -> None:
        """Restore a route from an earlier gateway, which kept the keys of each by themselves."""
        if KNOWN not in state or not self._has(name):
            return
        known, one = KeyBounds(), OneRoute(self._free_number)
        known.restore(state[KNOWN])
        one.restore(state)
        one.keys = len(known)
        for low, high, keys in known.to_json():
            for key in keys:
                self._known.set(one.first_key + key, (low, high))
        self._counts[route_id(name)] = one

    @cached_property
    def _names(self) -> Mapping[int, str]:
        """The routes by their ids; those with the same id are left out, as they cannot be told apart."""
        times = Counter(map(route_id, self.routes))
        return {route_id(name): name for name in self.routes if times[route_id(name)] == 1}

    def _has(self, name: str) -> bool:
        return self._names.get(route_id(name)) == name

    @property
    def _free_number(self) -> int:
        used = {one.number for one in self._counts.values()}
        return next(number for number in count() if number not in used)

    def _named(self) -> dict[str, OneRoute]:
        """The counts by route, in the release's order."""
        if not self._counts:
            return {}
        return {name: self._counts[route] for route, name in self._names.items() if route in self._counts}


def open_chance(weight_ppm: int, candidate: bool, key: int | None, known: KeyBounds, *, once: bool) -> float:
    """The chance of the candidate that a failure has by what is `known` of its key, which learns it; 0.0 if that was
    certain, or the key counts `once` and has.
    """
    if key is None:
        return weight_ppm / BUCKETS
    return 0.0 if once and key in known else known.learn(weight_ppm, candidate, key)


def listed(counts: Mapping[Any, int]) -> list[list[Any]]:
    """Return counts by (chance, which) as JSON."""
    return [[chance, which, count] for (chance, which), count in counts.items()]


def counter(listed: Sequence[Sequence[Any]]) -> Counter[tuple[float, Any]]:
    """Convert back from `listed`."""
    return Counter({(chance, which): count for chance, which, count in listed})
