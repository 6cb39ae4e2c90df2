"""One version's traffic over the last hour and the last day: requests, failures and latencies by time.

Counts are kept in buckets of five minutes for an hour, and of an hour for a day. So a period begins up to one bucket
earlier than its name says.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from gateway.errors import request_counts
from gateway.shm.tally import BUCKETS, Totals

BUCKET_S: Final = 300
HOUR_S: Final = 3600
DAY_S: Final = 86400
Latencies = npt.NDArray[np.int64]
NO_LATENCIES: Final[Latencies] = np.zeros(BUCKETS, np.int64)


@dataclass(frozen=True, slots=True)
class Counts:
    """Requests, those whose outcome counts (`answered`: not the client's errors), failures among them, and the bucket
    counts of latencies.
    """

    requests: int = 0
    answered: int = 0
    failed: int = 0
    latency: Latencies = field(default_factory=lambda: NO_LATENCIES)

    def __add__(self, other: "Counts") -> "Counts":
        return Counts(
            self.requests + other.requests,
            self.answered + other.answered,
            self.failed + other.failed,
            self.latency + other.latency,
        )

    def since(self, before: "Counts") -> "Counts":
        """The difference from the earlier counts `before`; all of these if they are fewer: they began anew."""
        if self.requests < before.requests:
            return self
        return Counts(
            self.requests - before.requests,
            self.answered - before.answered,
            self.failed - before.failed,
            self.latency - before.latency,
        )

    def to_json(self) -> list[int]:
        """The counts; then index and count of each bucket that is not empty."""
        used = np.flatnonzero(self.latency)
        pairs = np.stack((used, self.latency[used]), 1).ravel().tolist()
        return [self.requests, self.answered, self.failed, *pairs]

    @classmethod
    def from_json(cls, numbers: list[int]) -> "Counts":
        """The counts that `to_json` wrote. Raises ValueError, TypeError or IndexError if they are damaged."""
        requests, answered, failed, *pairs = numbers
        if not all(type(number) is int and number >= 0 for number in numbers):
            raise ValueError("counts must be whole numbers from 0 on")
        latency = np.zeros(BUCKETS, np.int64)
        latency[pairs[::2]] = pairs[1::2]
        return cls(requests, answered, failed, latency)


NOTHING: Final = Counts()


def counts_of(totals: Totals, variant: str) -> Counts:
    """What all workers have counted of a version in one variant."""
    outcomes = totals.outcomes(variant)
    answered, failed = request_counts(outcomes)
    return Counts(sum(outcomes.values()), answered, failed, totals.latency_counts(variant).copy())


class Series:
    """Counts by time. Times are in seconds since 1970; those in the future, after the clock was set back, are
    dropped.
    """

    def __init__(self) -> None:
        self._recent: deque[tuple[int, Counts]] = deque()  # start, and the counts of the five minutes from then on
        self._hours: deque[tuple[int, Counts]] = deque()

    def add(self, start_s: int, counts: Counts, now_s: float) -> None:
        """Add the counts since `start_s`, a bucket that has ended now, and forget what is older than a day."""
        if counts.requests:
            self._recent.append((start_s, counts))
        for kept in (self._recent, self._hours):
            while kept and kept[-1][0] > now_s:
                kept.pop()
        while self._recent and self._recent[0][0] + BUCKET_S <= now_s - HOUR_S:
            old_s, old = self._recent.popleft()
            hour_s = old_s - old_s % HOUR_S
            if self._hours and self._hours[-1][0] == hour_s:
                old += self._hours.pop()[1]
            self._hours.append((hour_s, old))
        while self._hours and self._hours[0][0] + HOUR_S <= now_s - DAY_S:
            self._hours.popleft()

    def within(self, seconds: int, now_s: float) -> Counts:
        """The counts of the last `seconds`, an hour or a day, without those since the last bucket ended."""
        kept = (*self._hours, *self._recent) if seconds > HOUR_S else self._recent
        return sum((counts for _, counts in kept), NOTHING)

    @property
    def empty(self) -> bool:
        """Whether there was no traffic for a day."""
        return not self._recent and not self._hours

    def to_json(self) -> dict[str, Any]:
        """Both kinds of buckets, for `from_json`."""
        return {name: [[at, *counts.to_json()] for at, counts in kept] for name, kept in self._kept()}

    @classmethod
    def from_json(cls, document: dict[str, Any], now_s: float) -> "Series":
        """The series that `to_json` wrote. Raises ValueError, TypeError, KeyError or IndexError if it is damaged."""
        series = cls()
        for name, kept in series._kept():
            kept.extend((int(at), Counts.from_json(numbers)) for at, *numbers in document[name])
        series.add(0, NOTHING, now_s)
        return series

    def _kept(self) -> Iterable[tuple[str, deque[tuple[int, Counts]]]]:
        return ("recent", self._recent), ("hours", self._hours)
