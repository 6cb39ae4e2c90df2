"""Harmless candidates in a simulated fleet whose hosts share failing customers: evidence comes by the hosts' logs."""

from collections import Counter
from typing import Final

import numpy as np

from gateway.control.fleet import evidence
from gateway.control.fleet.entries import KnownFeedback, batch, failure_entry
from gateway.control.fleet.evidence import Digest, Log
from gateway.control.fleet.host_log import HostLog
from gateway.control.guards.evidence import FAILURE_RATIOS, alpha_of, log_harm, reached
from gateway.control.guards.failure_counts import FailureCounts
from gateway.shm.failure_events import FailureEvent, FailureKind
from loadtests.simulation import ALPHA, LOOKS, PER_TICK, SHARES, Customers, Draw

HOSTS: Final = 12
MOST: Final = 20  # entries in a digest
WEIGHTS: Final = (10_000, 50_000, 250_000, 500_000)  # of the ramp, in ppm
TICKS: Final = 18  # of a step


def spread(seed: int) -> bool:
    """Whether a harmless candidate is stopped under a ramp: each failure is at any host, hosts are late with their logs
    and with the ramp's weight, and digests are lost.
    """
    fleet = _Fleet(seed)
    ledger = FailureCounts()
    for step, weight_ppm in enumerate(WEIGHTS):
        for tick in range(TICKS):
            fleet.fail(weight_ppm, WEIGHTS[max(step - 1, 0)] if tick == 0 else weight_ppm)
            for draw in fleet.counted():
                ledger.add(*draw)
            if reached(ledger.log_e, alpha_of(ALPHA, step + 1)):
                return True
        ledger.restart()
    return False


def added_up(seed: int) -> bool:
    """The same customers at a constant weight, if each host counted each of them once and the counts were added up."""
    generator = np.random.default_rng(seed)
    customers, ledgers = Customers(seed), [FailureCounts() for _ in range(HOSTS)]
    for _ in range(LOOKS // PER_TICK):
        for draw in customers.failing(round(SHARES[2] * 1_000_000)):
            ledgers[generator.integers(HOSTS)].add(*draw)
        total: Counter[tuple[float, bool]] = Counter()
        for ledger in ledgers:
            total.update(ledger.counts)
        if reached(log_harm(total, FAILURE_RATIOS), ALPHA):
            return True
    return False


class _Fleet:
    """The hosts' logs and the digest."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)
        self._customers = Customers(seed)
        self._hosts = [HostLog(f"h{index}") for index in range(HOSTS)]
        self._stored: dict[str, Log] = {}
        self._digest = Digest(1, "h0", "s")

    def fail(self, weight_ppm: int, late_ppm: int) -> None:
        """Failures of a tick, each at one of the hosts; the first two hosts have the weight later."""
        for index, draw in enumerate(self._customers.failing(weight_ppm)):
            host = int(self._generator.integers(HOSTS))
            self._hosts[host].add([_entry(draw, late_ppm if host < 2 else weight_ppm, index)])

    def counted(self) -> list[Draw]:
        """What the leader counts in a tick."""
        for host in self._hosts:
            if self._generator.random() < 0.6:
                record = host.record("s", (1, 2))
                self._stored[host.name] = record
        news = evidence.news(self._digest, self._stored, MOST)
        if self._generator.random() < 0.3:
            return []  # the write of the digest has failed
        self._digest = self._digest._replace(offsets=news.offsets)
        for host in self._hosts:
            if self._generator.random() < 0.6:
                host.drop_counted(news.offsets.get(host.name, 0))
        events = batch(news.entries, KnownFeedback()).failures
        return [(event.weight_ppm, event.candidate, event.key or 0) for event in events]


def _entry(draw: Draw, weight_ppm: int, index: int) -> list[object]:
    _, _, key = draw
    event = FailureEvent(index, 0, 1, weight_ppm, key < weight_ppm, FailureKind.FAILURE, key)
    return failure_entry(event, 1)
