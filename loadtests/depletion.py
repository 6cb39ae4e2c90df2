"""Simulated sticky customers whose failures repeat: when is a candidate called safe? Judged by what is shipped.

Customers of a version that fails more often have sooner all failed, so that first failures, which alone are evidence,
come ever more from those of the other version.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

import numpy as np

from gateway.control.guards.evidence import TOLERATED_RATIO, log_safety, reached
from gateway.control.guards.failure_counts import FailureCounts
from gateway.routing.buckets import BUCKETS
from loadtests.simulation import ALPHA, Draw

REQUESTS: Final = 4000  # drawn at once
PER_LOOK: Final = 25  # failures
BROKEN_SHARE: Final = 0.01  # of the customers, those who always fail, whoever answers
RAMP: Final = (0.05, 0.25, 0.5)  # weights
PER_CUSTOMER: Final = 3  # failures, on average, that a run lasts


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """`ratio`: how many times as often the candidate fails. `rate`: of stable's requests that fail. `heavy`: whether
    the customer of rank n sends 1/n as much as the first, else all send alike. `broken`: customers whose every request
    fails, whoever answers: "some" of them, or one of the "candidate" or of "stable" who sends a tenth of the traffic.
    `at_once`: requests that a customer sends, as for one page. `retries`: of each request that fails.
    """

    customers: int = 2000
    weight: float = 0.1
    ratio: float = 1.6
    rate: float = 0.2
    heavy: bool = False
    broken: str = ""
    at_once: int = 1
    retries: int = 0


WORSE: Final = [
    Case(customers=customers, weight=weight, ratio=ratio, heavy=heavy, broken=broken, at_once=at_once)
    for customers, weight, ratio, heavy, broken, at_once in product(
        (500, 2000), (0.1, 0.5), (TOLERATED_RATIO, 1.6), (False, True), ("", "some"), (1, 10)
    )
]


def failures_until_safe(seed: int, case: Case, limit: int) -> int | None:
    """Failures until the candidate is called safe; None if it is not within `limit` of them."""
    ledger = FailureCounts()
    for count, draw in enumerate(_failing(seed, case, limit), 1):
        for _ in range(1 + case.retries):
            ledger.add(*draw)
        if count % PER_LOOK == 0 and reached(ledger.log_safe, ALPHA):
            return count
    return None


def firsts_until_safe(seed: int, case: Case, limit: int) -> int | None:
    """The same if the first failure of each customer counted as if it had been drawn on its own."""
    seen: set[int] = set()
    firsts: Counter[tuple[float, bool]] = Counter()
    for count, (weight_ppm, candidate, key) in enumerate(_failing(seed, case, limit), 1):
        if key not in seen:
            seen.add(key)
            firsts[weight_ppm / BUCKETS, candidate] += 1
        if count % PER_LOOK == 0 and reached(log_safety(firsts), ALPHA):
            return count
    return None


def worse_called_safe(seed: int) -> bool:
    """Whether a candidate that fails at least TOLERATED_RATIO times as often is ever called safe."""
    case = WORSE[seed % len(WORSE)]
    return failures_until_safe(seed, case, PER_CUSTOMER * case.customers) is not None


def worse_called_safe_by_firsts(seed: int) -> bool:
    """The same by first failures alone."""
    case = WORSE[seed % len(WORSE)]
    return firsts_until_safe(seed, case, PER_CUSTOMER * case.customers) is not None


def worse_called_safe_in_a_ramp(seed: int) -> bool:
    """The same with customers who stay while the weight rises; the evidence starts anew at each step."""
    case = WORSE[seed % len(WORSE)]
    crowd = Crowd(seed, case)
    ledger = FailureCounts()
    for weight in RAMP:
        ledger.restart()
        failing = crowd.failing(replace(case, weight=weight))
        for count in range(1, case.customers + 1):
            ledger.add(*next(failing))
            if count % PER_LOOK == 0 and reached(ledger.log_safe, ALPHA):
                return True
    return False


class Crowd:
    """Customers with their buckets and their parts of the traffic."""

    def __init__(self, seed: int, case: Case) -> None:
        self._generator = generator = np.random.default_rng(seed)
        self._buckets = generator.integers(0, BUCKETS, case.customers)
        traffic = 1 / np.arange(1, case.customers + 1) if case.heavy else np.ones(case.customers)
        traffic = generator.permutation(traffic / traffic.sum())
        candidate = self._buckets < case.weight * BUCKETS
        self._broken = np.zeros(case.customers, bool)
        if case.broken == "some":
            self._broken = generator.random(case.customers) < BROKEN_SHARE
        elif case.broken:
            one = int(np.argmax(candidate == (case.broken == "candidate")))
            self._broken[one], traffic[one] = True, traffic.sum() / 9
        self._until = np.cumsum(traffic / traffic.sum())

    def failing(self, case: Case) -> Iterator[Draw]:
        """Failed requests, without end."""
        weight_ppm = round(case.weight * BUCKETS)
        candidate = self._buckets < weight_ppm
        rates = np.where(self._broken, 1.0, case.rate * np.where(candidate, case.ratio, 1.0))
        while True:
            drawn = self._generator.random(REQUESTS // case.at_once) * self._until[-1]
            who = np.repeat(np.searchsorted(self._until, drawn, side="right"), case.at_once)
            for one in who[self._generator.random(who.size) < rates[who]].tolist():
                yield weight_ppm, bool(candidate[one]), int(self._buckets[one])


def _failing(seed: int, case: Case, limit: int) -> Iterator[Draw]:
    for _, draw in zip(range(limit), Crowd(seed, case).failing(case), strict=False):
        yield draw
