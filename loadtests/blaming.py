"""Releases in bad traffic, simulated by failure_attribution.py: what both versions fail on, and what one does.

Every run has its own seed. Of all requests the bad ones hold what no version can take; `tight` ones leave the candidate
a little more than stable's p99, so that either version is late now and then, by chance.
"""

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.control.guards.evidence import FAILURE_RATIOS, alpha_of
from gateway.worker.models.breaker import MIN_STREAK_NS, Breaker
from loadtests.simulation import ALPHA

REQUESTS: Final = 100_000
WEIGHTS: Final = (0.05, 0.1, 0.5)
LIMIT: Final = 5
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Traffic:
    """Shares of all requests. `bad` fail on both versions; `tight` are `late` with this probability, on either."""

    bad: float = 0.05
    tight: float = 0.1
    late: float = 0.01


WAYS: Final = {
    "5% hold NaN": Traffic(0.05, 0.0),
    "one client sends what no version takes, 20% of all": Traffic(0.2, 0.0),
    "deadlines of little more than two run times": Traffic(0.0, 1.0),
    "all of it": Traffic(0.05, 0.3),
}
LINE: Final = -math.log(alpha_of(ALPHA, 1))


def stopped_by_evidence(seed: int, way: str) -> bool:
    """Whether a twin is stopped for failing more often than stable, ever."""
    generator, traffic = np.random.default_rng(seed), WAYS[way]
    weight = WEIGHTS[seed % len(WEIGHTS)]
    drawn = generator.random(REQUESTS) < weight
    return crossing(drawn[_fails(generator, traffic)], weight) is not None


def stopped_by_breaker(seed: int, way: str) -> bool:
    """Whether a twin is stopped for failures in a row, by the breaker that is shipped.

    Stable, asked next, fails on what is bad, and is late by a chance of its own.
    """
    generator, traffic = np.random.default_rng(seed), WAYS[way]
    drawn = np.flatnonzero(generator.random(REQUESTS) < WEIGHTS[seed % len(WEIGHTS)])
    kind = generator.random(len(drawn))
    bad = kind < traffic.bad
    late = ~bad & (generator.random(len(drawn)) < traffic.tight * traffic.late)
    breaker, before, now_ns = Breaker(LIMIT), -1, 0
    for position in np.flatnonzero(bad | late).tolist():
        if position > before + 1:
            breaker.success()
        before = position
        now_ns += MIN_STREAK_NS  # however long it takes
        found = breaker.failure(
            1, breaker.answers, now_ns,
            timed_out=bool(late[position]), unanswered=bool(late[position]), guilty=not bad[position],
        )  # fmt: skip
        if found:
            return True
    return False


def requests_to_stop(seed: int, weight: float, bad: float, fails: float, longest: int) -> int:
    """Requests until a candidate that fails `fails` of the good ones as well is stopped; `longest` where it is not."""
    generator = np.random.default_rng(seed)
    drawn = generator.random(longest) < weight
    failing = generator.random(longest) < bad
    failing |= drawn & (generator.random(longest) < fails)
    found = crossing(drawn[failing], weight)
    return longest if found is None else int(np.flatnonzero(failing)[found]) + 1


def crossing(candidates: Bools, weight: float) -> int | None:
    """After which of the failures the evidence is enough; `candidates`: whether each is of the candidate's requests."""
    ratios = np.array(FAILURE_RATIOS)
    steps = np.outer(candidates, np.log(ratios)) - np.log1p(weight * (ratios - 1))
    logs: Any = np.logaddexp.reduce(steps.cumsum(axis=0), axis=1) - math.log(len(ratios))
    beyond = np.flatnonzero(logs >= LINE)
    return int(beyond[0]) if len(beyond) else None


def _fails(generator: np.random.Generator, traffic: Traffic) -> Bools:
    """Which requests fail, whoever they are drawn for: twins are late by the same chance."""
    bad = generator.random(REQUESTS) < traffic.bad
    late: Bools = generator.random(REQUESTS) < traffic.tight * traffic.late
    return bad | late
