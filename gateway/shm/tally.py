"""One version's counters: a worker counts on a Tally, and all workers' together are read as Totals.

Counters are on the hot path, hence plain words and no objects.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.errors import Outcome
from gateway.shm.latency import EXPORTED_NS, LATENCY_NS, Histogram
from gateway.shm.underway import Underway

OUTCOMES: Final = tuple(Outcome)
VARIANTS: Final = ("stable", "candidate", "pinned")
RESCUE_REASONS: Final = ("model_error", "invalid_output", "timeout", "overloaded", "stopped", "excused")
TRIPS: Final = ("", "failures in a row", "requests in a row without an answer")  # what a breaker has found
UNANSWERED: Final = 10  # requests in a row without an answer that are such a finding, whoever is to blame for each
MIRRORED: Final = ("agree", "disagree", "failed", "dropped")
CLASSES: Final = 64  # predicted classes counted one by one; those beyond count as the last
STRATA: Final = 9  # the first routes, one by one, where chance decides on them; the last: all other traffic
UNSTRATIFIED: Final = STRATA - 1
LARGEST_BATCH: Final = 128  # larger ones are counted as this
BUCKETS: Final = len(LATENCY_NS) + 1
_QUEUE_BUCKETS: Final = len(EXPORTED_NS) + 1

OUTCOME: Final = 0
LATENCY: Final = OUTCOME + len(VARIANTS) * len(OUTCOMES)
_SUCCESS_NS: Final = LATENCY + len(VARIANTS) * BUCKETS
_FAIL_NS: Final = _SUCCESS_NS + len(VARIANTS)
_QUEUE: Final = _FAIL_NS + len(VARIANTS)
_QUEUE_SUM: Final = _QUEUE + _QUEUE_BUCKETS
_ROWS: Final = _QUEUE_SUM + 1
LAST: Final = _ROWS + 1
_UNSPLIT: Final = LAST + 1
TRIP: Final = _UNSPLIT + 1
_RESCUE: Final = TRIP + 1
WAITING: Final = _RESCUE + len(RESCUE_REASONS)
_MIRROR: Final = WAITING + 1
_CLASS: Final = _MIRROR + len(MIRRORED)
_BATCH: Final = _CLASS + STRATA * CLASSES  # count, ns for each size from 1 on
HELD: Final = _BATCH + 2 * LARGEST_BATCH  # how many objects of the worker may still count here
RUNNING: Final = HELD + 1  # of a candidate: runs under way in the worker's threads
BLOCK: Final = RUNNING + 1
_VARIANT_WORDS: Final = {  # where a variant's outcomes and latencies begin, and where its index stands
    variant: (OUTCOME + index * len(OUTCOMES), LATENCY + index * BUCKETS, index)
    for index, variant in enumerate(VARIANTS)
}
_OUTCOME_INDEX: Final = {outcome: index for index, outcome in enumerate(OUTCOMES)}


class Tally:
    """The counters of one version in one worker. Durations in ns."""

    __slots__ = ("__weakref__", "_words")

    def __init__(self, words: "memoryview[int] | None" = None) -> None:
        self._words = memoryview(array("q", bytes(8 * BLOCK))) if words is None else words

    def success(self, variant: str, ns: int, ended_ns: int) -> None:
        """One request answered with a prediction, after `ns`, at `ended_ns` on the monotonic clock."""
        words = self._words
        outcomes, latency, index = _VARIANT_WORDS[variant]
        words[outcomes] += 1
        words[latency + bisect_left(LATENCY_NS, ns)] += 1
        words[_SUCCESS_NS + index] += ns
        words[LAST] = ended_ns

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
        self._words[TRIP] = TRIPS.index(trip)

    def waiting(self, change: int) -> None:
        """So many requests more wait for their batch."""
        self._words[WAITING] += change

    def mirrored(self, agreement: str) -> None:
        """One mirrored request: what came of the comparison with stable."""
        self._words[_MIRROR + MIRRORED.index(agreement)] += 1

    def classified(self, stratum: int, classes: Sequence[int]) -> None:
        """Rows for which the version has predicted these classes (below 0: none), of traffic in `stratum`."""
        words, first = self._words, _CLASS + stratum * CLASSES
        for index in classes:
            if index >= 0:
                words[first + (index if index < CLASSES else CLASSES - 1)] += 1

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

    def underway(self) -> Underway:
        """What notes a candidate's runs, in its threads: those that a worker dies in are found here."""
        return Underway(self._words, RUNNING)

    def read(self) -> "Totals":
        """What has been counted here."""
        return Totals(np.array(self._words, np.int64))


class Totals:
    """The counters of one version, added up over workers."""

    __slots__ = ("_words",)

    def __init__(self, words: npt.NDArray[np.int64]) -> None:
        self._words = words

    def outcomes(self, variant: str) -> dict[Outcome, int]:
        first = OUTCOME + VARIANTS.index(variant) * len(OUTCOMES)
        return dict(zip(OUTCOMES, map(int, self._words[first : first + len(OUTCOMES)]), strict=True))

    def latency(self, variant: str) -> Histogram:
        index = VARIANTS.index(variant)
        sum_ns = int(self._words[_SUCCESS_NS + index] + self._words[_FAIL_NS + index])
        return self._histogram(LATENCY + index * BUCKETS, LATENCY_NS, sum_ns)

    def latency_counts(self, variant: str) -> npt.NDArray[np.int64]:
        """The counts of `latency` alone."""
        first = LATENCY + VARIANTS.index(variant) * BUCKETS
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
        return dict(zip(RESCUE_REASONS, map(int, self._words[_RESCUE:WAITING]), strict=True))

    @property
    def unsplit(self) -> int:
        """Requests that had too little time to be given to this version, and so went to stable undrawn."""
        return int(self._words[_UNSPLIT])

    @property
    def waiting(self) -> int:
        """Requests that wait for their batch now."""
        return int(self._words[WAITING])

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
        pairs = self._words[_BATCH:HELD].reshape(-1, 2).tolist()
        return {size: (count, ns) for size, (count, ns) in enumerate(pairs, 1) if count}

    def last_success_ns(self) -> int:
        """On the monotonic clock; 0: never. Of one worker only: of several, the sum means nothing."""
        return int(self._words[LAST])

    def settled(self, last_success_ns: int) -> "Totals":
        """As of a version that no one is asking, without what must not be added up over workers."""
        words = self._words.copy()
        words[[WAITING, HELD, RUNNING, TRIP]] = 0
        words[LAST] = last_success_ns
        return Totals(words)

    @property
    def words(self) -> npt.NDArray[np.int64]:
        """All of them, as they stand in one worker's block."""
        return self._words

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(self._words + other._words)

    def _histogram(self, first: int, edges_ns: Sequence[int], sum_ns: int) -> Histogram:
        return Histogram(edges_ns, self._words[first : first + len(edges_ns) + 1].tolist(), sum_ns)

    def _outcomes(self) -> npt.NDArray[np.int64]:
        """Counts [variants, outcomes]; the first outcome is OK."""
        return self._words[OUTCOME:LATENCY].reshape(len(VARIANTS), len(OUTCOMES))
