"""Simulated releases, harmless and harmful, judged by the code that is shipped. Every run has its own seed."""

import math
import multiprocessing
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from typing import Any, Final

import numpy as np

from gateway.control.guards.comparisons import Guards
from gateway.control.guards.drift import Drift
from gateway.control.guards.evidence import TOLERATED_RATIO, reached
from gateway.control.guards.failure_counts import FailureCounts
from gateway.control.guards.observation import ClassCounts, FeedbackEvent, Observation
from gateway.control.guards.window import MetricWindow, Sample
from gateway.control.release.actions import Stop
from gateway.control.release.controller import Controller, windows_s
from gateway.routing.buckets import BUCKETS
from gateway.settings.guards import GuardsSettings
from gateway.settings.routing import ReleaseSettings
from gateway.shm.failure_events import FailureEvent, FailureKind
from gateway.shm.tally import Tally

ALPHA: Final = 0.01
BASE_RATE: Final = 0.01  # of stable's requests fail
SHARES: Final = (0.01, 0.05, 0.1, 0.5)  # of the traffic, the candidate's
LOOKS: Final = 500  # failures of a harmless run, each of them looked at
CUSTOMERS: Final = 2000
ALWAYS: Final = 20  # of the customers, those whose every request fails
TICK_S: Final = 5.0
PER_TICK: Final = 8  # failures
CLASSES: Final = 10
ROWS: Final = 400  # of each route, between two looks at the classes
ERRORS: Final = {"name": "errors", "metric": "failures"}
GUARDS: Final = (
    ERRORS,
    {"name": "slow", "metric": "slow_requests", "threshold": "50ms"},
    {"name": "complaints", "metric": "complaints"},
)
RAMP: Final = {"weights": [1, 5, 25, 50], "interval": "60s", "advance": "no-violation"}
Draw = tuple[int, bool, int]  # weight in ppm, whether it is the candidate's, key


def plain(seed: int) -> bool:
    """Whether a harmless candidate is stopped; each request is drawn on its own."""
    generator = np.random.default_rng(seed)
    weight_ppm = round(SHARES[seed % len(SHARES)] * BUCKETS)
    drawn = generator.random(LOOKS) * BUCKETS < weight_ppm
    return _stopped((weight_ppm, bool(candidate), None) for candidate in drawn)


def sticky(seed: int) -> bool:
    """The same with customers, some of whom always fail, whoever answers."""
    return _stopped(_sticky_failures(seed))


def naive(seed: int) -> bool:
    """The same failures, as if each had been drawn on its own: what `sticky` would be without the ledger's keys."""
    return _stopped((weight_ppm, candidate, None) for weight_ppm, candidate, _ in _sticky_failures(seed))


def ramping(seed: int) -> bool:
    """The same customers under a ramp, by the whole controller: evidence starts anew at each step."""
    customers = Customers(seed)
    release = {"stable": 1, "candidate": 2, "split": {"routes": [{"name": "all", "weight": "ramp"}]}, "ramp": RAMP}
    settings = ReleaseSettings.model_validate({**release, "guards": {"alpha": ALPHA * 100, "comparisons": [ERRORS]}})
    controller, window, tally = Controller(settings), MetricWindow(windows_s(settings)), Tally()
    weight_ppm = 0
    for tick in range(72):
        now_s = tick * TICK_S
        tally.success("candidate", 0, 1)
        window.sample(now_s, Sample(tally.read(), tally.read()))
        events = _events(customers.failing(weight_ppm), FailureKind.FAILURE)
        actions = controller.step(
            now_s, Observation(time_ns=round(now_s * 1e9), epoch=1, stopped=False, window=window, failures=events)
        )
        if any(isinstance(action, Stop) for action in actions):
            return True
        weight_ppm = controller.state.weights_ppm["all"]
    assert weight_ppm == 500_000, "the simulated ramp has not risen"
    return False


def together(seed: int) -> bool:
    """Three comparisons of the same customers: who always fails is also slow, and wrong where an answer is given."""
    customers = Customers(seed)
    guards = Guards(GuardsSettings.model_validate({"alpha": ALPHA * 100, "comparisons": GUARDS}))
    window = MetricWindow(())
    weight_ppm = round(SHARES[seed % len(SHARES)] * BUCKETS)
    for _ in range(LOOKS // PER_TICK):
        events = [
            *_events(customers.failing(weight_ppm), FailureKind.FAILURE),
            *_events(customers.failing(weight_ppm), FailureKind.SLOW),
        ]
        wrong = [FeedbackEvent(0, 0, *failure, {"wrong": 1.0}) for failure in customers.failing(weight_ppm)]
        guards.ingest(Observation(time_ns=0, epoch=1, stopped=False, window=window, failures=events, feedback=wrong), 0)
        if guards.assess(1).stop is not None:
            return True
    return False


def drifting(seed: int) -> bool:
    """Whether a ramp is paused for other predicted classes, where both versions predict alike; two routes."""
    generator = np.random.default_rng(seed)
    drift = Drift()
    shares = generator.dirichlet(np.ones(CLASSES), 2)
    weight = SHARES[seed % len(SHARES)]
    counts = np.zeros((2, 2, CLASSES), np.int64)
    for _ in range(LOOKS // 4):
        rows = generator.binomial(ROWS, weight, 2)
        counts += generator.multinomial([rows, ROWS - rows], shares)
        drift.observe(ClassCounts(*counts))
        if reached(drift.log_e, ALPHA):
            return True
    return False


def called_safe(seed: int) -> bool:
    """Whether a candidate that fails TOLERATED_RATIO times as often is ever called safe."""
    generator = np.random.default_rng(seed)
    weight_ppm = round(SHARES[seed % len(SHARES)] * BUCKETS)
    odds = weight_ppm * TOLERATED_RATIO / (weight_ppm * TOLERATED_RATIO + BUCKETS - weight_ppm)
    ledger = FailureCounts()
    for candidate in generator.random(LOOKS) < odds:
        ledger.add(weight_ppm, bool(candidate), None)
        if reached(ledger.log_safe, ALPHA):
            return True
    return False


def failures_to_stop(seed: int, share: float, ratio: float, limit: int) -> tuple[int, int]:
    """Failures and requests until a candidate that fails `ratio` times as often is stopped; `limit` where it is not."""
    generator = np.random.default_rng(seed)
    weight_ppm = round(share * BUCKETS)
    rate = 1 - share + share * ratio
    ledger = FailureCounts()
    failures = 0
    for candidate in generator.random(limit) < share * ratio / rate:
        failures += 1
        ledger.add(weight_ppm, bool(candidate), None)
        if reached(ledger.log_e, ALPHA):
            break
    return failures, failures + int(generator.negative_binomial(failures, BASE_RATE * rate))


class Customers:
    """Those of a model, each with its bucket, ever the same."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._buckets = self._generator.integers(0, BUCKETS, CUSTOMERS)

    def failing(self, weight_ppm: int) -> list[Draw]:
        """Failures in the order of their arrival: half of them of customers who always fail, half of anyone."""
        always = self._generator.random(PER_TICK) < 0.5
        who = np.where(always, self._generator.integers(0, ALWAYS, PER_TICK), self._anyone())
        return [(weight_ppm, bucket < weight_ppm, bucket) for bucket in self._buckets[who].tolist()]

    def _anyone(self) -> "np.typing.NDArray[np.int64]":
        return self._generator.integers(0, CUSTOMERS, PER_TICK)


def run_all(simulate: Callable[..., Any], seeds: Iterable[int], *arguments: float | str) -> list[Any]:
    """One run for each seed, on all cores."""
    seeds = list(seeds)
    context = multiprocessing.get_context("fork")  # a spawned process would run the command line anew
    with ProcessPoolExecutor(os.cpu_count(), context) as pool:
        return list(pool.map(simulate, seeds, *map(repeat, arguments), chunksize=50))


def upper_limit(hits: int, runs: int, confidence: float = 0.95) -> float:
    """The largest rate that `hits` of `runs` do not contradict (Clopper & Pearson, one-sided)."""
    low, high = hits / runs, 1.0
    for _ in range(50):
        rate = (low + high) / 2
        low, high = (rate, high) if at_most(hits, runs, rate) > 1 - confidence else (low, rate)
    return high


def at_most(hits: int, runs: int, rate: float) -> float:
    """The probability of `hits` or fewer in so many runs (binomial)."""
    if rate >= 1:
        return float(hits >= runs)
    logs = (
        math.lgamma(runs + 1) - math.lgamma(k + 1) - math.lgamma(runs - k + 1)
        + (k * math.log(rate) if k else 0.0) + (runs - k) * math.log1p(-rate)
        for k in range(hits + 1)
    )  # fmt: skip
    return math.fsum(math.exp(log) for log in logs)


def _sticky_failures(seed: int) -> Iterable[Draw]:
    customers = Customers(seed)
    for _ in range(LOOKS // PER_TICK):
        yield from customers.failing(100_000)


def _stopped(failures: Iterable[tuple[int, bool, int | None]]) -> bool:
    """Whether the failures stop the candidate, looked at after each of them."""
    ledger = FailureCounts()
    for failure in failures:
        ledger.add(*failure)
        if reached(ledger.log_e, ALPHA):
            return True
    return False


def _events(draws: Sequence[Draw], kind: FailureKind) -> list[FailureEvent]:
    return [FailureEvent(0, 0, 1, weight_ppm, candidate, kind, key) for weight_ppm, candidate, key in draws]
