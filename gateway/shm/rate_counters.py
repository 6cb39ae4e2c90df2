"""Counts the requests of each customer admitted by all workers together, in the present time window and the last one.

A place has two words for each worker, one for even and one for odd windows, and a word holds its window's number beside
the count. So each word shows whether it belongs to the present window, the last one or an older one; nothing is ever
reset, and no reader can see a partial update. A worker writes only its own words.

Customers with a configured rate have a place each. All others share a count-min sketch: two places each, chosen by
hash, of which the lower count holds (Cormode & Muthukrishnan, 2005). So memory is bounded whatever names clients make
up, and an error only makes the limit stricter: with 1,000 customers active at once, 1 in 270 shares both of its places
with others.
"""

import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import mmh3
import numpy as np
import numpy.typing as npt

from gateway.shm.segment import HEADER_WORDS, WORD, SharedSegment

ROW_PLACES: Final = 16384  # places in each row of the sketch
COUNT_BITS: Final = 24  # no worker can answer 2**24 requests within a window
WINDOW: Final = 1 << COUNT_BITS  # difference between the same count in two consecutive windows
COUNT: Final = WINDOW - 1
_LAYOUT: Final = 0x5242_0001_0000


class RateCounters:
    """All counters, for `workers` workers and `named` customers with a place of their own."""

    def __init__(self, segment: SharedSegment, workers: int, named: int) -> None:
        self.segment = segment
        self._named = named
        self._stride = 2 * workers
        self._begin = HEADER_WORDS * WORD
        self._size = self._stride * WORD
        self._words = segment.words
        self._raw = segment.raw
        self._unpack = struct.Struct(f"={2 * workers}q").unpack_from

    @classmethod
    def create(cls, path: Path, workers: int, named: int) -> "RateCounters":
        """Create the file. Called by the control process. Raises SettingsError if memory is short."""
        return cls(
            SharedSegment.create(path, 2 * workers * (named + 2 * ROW_PLACES), _LAYOUT + workers), workers, named
        )

    @classmethod
    def attach(cls, path: Path, workers: int, named: int) -> "RateCounters":
        """Map the existing file. Called by a worker. Raises SettingsError if it is missing or of another layout."""
        return cls(SharedSegment.attach(path, _LAYOUT + workers), workers, named)

    def hashed(self, customer: str) -> tuple[int, int]:
        """Return the two places of a customer that has none of its own."""
        first, second = mmh3.hash64(customer.encode(errors="surrogatepass"), signed=False)
        return self._named + first % ROW_PLACES, self._named + ROW_PLACES + second % ROW_PLACES

    @property
    def table(self) -> npt.NDArray[np.int64]:
        """The words of all places, a row each, for readers of many."""
        return np.frombuffer(self._words, np.int64).reshape(-1, self._stride)

    def counts(self, place: int, window: int) -> tuple[int, int]:
        """Return the counts of all workers at `place`: in the window before `window`, and in `window`."""
        first = window << COUNT_BITS  # the window's number is in the high bits, so words compare as windows do
        before = now = 0
        for word in self._unpack(self._raw, self._begin + place * self._size):
            if word > first:
                if word <= first + COUNT:  # else another worker is already in the next window
                    now += word - first
            elif word > first - WINDOW:
                before += word - first + WINDOW
        return before, now

    def add(self, places: Iterable[int], worker: int, window: int) -> None:
        """Count one request of `worker` at each of the places."""
        words, stride = self._words, self._stride
        first = window << COUNT_BITS
        own = 2 * worker + (window & 1)
        for place in places:
            at = place * stride + own
            word = words[at]
            words[at] = word + 1 if word > first else first + 1

    def remove(self, places: Iterable[int], worker: int, window: int) -> None:
        """Undo an `add`, unless the worker has counted in a later window since."""
        words, first = self._words, window << COUNT_BITS
        for place in places:
            at = place * self._stride + 2 * worker + (window & 1)
            if first < (word := words[at]) <= first + COUNT:
                words[at] = word - 1 if word > first + 1 else 0  # a word without a count would be the window before's
