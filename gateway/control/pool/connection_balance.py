"""Balances connections between workers: decides how many each should close so that all come to have equally many.

The kernel assigns a new connection to any listening worker at random. So it is enough that workers with more than their
share close a few, repeatedly: the clients that reconnect are spread evenly.
"""

from collections.abc import Mapping
from typing import Final

UNEVEN_FACTOR: Final = 1.25  # times the mean, and 2 more: chance alone seldom does that if connections are many
UNEVEN_MARGIN: Final = 2
EVEN_FACTOR: Final = 1.1  # times the mean, and 1 more: even enough
EVEN_MARGIN: Final = 1
UNEVEN_CHECKS: Final = 2  # checks in a row, a second apart, that must find it uneven before anything is done
MAX_CLOSED_SHARE: Final = 0.1  # of a worker's busy connections that it closes in a second, at most
MAX_ATTEMPTS: Final = 30  # checks: if balancing has not succeeded by then, it will not
MIN_REMAINING_SHARE: Final = 0.7  # of the connections are left: clients do not reconnect, so balancing ends
FIRST_BACKOFF: Final = 60  # checks before the next try; twice as many after each that did not help
MAX_BACKOFF: Final = 3600


class ConnectionBalancer:
    """Decides once a second. Nothing is closed while the distribution is even or cannot be improved."""

    def __init__(self) -> None:
        self._uneven = 0  # checks in a row that found it uneven
        self._attempts = 0
        self._initial_total = 0  # connections when balancing began
        self._backoff = 0
        self._next_backoff = FIRST_BACKOFF

    def reset(self) -> None:
        """Call when a worker has joined: what did not help before may help now."""
        self._backoff = self._uneven = self._attempts = 0
        self._next_backoff = FIRST_BACKOFF

    def to_close(self, busy: Mapping[int, int]) -> dict[int, int]:
        """How many of its `busy` connections each worker should close now; only workers that should close any. Call
        once a second.
        """
        if self._backoff:
            self._backoff -= 1
            return {}
        counts = list(busy.values())
        if self._attempts == 0:
            self._uneven = self._uneven + 1 if is_uneven(counts) else 0
            if self._uneven < UNEVEN_CHECKS:
                return {}
            self._initial_total = sum(counts)
        elif is_even(counts):
            self._uneven = self._attempts = 0
            self._next_backoff = FIRST_BACKOFF
            return {}
        if self._attempts == MAX_ATTEMPTS or sum(counts) < self._initial_total * MIN_REMAINING_SHARE:
            self._uneven = self._attempts = 0
            self._backoff, self._next_backoff = self._next_backoff, min(2 * self._next_backoff, MAX_BACKOFF)
            return {}
        self._attempts += 1
        return surplus(busy)


def is_uneven(counts: list[int]) -> bool:
    """Whether some worker's count differs from the mean by more than chance explains."""
    return _beyond(counts, UNEVEN_FACTOR, UNEVEN_MARGIN)


def is_even(counts: list[int]) -> bool:
    """Whether every worker's count is close enough to the mean to stop balancing."""
    return not _beyond(counts, EVEN_FACTOR, EVEN_MARGIN)


def surplus(busy: Mapping[int, int]) -> dict[int, int]:
    """Each worker's excess over the mean, limited to what it may close in a second."""
    mean = sum(busy.values()) / len(busy)
    return {
        worker: min(round(count - mean + 0.5), max(1, int(count * MAX_CLOSED_SHARE)))
        for worker, count in busy.items()
        if count > mean + EVEN_MARGIN
    }


def _beyond(counts: list[int], factor: float, more: int) -> bool:
    if len(counts) < 2:
        return False
    mean = sum(counts) / len(counts)
    return max(counts) > factor * mean + more or min(counts) < (2 - factor) * mean - more
