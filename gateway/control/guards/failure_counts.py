"""Counts failures by variant and by the chance of the candidate: the input of `log_harm` and `log_safety`.

A customer whose requests always fail is one piece of evidence, not one per request: with sticky traffic the customer
was assigned at random, once. So the first failure of a key counts for harm, from each restart on. For safety that is
not enough, and all failures of a key do (see `FailedKeys`).

At a restart all keys are forgotten, since the evidence is. Were they known from before it, those of a better candidate
would be new too often: they fail later, and that stable's had failed already would have been forgotten alone.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.control.guards.epoch_counts import EpochCounts, RouteCounts, counter, listed, open_chance
from gateway.control.guards.evidence import (
    FAILURE_RATIOS,
    Attributed,
    FailedByChance,
    Ratios,
    log_harm,
    log_safety,
)
from gateway.control.guards.failed_keys import FailedKeys
from gateway.evidence.key_bounds import KeyBounds
from gateway.routing.buckets import BUCKETS
from gateway.shm.failure_events import NO_ROUTE

FALLEN: Final = 3.0  # of the evidence of safety, from its height: twentyfold, more than chance does as a rule


@dataclass(frozen=True, slots=True)
class FailureMix:
    """What has failed since the last restart: `keyless` requests, without a sticky key, and `keys`, (times, keys) how
    many sticky keys have failed so many times.
    """

    keyless: int
    keys: tuple[tuple[int, int], ...] = ()

    @property
    def counted(self) -> int:
        """The failures that count for safety: a key's once."""
        return self.keyless + sum(keys for _, keys in self.keys)

    @property
    def failures(self) -> int:
        """All."""
        return self.keyless + sum(times * keys for times, keys in self.keys)


class FailureCounts:
    """Failures of one kind in one epoch, and their evidence, which may restart within the epoch.

    `ratios`: the increases that `log_harm` tests for. Evidence is in natural logarithms.

    `of_epoch`: all since the epoch began; `by_route`: on each of the release's `routes`. `once`: there a sticky key
    counts once, and not again after the ramp has risen: where the chance does not say where the key's bucket may be.

    `safest`: the failures of requests without a key, and the failed keys, that `log_safe` was computed from. With keys
    that is where it was highest of all looks since the last restart: as keys run out, it falls for any candidate.
    """

    def __init__(self, ratios: Ratios = FAILURE_RATIOS, *, once: bool = False, routes: Sequence[str] = ()) -> None:
        self._ratios = ratios
        self._once = once
        self._counts: Counter[tuple[float, bool]] = Counter()
        self.of_epoch, self.by_route = EpochCounts(), RouteCounts(routes, once=once)
        self._known = KeyBounds()
        self._keyless: Counter[tuple[float, bool]] = Counter()
        self._failed = FailedKeys()
        self.safest: tuple[Attributed, FailedByChance] = ({}, {})
        self._log_safest = 0.0
        self._log_e: tuple[float, float] | None = (0.0, 0.0)

    @property
    def counts(self) -> Attributed:
        """The failures counted since the last restart."""
        return self._counts

    @property
    def is_empty(self) -> bool:
        """Whether no failure has counted since the last restart."""
        return not (self._counts or self._failed.counts)

    @property
    def log_e(self) -> float:
        """The evidence of harm."""
        return self._evidence()[0]

    @property
    def log_safe(self) -> float:
        """The evidence of safety."""
        return self._evidence()[1]

    @property
    def mix(self) -> FailureMix:
        """What has failed since the last restart."""
        keys: Counter[int] = Counter()
        for (_, _, times), number in self._failed.counts.items():
            keys[times] += number
        return FailureMix(self._keyless.total(), tuple(sorted(keys.items())))

    @property
    def runs_out(self) -> bool:
        """Whether too few sticky keys are left for the evidence of safety to grow further: it has fallen far."""
        return bool(self.safest[1]) and log_safety(self._keyless, self._failed.counts) < self.log_safe - FALLEN

    def add(
        self,
        weight_ppm: int,
        candidate: bool,
        key: int | None,
        route: int = NO_ROUTE,
    ) -> None:
        """Count a failed request that was assigned by `weight_ppm`. `key`: the bucket of its sticky key, if any.
        `route`: the `route_id` of the one that took it.
        """
        self.of_epoch.add(weight_ppm, candidate, open_chance(weight_ppm, candidate, key, self._known, once=self._once))
        self.by_route.add(route, weight_ppm, candidate, key)
        if not 0 < weight_ppm < BUCKETS:
            return
        drawn = weight_ppm / BUCKETS, candidate
        if key is None:
            self._keyless[drawn] += 1
        if key is None or self._failed.add(weight_ppm, candidate, key):
            self._counts[drawn] += 1
        self._log_e = None

    def restart(self) -> None:
        """Reset the evidence, and forget the sticky keys that it knows."""
        self._counts, self._keyless, self.safest = Counter(), Counter(), ({}, {})
        self._failed.clear()
        self._log_safest, self._log_e = 0.0, (0.0, 0.0)

    def reset(self) -> None:
        """Reset all, for a new epoch."""
        self.restart()
        self.of_epoch = EpochCounts()
        self.by_route.reset()
        self._known.clear()

    def to_json(self) -> dict[str, Any]:
        """Return the state for a file."""
        return {
            "counts": listed(self._counts),
            **self.of_epoch.to_json(),
            **self.by_route.to_json(),
            "known": self._known.to_packed(),
            "safety": {
                "keyless": listed(self._keyless),
                "failed": self._failed.to_json(),
                "safest": [listed(self.safest[0]), key_rows(self.safest[1])],
            },
        }

    def restore(self, kept: dict[str, Any]) -> None:
        """Restore the output of `to_json`. Earlier gateways did not keep which keys have failed since the evidence
        began: it starts over.
        """
        self.of_epoch.restore(kept)
        self.by_route.restore(kept)
        self._known.restore(kept["known"])
        safety = kept.get("safety", {})
        self._counts = counter(kept["counts"] if safety else ())
        self._keyless = counter(safety.get("keyless", ()))
        self._failed.restore(safety.get("failed", {}))
        keyless, failed = safety.get("safest", ((), ()))
        self.safest = counter(keyless), failed_by_chance(failed)
        self._log_safest = log_safety(*self.safest)
        self._log_e = None

    def _evidence(self) -> tuple[float, float]:
        if self._log_e is None:
            present: tuple[Attributed, FailedByChance] = dict(self._keyless), self._failed.counts
            log_safe = log_safety(*present)
            if log_safe >= self._log_safest or not present[1]:
                self.safest, self._log_safest = present, log_safe
            self._log_e = log_harm(self._counts, self._ratios), self._log_safest
        return self._log_e


def rows(counts: Attributed) -> Sequence[tuple[float, int, int]]:
    """Return the counts as rows (chance, candidate's, stable's), for records and people."""
    chances = sorted({chance for chance, _ in counts})
    return [(chance, counts.get((chance, True), 0), counts.get((chance, False), 0)) for chance in chances]


def attributed(rows: Sequence[Sequence[float]]) -> Attributed:
    """Convert back from the rows of `rows`."""
    return {
        (chance, candidate): int(count)
        for chance, *pair in rows
        for candidate, count in zip((True, False), pair, strict=True)
    }


def key_rows(keys: FailedByChance) -> Sequence[tuple[float, bool, int, int]]:
    """Return failed keys as rows (chance, whether it was the candidate's, its failures, keys), for records."""
    return [(*which, number) for which, number in sorted(keys.items())]


def failed_by_chance(rows: Sequence[Sequence[Any]]) -> FailedByChance:
    """Convert back from the rows of `key_rows`."""
    return {(chance, candidate, failures): number for chance, candidate, failures, number in rows}
