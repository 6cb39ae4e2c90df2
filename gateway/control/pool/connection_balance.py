"""How many connections each worker should let go, so that all come to have as many.

The system hands a new connection to any listening worker, by chance. So where some have more than their part, it is
enough that these let a few go, again and again: of those that come back each worker gets the same number.
"""

from collections.abc import Mapping
from typing import Final

UNEVEN: Final = 1.25  # times the mean, and 2 more: chance alone seldom does that where connections are many
SPREAD: Final = 2
EVEN: Final = 1.1  # times the mean, and 1 more: near enough
NEAR: Final = 1
LOOKS: Final = 2  # in a row that find it uneven, a second apart, before anything is done
SHARE: Final = 0.1  # of a worker's busy connections that it lets go in a second, at most
LONGEST: Final = 30  # looks: what has not helped by then does not help
LOST: Final = 0.7  # of the connections are left: they do not come back
REST: Final = 60  # looks without another try; twice as many after each that has not helped
LONGEST_REST: Final = 3600


class Balance:
    """Decides once a second. While it is even, or cannot be made more so, nothing is let go."""

    def __init__(self) -> None:
        self._uneven = 0  # looks in a row
        self._tried = 0
        self._at_first = 0  # connections, when it began to act
        self._rest = 0
        self._next_rest = REST

    def anew(self) -> None:
        """Another worker has come: what has not helped before may help now."""
        self._rest = self._uneven = self._tried = 0
        self._next_rest = REST

    def asks(self, busy: Mapping[int, int]) -> dict[int, int]:
        """How many connections each worker should let go now, of those that are `busy`; only workers that should."""
        if self._rest:
            self._rest -= 1
            return {}
        counts = list(busy.values())
        if self._tried == 0:
            self._uneven = self._uneven + 1 if is_uneven(counts) else 0
            if self._uneven < LOOKS:
                return {}
            self._at_first = sum(counts)
        elif is_even(counts):
            self._uneven = self._tried = 0
            self._next_rest = REST
            return {}
        if self._tried == LONGEST or sum(counts) < self._at_first * LOST:
            self._uneven = self._tried = 0
            self._rest, self._next_rest = self._next_rest, min(2 * self._next_rest, LONGEST_REST)
            return {}
        self._tried += 1
        return surplus(busy)


def is_uneven(counts: list[int]) -> bool:
    """Whether a worker has so much more or less than the mean that chance does not explain it."""
    return _beyond(counts, UNEVEN, SPREAD)


def is_even(counts: list[int]) -> bool:
    """Whether it is near enough to the mean everywhere."""
    return not _beyond(counts, EVEN, NEAR)


def surplus(busy: Mapping[int, int]) -> dict[int, int]:
    """What each worker has beyond the mean, as much of it as it may let go in a second."""
    mean = sum(busy.values()) / len(busy)
    return {
        worker: min(round(count - mean + 0.5), max(1, int(count * SHARE)))
        for worker, count in busy.items()
        if count > mean + NEAR
    }


def _beyond(counts: list[int], factor: float, more: int) -> bool:
    if len(counts) < 2:
        return False
    mean = sum(counts) / len(counts)
    return max(counts) > factor * mean + more or min(counts) < (2 - factor) * mean - more
