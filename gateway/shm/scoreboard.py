"""The scoreboard in shared memory: a block of counters for each model version and worker, and a head for each worker.

A worker writes only its own head and blocks. They outlive it: its replacement goes on counting, so totals never fall.
Counters are on the hot path, so they are plain words, not objects. The file holds all heads, then version by version
the workers' blocks; it has room for many versions, but memory is allocated only for slots that are used (`open`).
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.shm.segment import SharedSegment
from gateway.shm.tally import (
    BLOCK,
    HELD,
    LAST,
    LATENCY,
    OUTCOME,
    RUNNING,
    SPAN,
    TRIP,
    TRIPS,
    WAITING,
    Tally,
    Totals,
    randomised_in,
)

VERSIONS: Final = 8192  # slots: versions served at once, including those that a reload adds or that still drain

INFLIGHT: Final = 0
SHED: Final = 1
RECORDED: Final = 2  # predictions; the next three: feedback recorded, predictions dropped, feedback dropped
FEEDBACK_RECORDED: Final = 3
DROPPED: Final = 4
FEEDBACK_DROPPED: Final = 5
EVENTS_DROPPED: Final = 6
UNRECORDED: Final = 7  # requests refused because they could not be recorded
MIRRORS_DROPPED: Final = 8
TOO_LARGE: Final = 9  # predictions whose records do not fit into an empty ring
SHED_RATE: Final = 10  # requests refused because of their customer's rate limit
SPANS_EXPORTED: Final = 11  # the next two: spans that the collector did not accept; that found the queue full
SPANS_FAILED: Final = 12
SPANS_DROPPED: Final = 13
THROTTLED: Final = 14  # predictions whose records are beyond `records.large`
CONNECTIONS_OPEN: Final = 15  # now; the next one: those with a recent request
CONNECTIONS_BUSY: Final = 16
HEARTBEATS: Final = 17  # heartbeats of the worker's event loop, counted; 0: it has not started
LOADING: Final = 18  # the slot of the version that is being loaded, plus 1; 0: none
LATE_SENDS: Final = 19  # answers of candidates that were sent when control's heartbeat or the lease had ended
HEAD: Final = 24
_LAYOUT: Final = 0x5342_0004_0000 + SPAN


class Scoreboard:
    """The whole board, for `workers` workers. Slots are allocated by `slots.VersionSlots`."""

    def __init__(self, segment: SharedSegment, workers: int) -> None:
        self.segment = segment
        self.workers = workers
        table = np.frombuffer(segment.words, np.int64)
        self._heads = table[: workers * HEAD].reshape(workers, HEAD)
        self._blocks = table[workers * HEAD :].reshape(VERSIONS, workers, SPAN)

    @classmethod
    def create(cls, path: Path, workers: int) -> "Scoreboard":
        """Create the board, with memory for the heads only. Called by control. Raises SettingsError if that fails."""
        return cls(SharedSegment.create(path, workers * (HEAD + VERSIONS * SPAN), _LAYOUT, workers * HEAD), workers)

    @classmethod
    def attach(cls, path: Path, workers: int) -> "Scoreboard":
        """Map an existing board. Called by workers. Raises SettingsError if it is missing or of another layout."""
        return cls(SharedSegment.attach(path, _LAYOUT), workers)

    def open(self, slot: int) -> None:
        """Allocate memory for a version in `slot`, with all counters 0; raises SettingsError if memory is short."""
        self.segment.reserve(self._first(0, slot), self.workers * SPAN)
        self._blocks[slot] = 0

    def held(self, slot: int) -> bool:
        """Whether any worker may still count in the slot."""
        return bool(self._blocks[slot, :, HELD].any())

    def restore(self, slot: int, totals: "Totals") -> None:
        """Let a version that comes back continue from its earlier totals. No worker may know the slot yet."""
        self._blocks[slot, 0, :BLOCK] = totals.words

    def tally(self, worker: int, slot: int) -> Tally:
        """Return the Tally on which `worker` counts for the version in `slot`."""
        return Tally(self.words(worker, slot))

    def words(self, worker: int, slot: int) -> "memoryview[int]":
        """Return the words of one version and worker."""
        first = self._first(worker, slot)
        return self.segment.words[first : first + SPAN]

    def head(self, worker: int) -> "memoryview[int]":
        """Return the worker's own words, indexed by INFLIGHT and so on: present values and cumulative counts."""
        return self.segment.words[worker * HEAD : (worker + 1) * HEAD]

    def begin(self, worker: int, slots: Iterable[int]) -> None:
        """Reset the worker's gauges before a new process starts in its place. `slots`: all that were ever used."""
        head = self.head(worker)
        head[INFLIGHT] = head[CONNECTIONS_OPEN] = head[CONNECTIONS_BUSY] = head[HEARTBEATS] = head[LOADING] = 0
        for slot in slots:
            self._blocks[slot, worker, [WAITING, HELD, RUNNING]] = 0

    def total(self, word: int) -> int:
        """Return a word of the heads, added up over workers."""
        return int(self._heads[:, word].sum())

    def per_worker(self, word: int) -> list[int]:
        """Return a word of the heads, worker by worker."""
        return [int(count) for count in self._heads[:, word]]

    def totals(self, slot: int) -> Totals:
        """Return the counters of the version in `slot`, added up over workers."""
        return Totals(self._blocks[slot, :, :BLOCK].sum(axis=0))

    def randomised(self, slot: int, epoch: int) -> tuple[int, int]:
        """Return how many predictions of the candidate's release in `slot` were assigned at random in this epoch,
        stable's and the candidate's.
        """
        return randomised_in(epoch, self._blocks[slot])

    def request_counts(self, slots: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return how many requests each of these versions has had, over all outcomes and workers."""
        return np.asarray(self._blocks[:, :, OUTCOME:LATENCY][slots].sum(axis=(1, 2)), np.int64)

    def left(self, slot: int) -> Totals:
        """Return the final totals of a version that no worker counts for any more."""
        return self.totals(slot).settled(self.last_success_ns(slot))

    def last_success_ns(self, slot: int) -> int:
        """Return when any worker last answered for the version, in ns on the monotonic clock; 0: never."""
        return int(self._blocks[slot, :, LAST].max())

    def running(self, worker: int, slot: int) -> bool:
        """Whether the worker is running the candidate in `slot`, or was when it died."""
        return bool(self._blocks[slot, worker, RUNNING] > 0)

    def trip(self, worker: int, slot: int) -> str:
        """Return why the worker's breaker last stopped the version in `slot`, one of TRIPS."""
        return TRIPS[int(self._blocks[slot, worker, TRIP])]

    def _first(self, worker: int, slot: int) -> int:
        return self.workers * HEAD + (slot * self.workers + worker) * SPAN
