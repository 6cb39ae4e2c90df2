"""What this host may admit of each rate limit in a fleet, in requests per window, and how many requests were refused.

Control writes the shares, and workers read one with each request. A quota is a customer with a configured rate, or a
place in the first row of the sketch of all others (`rate_counters`). A word below 0 is -1 - share: the fleet's store
counts the quota, and the share is what holds if it does not answer. Each worker counts its refusals in its own words.
"""

from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.shm.segment import SharedSegment

_LAYOUT: Final = 0x5253_0001_0000


class RateShares:
    """The words of `quotas` quotas and `workers` workers."""

    def __init__(self, segment: SharedSegment, workers: int, quotas: int) -> None:
        self.segment = segment
        self.quotas = quotas
        self.words = segment.words[:quotas]
        table = np.frombuffer(segment.words, np.int64)
        self._shares = table[:quotas]
        self._refused = table[quotas:].reshape(workers, quotas)

    @classmethod
    def create(cls, path: Path, workers: int, quotas: int) -> "RateShares":
        """Create the file, with all shares 0. Called by control. Raises SettingsError if memory is short."""
        return cls(SharedSegment.create(path, (workers + 1) * quotas, _LAYOUT + workers), workers, quotas)

    @classmethod
    def attach(cls, path: Path, workers: int, quotas: int) -> "RateShares":
        """Map the existing file. Called by a worker. Raises SettingsError if it is missing or of another layout."""
        return cls(SharedSegment.attach(path, _LAYOUT + workers), workers, quotas)

    def refusals(self, worker: int) -> "memoryview[int]":
        """The worker's own words: requests refused since the start, by quota."""
        first = (worker + 1) * self.quotas
        return self.segment.words[first : first + self.quotas]

    def put(self, shares: npt.NDArray[np.int64]) -> None:
        """Put the shares of all quotas into force: word by word, so that no worker reads a part of one."""
        changed = np.flatnonzero(self._shares != shares)
        self._shares[changed] = shares[changed]

    def refused(self) -> npt.NDArray[np.int64]:
        """Requests refused since the start by all workers, by quota."""
        return np.asarray(self._refused.sum(axis=0), np.int64)
