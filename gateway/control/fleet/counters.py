"""A host's counters of a release as JSON, and what they have risen by over all hosts, for live metrics.

A host writes its counters as they are, so that no increase is lost with a message. But only increases are added up: a
log that appears, or whose settings become the reader's, holds all that its host has ever counted, weeks perhaps, which
must not look like the traffic of this moment.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final, NamedTuple

import numpy as np

from gateway.control.fleet.evidence import Log
from gateway.control.guards.window import FeedbackCounts, Sample
from gateway.shm.tally import BLOCK, Totals

NOTHING: Final = Sample(Totals(np.zeros(BLOCK, np.int64)), Totals(np.zeros(BLOCK, np.int64)))
NO_TOTALS: Final = Totals(np.zeros(BLOCK, np.int64))


class _Seen(NamedTuple):
    """The counters of a log that have been added up. `run`: see `counts_of`."""

    run: Any
    sample: Sample


class FleetSums:
    """Adds up what each host's counters have risen by since they were first read here."""

    def __init__(self) -> None:
        self._total = NOTHING
        self._settings = ""
        self._seen: dict[str, _Seen] = {}

    def take(self, logs: Mapping[str, Log], settings: str, versions: tuple[int, int]) -> Sample:
        """Take in the logs, and return the sums; gauges are those of now. What is read of a log for the first time is
        where its increases begin, also after it was not there, or its settings were not these. Raises ValueError if
        counters are damaged.
        """
        known = self._seen if settings == self._settings else {}
        seen: dict[str, _Seen] = {}
        rises = [replace(self._total, inflight=0, queue_depth=0)]
        for name, log in logs.items():
            now = sample_of(log.counts, versions) if log.settings == settings else None
            if now is not None:
                rise, seen[name] = _risen(_Seen(log.counts.get("run"), now), known.get(name))
                rises.append(rise)
        self._settings, self._seen, self._total = settings, seen, added(rises)
        return self._total


def _risen(now: _Seen, before: _Seen | None) -> tuple[Sample, _Seen]:
    """The increase, with the gauges of now, and from where to go on."""
    if before is None or before.run != now.run:
        return _difference(now.sample, now.sample), now
    rise = _difference(now.sample, before.sample)
    if _has_negative(rise):  # an older record, from a store that has lost data
        return _difference(now.sample, now.sample), before
    return rise, now


def counts_of(sample: Sample, versions: tuple[int, int], run: int = 0) -> dict[str, Any]:
    """The counters, of which most are 0, with the layout and the `versions` (stable, candidate) that they belong to.
    Within a `run` of a log they never fall.
    """
    return {
        "versions": [BLOCK, *versions],
        "run": run,
        "stable": _sparse(sample.stable),
        "candidate": _sparse(sample.candidate or NO_TOTALS),
        "feedback": [_numbers(sample.stable_feedback), _numbers(sample.candidate_feedback)],
        "gauges": [sample.inflight, sample.queue_depth],
    }


def sample_of(counts: Mapping[str, Any], versions: tuple[int, int]) -> Sample | None:
    """The counters; None if they are those of other versions, or of a gateway that counts other things. Raises
    ValueError if they are damaged.
    """
    if not counts or counts.get("versions") != [BLOCK, *versions]:
        return None
    try:
        inflight, queue_depth = map(int, counts["gauges"])
        stable, candidate = (_feedback(numbers) for numbers in counts["feedback"])
        return Sample(
            _dense(counts["stable"]), _dense(counts["candidate"]), stable, candidate, inflight, queue_depth
        )  # fmt: skip
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError) as error:
        raise ValueError(f"a host's counters are damaged ({type(error).__name__}: {error})") from None


def added(samples: Iterable[Sample]) -> Sample:
    """Their sums."""
    total = NOTHING
    for one in samples:
        total = Sample(
            total.stable + one.stable,
            (total.candidate or NO_TOTALS) + (one.candidate or NO_TOTALS),
            total.stable_feedback.plus(one.stable_feedback),
            total.candidate_feedback.plus(one.candidate_feedback),
            total.inflight + one.inflight,
            total.queue_depth + one.queue_depth,
        )
    return total


def _difference(sample: Sample, before: Sample) -> Sample:
    """The counters since `before`; gauges as they are."""
    return Sample(
        Totals(sample.stable.words - before.stable.words),
        Totals((sample.candidate or NO_TOTALS).words - (before.candidate or NO_TOTALS).words),
        sample.stable_feedback.since(before.stable_feedback),
        sample.candidate_feedback.since(before.candidate_feedback),
        sample.inflight,
        sample.queue_depth,
    )


def has_fallen(now: Sample, before: Sample) -> bool:
    """Whether a counter is lower than it was: differences mean nothing then."""
    rise = _difference(now, before)
    stable, candidate = (Totals(totals.evidence) for totals in (rise.stable, rise.candidate or NO_TOTALS))
    return _has_negative(replace(rise, stable=stable, candidate=candidate))


def _has_negative(rise: Sample) -> bool:
    feedback = rise.stable_feedback, rise.candidate_feedback
    return any(int(totals.words.min()) < 0 for totals in (rise.stable, rise.candidate or NO_TOTALS)) or any(
        min(part.labelled, part.rewarded, *(count for count, _ in part.outcomes.values())) < 0 for part in feedback
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


def _numbers(counts: FeedbackCounts) -> list[Any]:
    """Four numbers, and after them the outcomes by name if there are any, which earlier gateways have not."""
    numbers: list[Any] = [counts.labelled, counts.correct, counts.rewarded, counts.reward_sum]
    return [*numbers, dict(counts.outcomes)] if counts.outcomes else numbers


def _feedback(numbers: list[Any]) -> FeedbackCounts:
    *four, found = numbers if len(numbers) == 5 else [*numbers, {}]
    if len(four) != 4 or any(type(number) not in (int, float) for number in four):
        raise TypeError(f"{numbers!s:.80} are not four numbers")
    outcomes = {str(name): (int(count), float(total)) for name, (count, total) in found.items()}
    return FeedbackCounts(four[0], four[1], four[2], four[3], outcomes)
