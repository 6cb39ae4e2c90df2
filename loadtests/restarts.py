"""Simulated sticky customers of a candidate that fails no more often than stable: is it stopped once its evidence has
restarted? Judged by what is shipped.

Stable's customers have sooner all failed. Of those who fail for the first time since before the restart, ever more are
those of a better candidate.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Final

from gateway.control.guards.evidence import FAILURE_RATIOS, alpha_of, log_harm, reached
from gateway.control.guards.failure_counts import FailureCounts
from gateway.routing.buckets import BUCKETS
from loadtests.depletion import PER_CUSTOMER, PER_LOOK, RAMP, Case, Crowd
from loadtests.simulation import ALPHA

CUSTOMERS: Final = 500
HIGH: Final = 1.0  # of the log evidence, at which someone who wants it to restart edits


@dataclass(frozen=True, slots=True)
class Steps:
    """`weights`: one for each start of the evidence. `edited`: whether it also ends as soon as the evidence is high."""

    weights: Sequence[float]
    edited: bool = False


SAME: Final = Steps((0.1,) * 3)
STEPS: Final = (SAME, Steps((0.1, 0.11, 0.12)), Steps(RAMP), Steps((0.1,) * 10, edited=True))
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
    case = Case(customers=CUSTOMERS, ratio=0.1, heavy=seed % 2 == 0)
    seen: set[int] = set()
    firsts: Counter[tuple[float, bool]] = Counter()

    def add(weight_ppm: int, candidate: bool, key: int) -> None:
        if key not in seen:
            seen.add(key)
            firsts[weight_ppm / BUCKETS, candidate] += 1

    return _until_stopped(seed, case, SAME, add, lambda: log_harm(firsts, FAILURE_RATIOS), firsts.clear) is not None


def failures_until_stopped(seed: int, case: Case, steps: Steps) -> int | None:
    """Failures until the candidate is stopped; None if it is not."""
    ledger = FailureCounts()
    return _until_stopped(seed, case, steps, ledger.add, lambda: ledger.log_e, ledger.restart)


def _until_stopped(
    seed: int,
    case: Case,
    steps: Steps,
    add: Callable[[int, bool, int], None],
    log_e: Callable[[], float],
    restart: Callable[[], None],
) -> int | None:
    crowd, count = Crowd(seed, case), 0
    for start, weight in enumerate(steps.weights, 1):
        failing = crowd.failing(replace(case, weight=weight))
        for number in range(1, PER_CUSTOMER * case.customers + 1):
            add(*next(failing))
            count += 1
            if number % PER_LOOK:
                continue
            if reached(log_e(), alpha_of(ALPHA, start)):
                return count
            if steps.edited and log_e() > HIGH:
                break
        restart()
    return None
