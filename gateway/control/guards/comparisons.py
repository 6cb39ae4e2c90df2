"""The statistical comparisons of a candidate with stable: each one's evidence, and the combined assessment of all."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Final

from gateway.control.guards.drift import Drift
from gateway.control.guards.evidence import (
    FAILURE_RATIOS,
    FEEDBACK_RATIOS,
    PAIRED_SHARE,
    Ratios,
    alpha_of,
    log_combined,
    reached,
)
from gateway.control.guards.failure_counts import FailureCounts
from gateway.control.guards.observation import FeedbackEvent, Observation
from gateway.records.token import EPOCH_MARKS, epoch_mark
from gateway.routing.buckets import BUCKETS
from gateway.settings.guards import Action, ComparisonSettings, GuardsSettings
from gateway.shm.failure_events import FailureKind
from gateway.shm.switchboard import FIRST_EPOCH

RATIOS: Final[Mapping[str, Ratios]] = {
    "failures": FAILURE_RATIOS,
    "slow_requests": FAILURE_RATIOS,
    "wrong_feedback": FEEDBACK_RATIOS,
    "mirror_disagreement": FEEDBACK_RATIOS,
}
HARM_TEXTS: Final = {
    "failures": "the candidate fails more often than stable",
    "slow_requests": "the candidate is slow more often than stable",
    "wrong_feedback": "the candidate is wrong more often than stable, according to feedback",
    "mirror_disagreement": "where the two disagree on the same input, the candidate is wrong more often",
    "predicted_class": "the candidate's distribution of predicted classes differs from stable's",
}
FAILURES: Final = ComparisonSettings(name="failures", metric="failures")


FailureIterator = Iterator[tuple[int, bool, int | None]]  # weight in ppm, whether it was the candidate's, sticky key


def _failures(kind: FailureKind) -> Callable[[Observation, int], FailureIterator]:
    def failures(seen: Observation, epoch_began_ns: int) -> FailureIterator:
        for event in seen.failures:
            if event.kind == kind and event.epoch == seen.epoch:
                yield event.weight_ppm, event.candidate, event.key

    return failures


def _wrong(seen: Observation, epoch_began_ns: int) -> FailureIterator:
    for event in seen.feedback:
        if event.outcomes.get("wrong") and _is_of_epoch(event, seen, epoch_began_ns):
            yield event.weight_ppm, event.candidate, event.key


def _is_of_epoch(event: FeedbackEvent, seen: Observation, epoch_began_ns: int) -> bool:
    """Whether the prediction was decided in the present epoch, by its mark; without a mark, or with one of another
    gateway that shares our keys, by the decision's time.
    """
    if event.mark == epoch_mark(seen.epoch):
        return True
    return event.mark not in earlier_marks(seen.epoch) and event.decided_ns >= epoch_began_ns


@lru_cache
def earlier_marks(epoch: int) -> frozenset[int]:
    """The marks of earlier epochs, as many as can be told apart from this one's."""
    return frozenset(epoch_mark(former) for former in range(max(FIRST_EPOCH, epoch - EPOCH_MARKS + 1), epoch))


def _disagreed(seen: Observation, epoch_began_ns: int) -> FailureIterator:
    for pair in seen.pairs:
        if pair.candidate_wrong != pair.stable_wrong and pair.mark not in earlier_marks(seen.epoch):
            yield round(PAIRED_SHARE * BUCKETS), pair.candidate_wrong, None


FAILURES_BY_METRIC: Final[Mapping[str, Callable[[Observation, int], FailureIterator]]] = {
    "failures": _failures(FailureKind.FAILURE),
    "slow_requests": _failures(FailureKind.SLOW),
    "wrong_feedback": _wrong,
    "mirror_disagreement": _disagreed,
}


class GuardVerdict(StrEnum):
    """A comparison's verdict on the candidate. Missing data is never evidence.

    For predicted classes, DIFFERENT takes the place of HARMFUL: a difference does not say which version is better.
    """

    NO_DATA = "no-data"
    INCONCLUSIVE = "inconclusive"
    SAFE = "safe"
    HARMFUL = "harmful"
    DIFFERENT = "different"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparisonResult:
    """The result of one comparison. `share` is its part of alpha; 0 if it is not configured and so triggers nothing.

    `log_e` (harm) and `log_safe` (safety) are natural logarithms of e-values. `log_safe` is None for predicted classes,
    which are never proved safe.
    """

    name: str
    metric: str
    action: Action
    share: float
    verdict: GuardVerdict
    log_e: float
    log_safe: float | None


@dataclass(frozen=True, slots=True)
class Assessment:
    """The assessment by all comparisons together, since the evidence's `restart`th start.

    `log_e`: natural log of the combined e-value of the comparisons with the same action. `stop` and `pause`: the
    leading comparison if that action is due, else None.
    """

    alpha: float
    restart: int
    log_e: Mapping[Action, float]
    results: tuple[ComparisonResult, ...]
    stop: ComparisonResult | None
    pause: ComparisonResult | None

    @property
    def safe(self) -> bool:
        """Whether failures are shown to be no more frequent than tolerated, and no comparison finds harm."""
        return self.failures.verdict is GuardVerdict.SAFE and not self.harmful

    @property
    def failures(self) -> ComparisonResult:
        """The comparison of failures."""
        return next(found for found in self.results if found.metric == FAILURES.metric)

    @property
    def harmful(self) -> bool:
        """Whether any comparison finds harm, or a difference that may be."""
        return any(found.verdict in (GuardVerdict.HARMFUL, GuardVerdict.DIFFERENT) for found in self.results)

    def explain(self, action: Action) -> str:
        """Return in words what the leading comparison for `action` has found, and the combined evidence."""
        leader = self.stop if action == "stop" else self.pause
        said = "nothing" if leader is None else HARM_TEXTS[leader.metric]
        enough = -math.log(alpha_of(self.alpha, self.restart))
        return f"{said} (E = {_power(self.log_e[action])}, enough is {_power(enough)})"


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonEvidence:
    """One comparison and the process that gathers its evidence."""

    settings: ComparisonSettings
    share: float
    process: FailureCounts | Drift

    @property
    def is_empty(self) -> bool:
        """Whether it has no data since the last restart."""
        return not (any(self.process.blocks) if isinstance(self.process, Drift) else self.process.counts)


class Guards:
    """All comparisons of a release.

    Failures are always compared, because `advance: safe` needs that; they trigger an action only if configured.
    """

    def __init__(self, settings: GuardsSettings) -> None:
        self._alpha = settings.alpha
        configured = settings.comparisons
        actions = [comparison.action for comparison in configured]
        self.comparisons = [
            ComparisonEvidence(comparison, 1 / actions.count(comparison.action), _process(comparison.metric))
            for comparison in configured
        ]
        if all(comparison.metric != FAILURES.metric for comparison in configured):
            self.comparisons.append(ComparisonEvidence(FAILURES, 0.0, _process(FAILURES.metric)))

    def ingest(self, seen: Observation, epoch_began_ns: int) -> None:
        """Add the observation's new events, in order of arrival, except those of requests decided in earlier epochs."""
        for comparison in self.comparisons:
            process = comparison.process
            if isinstance(process, FailureCounts):
                for failure in FAILURES_BY_METRIC[comparison.settings.metric](seen, epoch_began_ns):
                    process.add(*failure)
            elif seen.classes is not None:
                process.observe(seen.classes)

    def assess(self, restart: int) -> Assessment:
        """Assess the present evidence, which has started for the `restart`th time."""
        alpha = alpha_of(self._alpha, restart)
        actions: tuple[Action, ...] = ("stop", "pause")
        log_e = {action: self._combined(action) for action in actions}
        leaders = {action: self._leader(action) if reached(log_e[action], alpha) else None for action in actions}
        found = {id(c): self._result(c, alpha, leads=c in leaders.values()) for c in self.comparisons}
        stop, pause = (None if leader is None else found[id(leader)] for leader in leaders.values())
        return Assessment(self._alpha, restart, log_e, tuple(found.values()), stop, pause)

    def restart(self) -> None:
        """Reset all evidence; what is known of sticky keys is kept. Called at each step of the ramp, among others."""
        for comparison in self.comparisons:
            comparison.process.restart()

    def reset(self) -> None:
        """Reset the evidence and what is known of sticky keys, for a new epoch."""
        for comparison in self.comparisons:
            comparison.process.reset()

    def to_json(self) -> dict[str, Any]:
        """Return the state of each comparison, by metric."""
        return {comparison.settings.metric: comparison.process.to_json() for comparison in self.comparisons}

    def restore(self, kept: Mapping[str, Any]) -> None:
        """Restore the output of `to_json`, for the metrics that are still compared."""
        for comparison in self.comparisons:
            if comparison.settings.metric in kept:
                comparison.process.restore(kept[comparison.settings.metric])

    def _with(self, action: Action) -> list[ComparisonEvidence]:
        return [
            comparison for comparison in self.comparisons if comparison.share and comparison.settings.action == action
        ]

    def _combined(self, action: Action) -> float:
        comparisons = self._with(action)
        return log_combined([c.process.log_e for c in comparisons], [c.share for c in comparisons])

    def _leader(self, action: Action) -> ComparisonEvidence:
        """The comparison with the strongest evidence for `action`."""
        return max(self._with(action), key=lambda comparison: comparison.process.log_e)

    def _result(self, comparison: ComparisonEvidence, alpha: float, *, leads: bool) -> ComparisonResult:
        settings, process, share = comparison.settings, comparison.process, comparison.share
        log_safe = None if isinstance(process, Drift) else process.log_safe
        if comparison.is_empty:
            verdict = GuardVerdict.NO_DATA
        elif leads or reached(process.log_e, alpha * (share or 1)):
            verdict = GuardVerdict.DIFFERENT if isinstance(process, Drift) else GuardVerdict.HARMFUL
        elif log_safe is not None and reached(log_safe, self._alpha):
            verdict = GuardVerdict.SAFE
        else:
            verdict = GuardVerdict.INCONCLUSIVE
        return ComparisonResult(
            name=settings.name,
            metric=settings.metric,
            action=settings.action,
            share=share,
            verdict=verdict,
            log_e=process.log_e,
            log_safe=log_safe,
        )


def _power(log: float) -> str:
    return f"10^{log / math.log(10):.1f}"


def _process(metric: str) -> FailureCounts | Drift:
    return Drift() if metric == "predicted_class" else FailureCounts(RATIOS[metric])
