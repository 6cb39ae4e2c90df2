"""One version's counters: each worker increments them through a Tally; the sum over workers is read as Totals.

Counters are on the hot path, so they are plain words in shared memory, not objects.
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
RESCUE_REASONS: Final = (
    "model_error",
    "invalid_output",
    "timeout",
    "overloaded",
    "crashed",
    "unavailable",
    "stopped",
    "excused",
)
TRIPS: Final = ("", "failures in a row", "requests in a row without an answer")  # reasons of breaker trips
UNANSWERED: Final = 10  # unanswered requests in a row that trip the breaker, whatever caused each
MIRRORED: Final = ("agree", "disagree", "failed", "dropped")
CLASSES: Final = 64  # predicted classes counted individually; those beyond count as the last
MANY_ROWS: Final = 500  # from here on numpy counts them faster, of a million rows in a tenth of the time
STRATA: Final = 9  # the first routes' randomised traffic, one stratum each; the last stratum: all other traffic
UNSTRATIFIED: Final = STRATA - 1
LARGEST_BATCH: Final = 128  # larger batches count as this size
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
HELD: Final = _BATCH + 2 * LARGEST_BATCH  # objects of the worker that may still count here
RUNNING: Final = HELD + 1  # of a candidate: runs under way in the worker's threads
BLOCK: Final = RUNNING + 1  # words of Totals: hosts of a fleet compare their layout by it
_EPOCH: Final = BLOCK  # of a candidate: the epoch of the next two, and behind them what only `Tally` and the board use
_RANDOMISED: Final = _EPOCH + 1  # predictions of stable, then of the candidate
SPAN: Final = _RANDOMISED + 2
_VARIANT_WORDS: Final = {  # first word of a variant's outcomes and of its latencies, and its index
    variant: (OUTCOME + index * len(OUTCOMES), LATENCY + index * BUCKETS, index)
    for index, variant in enumerate(VARIANTS)
}
_OUTCOME_INDEX: Final = {outcome: index for index, outcome in enumerate(OUTCOMES)}


class Tally:
    """The counters of one version in one worker, in the shared `words` or in private memory. Durations in ns."""

    __slots__ = ("__weakref__", "_words")

    def __init__(self, words: "memoryview[int] | None" = None) -> None:
        self._words = memoryview(array("q", bytes(8 * SPAN))) if words is None else words

    def success(self, variant: str, ns: int, ended_ns: int) -> None:
        """Count a request answered with a prediction after `ns`, at `ended_ns` on the monotonic clock."""
        words = self._words
        outcomes, latency, index = _VARIANT_WORDS[variant]
        words[outcomes] += 1
        words[latency + bisect_left(LATENCY_NS, ns)] += 1
        words[_SUCCESS_NS + index] += ns
        words[LAST] = ended_ns

    def failure(self, variant: str, outcome: Outcome, ns: int) -> None:
        """Count a request sent to this version that ended with `outcome` instead of a prediction, after `ns`."""
        words = self._words
        outcomes, latency, index = _VARIANT_WORDS[variant]
        words[outcomes + _OUTCOME_INDEX[outcome]] += 1
        words[latency + bisect_left(LATENCY_NS, ns)] += 1
        words[_FAIL_NS + index] += ns

    def rescue(self, reason: str) -> None:
        """Count a request that stable answered in this version's place, for one of RESCUE_REASONS."""
        self._words[_RESCUE + RESCUE_REASONS.index(reason)] += 1

    def unsplit(self) -> None:
        """Count a request whose deadline was too short to send it to this version."""
        self._words[_UNSPLIT] += 1

    def tripped(self, trip: str) -> None:
        """Note the reason, one of TRIPS, for which a breaker is about to stop this version."""
        self._words[TRIP] = TRIPS.index(trip)

    def waiting(self, change: int) -> None:
        """Add `change` to the number of requests that wait for their batch."""
        self._words[WAITING] += change

    def mirrored(self, agreement: str) -> None:
        """Count a mirrored request by the result of the comparison with stable, one of MIRRORED."""
        self._words[_MIRROR + MIRRORED.index(agreement)] += 1

    def classified(self, stratum: int, classes: Sequence[int]) -> None:
        """Count one row of traffic in `stratum` for each predicted class in `classes` (below 0: no class)."""
        words, first = self._words, _CLASS + stratum * CLASSES
        if len(classes) > MANY_ROWS:
            indices = np.asarray(classes)
            counts = np.bincount(np.minimum(indices[indices >= 0], CLASSES - 1), minlength=CLASSES).tolist()
            for index, count in enumerate(counts):
                words[first + index] += count
            return
        for index in classes:
            if index >= 0:
                words[first + (index if index < CLASSES else CLASSES - 1)] += 1

    def randomised(self, epoch: int, candidate: bool) -> None:
        """Count a prediction of this candidate's release that was assigned at random in `epoch`, by whose it is."""
        words = self._words
        if words[_EPOCH] != epoch:
            if words[_EPOCH] > epoch:  # it was under way when its epoch ended
                return
            words[_RANDOMISED] = words[_RANDOMISED + 1] = 0  # first: control reads meanwhile
            words[_EPOCH] = epoch
        words[_RANDOMISED + candidate] += 1

    def queued(self, ns: int) -> None:
        """Count a request that has waited `ns` for its batch."""
        words = self._words
        words[_QUEUE + bisect_left(EXPORTED_NS, ns)] += 1
        words[_QUEUE_SUM] += ns

    def batch(self, rows: int, batch_size: int, ns: int) -> None:
        """Count a run of the model on `rows` rows under `batch_size`, capped at LARGEST_BATCH: clients choose rows."""
        words = self._words
        words[_ROWS] += rows
        at = _BATCH + 2 * (min(max(batch_size, 1), LARGEST_BATCH) - 1)
        words[at] += 1
        words[at + 1] += ns

    def single(self, ns: int) -> None:
        """Count a run of the model on one row: the same as `batch(1, 1, ns)`, for the most common case."""
        words = self._words
        words[_ROWS] += 1
        words[_BATCH] += 1
        words[_BATCH + 1] += ns

    def underway(self) -> Underway:
        """Return a context that counts the candidate's runs in progress, so that runs in which a worker dies show."""
        return Underway(self._words, RUNNING)

    def read(self) -> "Totals":
        """Return a copy of this worker's counters."""
        return Totals(np.array(self._words[:BLOCK], np.int64))


def randomised_in(epoch: int, words: npt.NDArray[np.int64]) -> tuple[int, int]:
    """The predictions, stable's and the candidate's, that `Tally.randomised` has counted in this epoch. `words`: those
    of each worker, [workers, SPAN].
    """
    stable, candidate = words[words[:, _EPOCH] == epoch, _RANDOMISED:].sum(axis=0).tolist()
    return stable, candidate


class Totals:
    """The counters of one version, added up over workers. Durations in ns."""

    __slots__ = ("_words",)

    def __init__(self, words: npt.NDArray[np.int64]) -> None:
        self._words = words

    def outcomes(self, variant: str) -> dict[Outcome, int]:
        """Requests in this variant, by outcome."""
        first = OUTCOME + VARIANTS.index(variant) * len(OUTCOMES)
        return dict(zip(OUTCOMES, map(int, self._words[first : first + len(OUTCOMES)]), strict=True))

    def latency(self, variant: str) -> Histogram:
        """Latencies of successes and failures in this variant."""
        index = VARIANTS.index(variant)
        sum_ns = int(self._words[_SUCCESS_NS + index] + self._words[_FAIL_NS + index])
        return self._histogram(LATENCY + index * BUCKETS, LATENCY_NS, sum_ns)

    def latency_counts(self, variant: str) -> npt.NDArray[np.int64]:
        """The bucket counts of `latency`, without copying."""
        first = LATENCY + VARIANTS.index(variant) * BUCKETS
        return self._words[first : first + BUCKETS]

    @property
    def queue(self) -> Histogram:
        """Times that requests have waited for their batch."""
        return self._histogram(_QUEUE, EXPORTED_NS, int(self._words[_QUEUE_SUM]))

    @property
    def success(self) -> tuple[int, int]:
        """Number of successes over all variants, and their total time in ns."""
        return int(self._outcomes()[:, 0].sum()), int(self._words[_SUCCESS_NS:_FAIL_NS].sum())

    @property
    def fail(self) -> tuple[int, int]:
        """Number of failures over all variants, and their total time in ns."""
        return int(self._outcomes()[:, 1:].sum()), int(self._words[_FAIL_NS:_QUEUE].sum())

    @property
    def rows(self) -> int:
        """Rows on which the model has run."""
        return int(self._words[_ROWS])

    @property
    def rescues(self) -> dict[str, int]:
        """Requests that stable answered in this version's place, by reason."""
        return dict(zip(RESCUE_REASONS, map(int, self._words[_RESCUE:WAITING]), strict=True))

    @property
    def unsplit(self) -> int:
        """Requests with too short a deadline for this version, which went to stable without being randomised."""
        return int(self._words[_UNSPLIT])

    @property
    def waiting(self) -> int:
        """Requests that are waiting for their batch."""
        return int(self._words[WAITING])

    @property
    def mirrored(self) -> dict[str, int]:
        """Mirrored requests, by result."""
        return dict(zip(MIRRORED, map(int, self._words[_MIRROR:_CLASS]), strict=True))

    @property
    def classes(self) -> npt.NDArray[np.int64]:
        """Predicted classes as counts [strata, classes]."""
        return self._words[_CLASS:_BATCH].reshape(STRATA, CLASSES)

    @property
    def batches(self) -> dict[int, tuple[int, int]]:
        """For each batch size that has occurred: number of runs, and their total time in ns."""
        pairs = self._words[_BATCH:HELD].reshape(-1, 2).tolist()
        return {size: (count, ns) for size, (count, ns) in enumerate(pairs, 1) if count}

    def last_success_ns(self) -> int:
        """Time of the last success on the monotonic clock, 0: never. Only for one worker: a sum over several is
        meaningless.
        """
        return int(self._words[LAST])

    def settled(self, last_success_ns: int) -> "Totals":
        """Return a copy as for an idle version: gauges are 0, and the last success is as given."""
        words = self._words.copy()
        words[[WAITING, HELD, RUNNING, TRIP]] = 0
        words[LAST] = last_success_ns
        return Totals(words)

    @property
    def words(self) -> npt.NDArray[np.int64]:
        """All words, in the layout of one worker's block."""
        return self._words

    @property
    def evidence(self) -> npt.NDArray[np.int64]:
        """A copy of the words with only what live metrics and guards read: outcomes, latencies, rescues, mirrored
        requests, classes.
        """
        words = np.zeros_like(self._words)
        for part in (slice(OUTCOME, _SUCCESS_NS), slice(_RESCUE, WAITING), slice(_MIRROR, _BATCH)):
            words[part] = self._words[part]
        return words

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(self._words + other._words)

    def _histogram(self, first: int, edges_ns: Sequence[int], sum_ns: int) -> Histogram:
        return Histogram(edges_ns, self._words[first : first + len(edges_ns) + 1].tolist(), sum_ns)

    def _outcomes(self) -> npt.NDArray[np.int64]:
        """Counts [variants, outcomes]; the first outcome is OK."""
        return self._words[OUTCOME:LATENCY].reshape(len(VARIANTS), len(OUTCOMES))
