"""Live metrics over sliding windows: rates and quantiles from differences of monotonic counters.

For each window, samples of the counters are kept, at most 60 per window and four per second. So a window ends now and
begins up to 1/60 of its length (or a quarter of a second) too early.
"""

import math
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

import numpy as np
import numpy.typing as npt

from gateway.errors import request_counts
from gateway.settings.metric_names import COMPLAINTS
from gateway.shm.latency import LATENCY_NS
from gateway.shm.tally import Totals

SAMPLES_PER_WINDOW: Final = 60  # samples per window
MIN_SAMPLE_INTERVAL_S: Final = 0.25  # between two of them
UNCOUNTED_RESCUES: Final = ("stopped", "excused")  # rescue reasons that do not count against the candidate
_QUANTILES: Final = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95, "latency_p99_ms": 0.99}
_MIDDLES_MS: Final = np.array(
    [LATENCY_NS[0], *(math.sqrt(low * high) for low, high in pairwise(LATENCY_NS)), LATENCY_NS[-1]]
) / 1e6  # fmt: skip


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """Feedback counters of one version: predictions with a known truth (`labelled`) or with a reward (`rewarded`), and
    the count and sum of other `outcomes` that are asked for, by name; of COMPLAINTS the sum alone: of predictions.
    """

    labelled: int = 0
    correct: int = 0
    rewarded: int = 0
    reward_sum: float = 0.0
    outcomes: Mapping[str, tuple[int, float]] = field(default_factory=dict)

    def since(self, before: "FeedbackCounts") -> "FeedbackCounts":
        """Return the difference from the earlier counters `before`, with the outcomes that both have."""
        pairs = [(name, one, before.outcomes[name]) for name, one in self.outcomes.items() if name in before.outcomes]
        return FeedbackCounts(
            self.labelled - before.labelled,
            self.correct - before.correct,
            self.rewarded - before.rewarded,
            self.reward_sum - before.reward_sum,
            {name: (one[0] - other[0], one[1] - other[1]) for name, one, other in pairs},
        )

    def plus(self, other: "FeedbackCounts") -> "FeedbackCounts":
        """Return the sum, with the outcomes that one of them has."""
        outcomes = dict(self.outcomes)
        for name, (count, total) in other.outcomes.items():
            before = outcomes.get(name, (0, 0.0))
            outcomes[name] = before[0] + count, before[1] + total
        return FeedbackCounts(
            self.labelled + other.labelled,
            self.correct + other.correct,
            self.rewarded + other.rewarded,
            self.reward_sum + other.reward_sum,
            outcomes,
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """The counters of a release at one moment. `candidate` is None if there is none."""

    stable: Totals
    candidate: Totals | None
    stable_feedback: FeedbackCounts = FeedbackCounts()
    candidate_feedback: FeedbackCounts = FeedbackCounts()
    inflight: int = 0
    queue_depth: int = 0


@dataclass(frozen=True, slots=True)
class Reading:
    """The value of a metric, None if unknown, and the number of requests (or items of feedback) behind it."""

    value: float | None
    count: int


UNKNOWN_READING: Final = Reading(None, 0)


@dataclass(frozen=True, slots=True)
class _Counts:
    """One variant's counters. `requests` leaves out outcomes that do not count, `rescued` the reasons in
    UNCOUNTED_RESCUES. `compared`: mirrored requests that both versions answered, `disagreed`: of these.
    """

    requests: int
    failed: int
    rescued: int
    compared: int
    disagreed: int
    latency: npt.NDArray[np.int64]
    feedback: FeedbackCounts

    @classmethod
    def of(cls, variant: str, totals: Totals, feedback: FeedbackCounts) -> "_Counts":
        requests, failed = request_counts(totals.outcomes(variant))
        rescued = sum(count for reason, count in totals.rescues.items() if reason not in UNCOUNTED_RESCUES)
        agreed, disagreed = totals.mirrored["agree"], totals.mirrored["disagree"]
        latency = totals.latency_counts(variant).copy()
        return cls(requests, failed, rescued, agreed + disagreed, disagreed, latency, feedback)


_TimedCounts = tuple[float, dict[str, _Counts], dict[str, int]]  # s, by variant, gauges by name


class MetricWindow:
    """Samples of one release's counters for windows of the lengths `windows_s`. All times are on a monotonic clock."""

    def __init__(self, windows_s: Iterable[float]) -> None:
        self._samples: dict[float, deque[_TimedCounts]] = {window_s: deque() for window_s in windows_s}
        self._latest: _TimedCounts = (-math.inf, {}, {})

    def keep_windows(self, windows_s: Iterable[float]) -> None:
        """Keep these windows from now on, with the samples of those that were kept before. Called after an edit."""
        self._samples = {window_s: self._samples.get(window_s, deque()) for window_s in windows_s}

    def sample(self, now_s: float, sample: Sample) -> None:
        """Take in the present counters. Called at each tick."""
        counts = {"stable": _Counts.of("stable", sample.stable, sample.stable_feedback)}
        if sample.candidate is not None:
            counts["candidate"] = _Counts.of("candidate", sample.candidate, sample.candidate_feedback)
        self._latest = now_s, counts, {"inflight": sample.inflight, "queue_depth": sample.queue_depth}
        for window_s, past in self._samples.items():
            if not past or now_s - past[-1][0] >= max(MIN_SAMPLE_INTERVAL_S, window_s / SAMPLES_PER_WINDOW):
                past.append(self._latest)
            while len(past) > 1 and past[1][0] <= now_s - window_s:
                past.popleft()

    def read(self, metric: str, window_s: float, since_s: float = -math.inf) -> Reading:
        """Return a metric such as `candidate.error_rate` over one of the windows, ignoring samples before `since_s`."""
        part, _, name = metric.partition(".")
        moments = [moment for moment in self._samples[window_s] if moment[0] >= since_s]
        if not moments:
            return UNKNOWN_READING
        if part == "gateway":
            values = [gauges[name] for _, _, gauges in moments]
            return Reading(sum(values) / len(values), len(values))
        begin_s, then, _ = moments[0]
        now_s, now, _ = self._latest
        if part not in then or part not in now:
            return UNKNOWN_READING
        return _reading(name, then[part], now[part], now_s - begin_s)


def quantile_ms(counts: npt.NDArray[np.int64], share: float) -> float | None:
    """Return the latency quantile `share` in ms, within 5% from 20 µs to 60 s; None without requests."""
    cumulated = np.cumsum(counts)
    if not cumulated[-1]:
        return None
    rank = max(1, math.ceil(share * int(cumulated[-1])))
    return float(_MIDDLES_MS[int(np.searchsorted(cumulated, rank))])


def _reading(name: str, then: _Counts, now: _Counts, elapsed_s: float) -> Reading:
    """Compute the metric `name` from one variant's counters at the window's two ends."""
    failed = now.failed - then.failed
    requests = now.requests - then.requests
    feedback = now.feedback.since(then.feedback)
    match name:
        case "error_rate":
            return _ratio(failed, requests)
        case "rescue_rate":
            return _ratio(now.rescued - then.rescued, requests)
        case "mirror_disagreement":
            return _ratio(now.disagreed - then.disagreed, now.compared - then.compared)
        case "complaint_rate":
            _, complaints = feedback.outcomes.get(COMPLAINTS, (0, 0.0))
            return _ratio(complaints, requests)
        case "requests_per_s":
            return Reading(requests / elapsed_s, requests) if elapsed_s > 0 else UNKNOWN_READING
        case "accuracy":
            return _ratio(feedback.correct, feedback.labelled)
        case "reward_mean":
            return _ratio(feedback.reward_sum, feedback.rewarded)
        case _ if name not in _QUANTILES:
            count, total = feedback.outcomes.get(name, (0, 0.0))
            return _ratio(total, count)
        case _:
            latency = now.latency - then.latency
            return Reading(quantile_ms(latency, _QUANTILES[name]), int(latency.sum()))


def _ratio(part: float, whole: int) -> Reading:
    return Reading(part / whole, whole) if whole else UNKNOWN_READING
