"""What each worker has done: a row for each worker, in it a block for each model version, in it counters.

A worker writes its own row only. A row outlives its worker: the one that takes its place goes on counting, so totals
never fall. Counters are on the hot path, hence plain words and no objects.
"""

import itertools
import math
from array import array
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.errors import Outcome
from gateway.shm.histogram import Histogram
from gateway.shm.segment import Segment

OUTCOMES: Final = tuple(Outcome)
VARIANTS: Final = ("stable", "candidate", "pinned")
RESCUE_REASONS: Final = ("model_error", "invalid_output", "timeout", "overloaded", "stopped", "excused")
TRIPS: Final = ("", "failures in a row", "requests in a row without an answer")  # what a breaker has found
MIRRORED: Final = ("agree", "disagree", "failed", "dropped")
CLASSES: Final = 64  # predicted classes counted one by one; those beyond count as the last
STRATA: Final = 9  # the first routes that chance decides on, one by one; the last: all other traffic
UNSTRATIFIED: Final = STRATA - 1
LATENCY_US: Final = (  # what is exported, and what waiting in a queue is counted by
    100, 150, 200, 300, 500, 750, 1_000, 1_500, 2_000, 3_000, 5_000, 7_500, 10_000, 15_000, 20_000, 30_000, 50_000,
    75_000, 100_000, 150_000, 200_000, 300_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000,
)  # fmt: skip
EXPORTED_NS: Final = tuple(edge * 1000 for edge in LATENCY_US)
NARROW: Final = 1.05**2  # a bucket's geometric middle is within 5% of all that falls into it
LARGEST_BATCH: Final = 128  # larger ones are counted as this


def _refined(edges: Sequence[int]) -> tuple[int, ...]:
    """The edges, and between any two of them as many at equal ratios as make them narrow."""
    refined = [edges[0]]
    for low, high in itertools.pairwise(edges):
        steps = math.ceil(math.log(high / low) / math.log(NARROW))
        refined += [round(low * (high / low) ** (step / steps)) for step in range(1, steps + 1)]
    return tuple(refined)


LATENCY_NS: Final = _refined((20_000, 50_000, *EXPORTED_NS, 20_000_000_000, 60_000_000_000))
BUCKETS: Final = len(LATENCY_NS) + 1
_QUEUE_BUCKETS: Final = len(EXPORTED_NS) + 1

_OUTCOME: Final = 0
_LATENCY: Final = _OUTCOME + len(VARIANTS) * len(OUTCOMES)
_SUCCESS_NS: Final = _LATENCY + len(VARIANTS) * BUCKETS
_FAIL_NS: Final = _SUCCESS_NS + len(VARIANTS)
_QUEUE: Final = _FAIL_NS + len(VARIANTS)
_QUEUE_SUM: Final = _QUEUE + _QUEUE_BUCKETS
_ROWS: Final = _QUEUE_SUM + 1
_LAST: Final = _ROWS + 1
_UNSPLIT: Final = _LAST + 1
_TRIP: Final = _UNSPLIT + 1
_RESCUE: Final = _TRIP + 1
_WAITING: Final = _RESCUE + len(RESCUE_REASONS)
_MIRROR: Final = _WAITING + 1
_CLASS: Final = _MIRROR + len(MIRRORED)
_BATCH: Final = _CLASS + STRATA * CLASSES  # count, ns for each size from 1 on
BLOCK: Final = _BATCH + 2 * LARGEST_BATCH
VERSIONS: Final = 256  # slots; a slot is never used for a second version while the gateway runs

INFLIGHT: Final = 0
SHED: Final = 1
RECORDED: Final = 2  # and the three below it: predictions and feedback recorded, predictions and feedback dropped
FEEDBACK_RECORDED: Final = 3
DROPPED: Final = 4
FEEDBACK_DROPPED: Final = 5
EVENTS_DROPPED: Final = 6
UNRECORDED: Final = 7  # requests refused because they could not be recorded
MIRRORS_DROPPED: Final = 8
TOO_LARGE: Final = 9  # predictions whose records do not fit into a ring, even an empty one
SHED_RATE: Final = 10  # refused because their customer asks too often
SPANS_EXPORTED: Final = 11  # and the two below it: those that the collector did not take, that found the queue full
SPANS_FAILED: Final = 12
SPANS_DROPPED: Final = 13
THROTTLED: Final = 14  # predictions whose records are beyond `records.large`
HEAD: Final = 16  # words of a row before its blocks
ROW: Final = HEAD + VERSIONS * BLOCK
_LAYOUT: Final = 0x5342_0003_0000 + BLOCK
_VARIANT_WORDS: Final = {  # where a variant's outcomes and latencies begin, and where its index stands
    variant: (_OUTCOME + index * len(OUTCOMES), _LATENCY + index * BUCKETS, index)
    for index, variant in enumerate(VARIANTS)
}
_OUTCOME_INDEX: Final = {outcome: index for index, outcome in enumerate(OUTCOMES)}


class Tally:
    """The counters of one version in one worker. Durations in ns."""

    __slots__ = ("_words",)

    def __init__(self, words: "memoryview[int] | None" = None) -> None:
        self._words = memoryview(array("q", bytes(8 * BLOCK))) if words is None else words

    def success(self, variant: str, ns: int, ended_ns: int) -> None:
        """One request answered with a prediction, after `ns`, at `ended_ns` on the monotonic clock."""
        words = self._words
        outcomes, latency, index = _VARIANT_WORDS[variant]
        words[outcomes] += 1
        words[latency + bisect_left(LATENCY_NS, ns)] += 1
        words[_SUCCESS_NS + index] += ns
        words[_LAST] = ended_ns

    def failure(self, variant: str, outcome: Outcome, ns: int) -> None:
        """One request that the version was asked and did not answer."""
        words = self._words
        outcomes, latency, index = _VARIANT_WORDS[variant]
        words[outcomes + _OUTCOME_INDEX[outcome]] += 1
        words[latency + bisect_left(LATENCY_NS, ns)] += 1
        words[_FAIL_NS + index] += ns

    def rescue(self, reason: str) -> None:
        """One request that stable answered in this version's place."""
        self._words[_RESCUE + RESCUE_REASONS.index(reason)] += 1

    def unsplit(self) -> None:
        """One request that had too little time to be given to this version."""
        self._words[_UNSPLIT] += 1

    def tripped(self, trip: str) -> None:
        """A breaker is about to stop this version: why, one of TRIPS."""
        self._words[_TRIP] = TRIPS.index(trip)

    def waiting(self, change: int) -> None:
        """So many requests more wait for their batch."""
        self._words[_WAITING] += change

    def mirrored(self, agreement: str) -> None:
        """One mirrored request: what came of the comparison with stable."""
        self._words[_MIRROR + MIRRORED.index(agreement)] += 1

    def classified(self, stratum: int, index: int) -> None:
        """One row for which the version has predicted the class `index`, of traffic in `stratum`."""
        self._words[_CLASS + stratum * CLASSES + min(index, CLASSES - 1)] += 1

    def queued(self, ns: int) -> None:
        """One request that waited for its batch."""
        words = self._words
        words[_QUEUE + bisect_left(EXPORTED_NS, ns)] += 1
        words[_QUEUE_SUM] += ns

    def batch(self, rows: int, batch_size: int, ns: int) -> None:
        """One run of the model on `rows` rows, listed under `batch_size`, which is bounded: clients choose the rows."""
        words = self._words
        words[_ROWS] += rows
        at = _BATCH + 2 * (min(max(batch_size, 1), LARGEST_BATCH) - 1)
        words[at] += 1
        words[at + 1] += ns

    def single(self, ns: int) -> None:
        """One run of the model on one row: `batch(1, 1, ns)`, which this is most often."""
        words = self._words
        words[_ROWS] += 1
        words[_BATCH] += 1
        words[_BATCH + 1] += ns

    def read(self) -> "Totals":
        """What has been counted here."""
        return Totals(np.array(self._words, np.int64))


class Totals:
    """The counters of one version, added up over workers."""

    __slots__ = ("_words",)

    def __init__(self, words: npt.NDArray[np.int64]) -> None:
        self._words = words

    def outcomes(self, variant: str) -> dict[Outcome, int]:
        first = _OUTCOME + VARIANTS.index(variant) * len(OUTCOMES)
        return dict(zip(OUTCOMES, map(int, self._words[first : first + len(OUTCOMES)]), strict=True))

    def latency(self, variant: str) -> Histogram:
        index = VARIANTS.index(variant)
        sum_ns = int(self._words[_SUCCESS_NS + index] + self._words[_FAIL_NS + index])
        return self._histogram(_LATENCY + index * BUCKETS, LATENCY_NS, sum_ns)

    def latency_counts(self, variant: str) -> npt.NDArray[np.int64]:
        """The counts of `latency` alone."""
        first = _LATENCY + VARIANTS.index(variant) * BUCKETS
        return self._words[first : first + BUCKETS]

    @property
    def queue(self) -> Histogram:
        return self._histogram(_QUEUE, EXPORTED_NS, int(self._words[_QUEUE_SUM]))

    @property
    def success(self) -> tuple[int, int]:
        """Count and ns."""
        return int(self._outcomes()[:, 0].sum()), int(self._words[_SUCCESS_NS:_FAIL_NS].sum())

    @property
    def fail(self) -> tuple[int, int]:
        """Count and ns."""
        return int(self._outcomes()[:, 1:].sum()), int(self._words[_FAIL_NS:_QUEUE].sum())

    @property
    def rows(self) -> int:
        return int(self._words[_ROWS])

    @property
    def rescues(self) -> dict[str, int]:
        return dict(zip(RESCUE_REASONS, map(int, self._words[_RESCUE:_WAITING]), strict=True))

    @property
    def unsplit(self) -> int:
        """Requests that had too little time to be given to this version, and so went to stable undrawn."""
        return int(self._words[_UNSPLIT])

    @property
    def waiting(self) -> int:
        """Requests that wait for their batch now."""
        return int(self._words[_WAITING])

    @property
    def mirrored(self) -> dict[str, int]:
        return dict(zip(MIRRORED, map(int, self._words[_MIRROR:_CLASS]), strict=True))

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Predicted classes as counts [strata, classes]."""
        return self._words[_CLASS:_BATCH].reshape(STRATA, CLASSES)

    @property
    def batches(self) -> dict[int, tuple[int, int]]:
        """For each batch size that has occurred: how often, and ns in all."""
        pairs = self._words[_BATCH:].reshape(-1, 2).tolist()
        return {size: (count, ns) for size, (count, ns) in enumerate(pairs, 1) if count}

    def last_success_ns(self) -> int:
        """On the monotonic clock; 0: never. Of one worker only: of several, the sum means nothing."""
        return int(self._words[_LAST])

    def _histogram(self, first: int, edges_ns: Sequence[int], sum_ns: int) -> Histogram:
        return Histogram(edges_ns, self._words[first : first + len(edges_ns) + 1].tolist(), sum_ns)

    def _outcomes(self) -> npt.NDArray[np.int64]:
        """Counts [variants, outcomes]; the first outcome is OK."""
        return self._words[_OUTCOME:_LATENCY].reshape(len(VARIANTS), len(OUTCOMES))


class Scoreboard:
    """The whole board."""

    def __init__(self, segment: Segment, workers: int) -> None:
        self.segment = segment
        self.workers = workers
        self._table = np.frombuffer(segment.words, np.int64).reshape(workers, ROW)

    @classmethod
    def create(cls, path: Path, workers: int) -> "Scoreboard":
        return cls(Segment.create(path, workers * ROW, _LAYOUT), workers)

    @classmethod
    def attach(cls, path: Path, workers: int) -> "Scoreboard":
        return cls(Segment.attach(path, _LAYOUT), workers)

    def tally(self, worker: int, slot: int) -> Tally:
        """Where `worker` counts for the version in `slot`."""
        begin = worker * ROW + HEAD + slot * BLOCK
        return Tally(self.segment.words[begin : begin + BLOCK])

    def head(self, worker: int) -> "memoryview[int]":
        """The worker's own words: INFLIGHT (now), and what it has counted ever."""
        return self.segment.words[worker * ROW : worker * ROW + HEAD]

    def begin(self, worker: int) -> None:
        """A new process takes the worker's place: what was under way is no more."""
        self.head(worker)[INFLIGHT] = 0
        for slot in range(VERSIONS):
            self.segment.words[worker * ROW + HEAD + slot * BLOCK + _WAITING] = 0

    def total(self, word: int) -> int:
        """A word of the heads, added up over workers."""
        return int(self._table[:, word].sum())

    def totals(self, slot: int) -> Totals:
        """The version in `slot`, added up over workers."""
        return Totals(self._blocks(slot).sum(axis=0))

    def last_success_ns(self, slot: int) -> int:
        """When any worker last answered for the version, on the monotonic clock; 0: never."""
        return int(self._blocks(slot)[:, _LAST].max())

    def trip(self, worker: int, slot: int) -> str:
        """Why the worker's breaker last stopped the version in `slot`, one of TRIPS."""
        return TRIPS[int(self._blocks(slot)[worker, _TRIP])]

    def _blocks(self, slot: int) -> npt.NDArray[np.int64]:
        begin = HEAD + slot * BLOCK
        return self._table[:, begin : begin + BLOCK]
