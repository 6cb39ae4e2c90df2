"""Simulated sticky customers of a candidate that fails no more often than stable: is it stopped once its evidence has
restarted? Judged by what is shipped.

Stable's customers have sooner all failed. Of those who fail for the first time since before the restart, ever more are
those of a better candidate.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final, NamedTuple

from gateway.control.guards.evidence import FAILURE_RATIOS, Attributed, alpha_of, log_harm, reached
from gateway.control.guards.failure_counts import FailureCounts
from gateway.routing.buckets import BUCKETS
from loadtests.depletion import PER_LOOK, RAMP, Case, Crowd
from loadtests.simulation import ALPHA

CUSTOMERS: Final = 500
LASTING: Final = 5  # failures of a customer, on average, until the evidence restarts
HIGH: Final = 1.0  # of the log evidence, at which someone who wants it to restart edits


@dataclass(frozen=True, slots=True)
class Steps:
    """`weights`: one for each start of the evidence. `edited`: whether it also ends as soon as the evidence is high."""

    weights: Sequence[float]
    edited: bool = False


SAME: Final = Steps((0.1, 0.1))
STEPS: Final = (SAME, Steps((0.25, 0.25)), Steps(RAMP), Steps((0.1,) * 10, edited=True))
HARMLESS: Final = [
    (Case(customers=CUSTOMERS, ratio=ratio, heavy=heavy, broken=broken), steps)
    for steps, ratio, heavy, broken in product(STEPS, (0.1, 0.5, 1.0), (False, True), ("", "some"))
]


def harmless_stopped(seed: int) -> bool:
    """Whether a candidate that fails as often as stable or less is ever stopped."""
    case, steps = HARMLESS[seed % len(HARMLESS)]
    return failures_until_stopped(seed, case, steps) is not None


def better_stopped_by_firsts(seed: int) -> bool:
    """Whether one that fails a tenth as often would be, if the customers known from before a restart stayed so."""
    case = Case(customers=CUSTOMERS, ratio=0.1)
    seen: set[int] = set()
    firsts: Counter[tuple[float, bool]] = Counter()

    def add(weight_ppm: int, candidate: bool, key: int) -> None:
        if key not in seen:
            seen.add(key)
            firsts[weight_ppm / BUCKETS, candidate] += 1

    return _until_stopped(seed, case, SAME, _Evidence(add, lambda: firsts, firsts.clear)) is not None


def failures_until_stopped(seed: int, case: Case, steps: Steps) -> int | None:
    """Failures until the candidate is stopped; None if it is not."""
    ledger = FailureCounts()
    return _until_stopped(seed, case, steps, _Evidence(ledger.add, lambda: ledger.counts, ledger.restart))


class _Evidence(NamedTuple):
    """How failures are counted, which do since the last restart, and how it restarts."""

    add: Callable[[int, bool, int], None]
    counts: Callable[[], Attributed]
    restart: Callable[[], None]


def _until_stopped(seed: int, case: Case, steps: Steps, evidence: _Evidence) -> int | None:
    crowd, count = Crowd(seed, case), 0
    for start, weight in enumerate(steps.weights, 1):
        failing = crowd.failing(replace(case, weight=weight))
        for number in range(1, LASTING * case.customers + 1):
            evidence.add(*next(failing))
            count += 1
            if number % PER_LOOK:
                continue
            log_e = log_harm(evidence.counts(), FAILURE_RATIOS)
            if reached(log_e, alpha_of(ALPHA, start)):
                return count
            if steps.edited and log_e > HIGH:
                break
        evidence.restart()
    return None
