"""A host's counters of a release as JSON, and their sums over hosts: samples that live metrics are computed from."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import numpy as np

from gateway.control.guards.window import FeedbackCounts, Sample
from gateway.shm.tally import BLOCK, Totals

NOTHING: Final = Sample(Totals(np.zeros(BLOCK, np.int64)), Totals(np.zeros(BLOCK, np.int64)))
NO_TOTALS: Final = Totals(np.zeros(BLOCK, np.int64))


def counts_of(sample: Sample, versions: tuple[int, int]) -> dict[str, Any]:
    """The counters, of which most are 0, with the `versions` (stable, candidate) that they belong to."""
    return {
        "versions": list(versions),
        "stable": _sparse(sample.stable),
        "candidate": _sparse(sample.candidate or NO_TOTALS),
        "feedback": [_numbers(sample.stable_feedback), _numbers(sample.candidate_feedback)],
        "gauges": [sample.inflight, sample.queue_depth],
    }


def sample_of(counts: Mapping[str, Any], versions: tuple[int, int]) -> Sample:
    """The counters; none if they are those of other versions. Raises ValueError if they are damaged."""
    if not counts or counts.get("versions") != list(versions):
        return NOTHING
    try:
        inflight, queue_depth = map(int, counts["gauges"])
        stable, candidate = (_feedback(numbers) for numbers in counts["feedback"])
        return Sample(
            _dense(counts["stable"]), _dense(counts["candidate"]), stable, candidate, inflight, queue_depth
        )  # fmt: skip
    except (KeyError, TypeError, IndexError, OverflowError) as error:
        raise ValueError(f"a host's counters are damaged ({type(error).__name__}: {error})") from None


def added(samples: Iterable[Sample]) -> Sample:
    """The sums over hosts."""
    total = NOTHING
    for one in samples:
        total = Sample(
            total.stable + one.stable,
            (total.candidate or NO_TOTALS) + (one.candidate or NO_TOTALS),
            _sum(total.stable_feedback, one.stable_feedback),
            _sum(total.candidate_feedback, one.candidate_feedback),
            total.inflight + one.inflight,
            total.queue_depth + one.queue_depth,
        )
    return total


def difference(sample: Sample, before: Sample) -> Sample:
    """The counters since `before`; gauges as they are."""
    return Sample(
        Totals(sample.stable.words - before.stable.words),
        Totals((sample.candidate or NO_TOTALS).words - (before.candidate or NO_TOTALS).words),
        sample.stable_feedback.since(before.stable_feedback),
        sample.candidate_feedback.since(before.candidate_feedback),
        sample.inflight,
        sample.queue_depth,
    )


def without_gauges(sample: Sample) -> Sample:
    """What remains of the counters of a host that is gone."""
    return Sample(sample.stable, sample.candidate, sample.stable_feedback, sample.candidate_feedback)


def has_fallen(now: Sample, before: Sample) -> bool:
    """Whether a counter is lower than it was, as after a loss of the store's data: differences mean nothing then."""
    pairs = (now.stable, before.stable), (now.candidate or NO_TOTALS, before.candidate or NO_TOTALS)
    feedback = (now.stable_feedback, before.stable_feedback), (now.candidate_feedback, before.candidate_feedback)
    return any(bool((a.words < b.words).any()) for a, b in pairs) or any(
        a.labelled < b.labelled or a.rewarded < b.rewarded for a, b in feedback
    )


def _sparse(totals: Totals) -> list[list[int]]:
    words = totals.evidence
    there = np.flatnonzero(words)
    return [there.tolist(), words[there].tolist()]


def _dense(sparse: list[list[int]]) -> Totals:
    words = np.zeros(BLOCK, np.int64)
    indices, values = sparse
    if len(indices) != len(values) or min(indices, default=0) < 0:
        raise ValueError("a host's counters are damaged")
    words[np.array(indices, np.int64)] = values
    return Totals(words)


def _numbers(counts: FeedbackCounts) -> list[float]:
    return [counts.labelled, counts.correct, counts.rewarded, counts.reward_sum]


def _feedback(numbers: list[Any]) -> FeedbackCounts:
    if len(numbers) != 4 or any(type(number) not in (int, float) for number in numbers):
        raise TypeError(f"{numbers!s:.80} are not four numbers")
    return FeedbackCounts(*numbers)


def _sum(one: FeedbackCounts, other: FeedbackCounts) -> FeedbackCounts:
    return FeedbackCounts(
        one.labelled + other.labelled,
        one.correct + other.correct,
        one.rewarded + other.rewarded,
        one.reward_sum + other.reward_sum,
    )
