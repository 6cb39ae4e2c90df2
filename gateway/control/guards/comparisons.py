"""The statistical comparisons of a candidate with stable: each one's evidence, and the combined assessment of all."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from gateway.control.guards.drift import Drift
from gateway.control.guards.effects import Effects
from gateway.control.guards.evidence import alpha_of, log_combined, reached
from gateway.control.guards.failure_counts import FailureCounts
from gateway.control.guards.failure_effects import failure_effects
from gateway.control.guards.failure_sources import FAILURES_BY_METRIC, RATIOS, is_of_epoch
from gateway.control.guards.mean_evidence import MeanEvidence
from gateway.control.guards.observation import Observation
from gateway.control.guards.outcomes import Outcomes, part_of
from gateway.control.guards.value_drift import ValueDrift
from gateway.evidence.effect import Effect, clipped_words
from gateway.routing.release import DEFAULT_ROUTE
from gateway.settings.guards import Action, ComparisonSettings, GuardsSettings
from gateway.settings.metric_names import MIRROR_DISAGREEMENT, SLOW_REQUESTS

OUTCOMES: Final = "outcomes"  # beside the metrics in a kept state
EFFECTS: Final = "effects"
SHARES: Final = "feedback_shares"
HARM_TEXTS: Final = {
    "failures": "the candidate fails more often than stable",
    "slow_requests": "the candidate is slow more often than stable",
    "wrong_feedback": "the candidate is wrong more often than stable, according to feedback",
    "complaints": "complaints come more often about the candidate than about stable",
    "mirror_disagreement": "where the two disagree on the same input, the candidate is wrong more often",
    "predicted_class": "the candidate's distribution of predicted classes differs from stable's",
    "predicted_value": "the candidate's distribution of predicted numbers differs from stable's",
}
RUN_OUT: Final = "safety can hardly be shown any more: most sticky customers that fail have failed already"
_DRIFTS: Final[Mapping[str, type[Drift]]] = {"predicted_class": Drift, "predicted_value": ValueDrift}
FAILURES: Final = ComparisonSettings(name="failures", metric="failures")


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
    which are never proved safe. `more_units`: further outcomes until the evidence of harm is enough, if the harm is as
    it seems; None if it seems tolerable, or no means are compared. `notes`: outcomes that are clipped, or do not count;
    that too few sticky customers are left to show safety.
    """

    name: str
    metric: str
    action: Action
    share: float
    verdict: GuardVerdict
    log_e: float
    log_safe: float | None
    more_units: int | None = None
    notes: tuple[str, ...] = ()


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
        said = "nothing" if leader is None else harm_text(leader.metric)
        enough = -math.log(alpha_of(self.alpha, self.restart))
        return f"{said} (E = {_power(self.log_e[action])}, enough is {_power(enough)})"


def harm_text(metric: str) -> str:
    """What a comparison of this metric has found if it acts."""
    return HARM_TEXTS.get(metric) or f"the candidate's {metric} is worse than stable's, by more than is tolerated"


@dataclass(frozen=True, slots=True, eq=False)
class ComparisonEvidence:
    """One comparison and the process that gathers its evidence."""

    settings: ComparisonSettings
    share: float
    process: FailureCounts | MeanEvidence | Drift

    @property
    def is_empty(self) -> bool:
        """Whether it has no data since the last restart."""
        process = self.process
        if isinstance(process, FailureCounts):
            return process.is_empty
        return not any(process.blocks if isinstance(process, Drift) else process.counts)


class Guards:
    """All comparisons of a release. `routes`: their names. `declared`: outcomes that count whatever others come.

    Failures are compared for ramps, too; they trigger an action only if configured. `failures_compared`: as in the
    release's settings. If not, workers do not look whether stable's answers are valid, so none is counted.
    """

    def __init__(
        self,
        settings: GuardsSettings,
        routes: Sequence[str] = (),
        declared: frozenset[str] = frozenset(),
        *,
        failures_compared: bool = True,
    ) -> None:
        self._alpha = settings.alpha
        configured = settings.comparisons
        actions = [comparison.action for comparison in configured]
        self.comparisons = [
            ComparisonEvidence(comparison, 1 / actions.count(comparison.action), _process(comparison, routes))
            for comparison in configured
        ]
        self._outcomes = Outcomes(configured, declared)
        self._effects = Effects(configured, max(len(routes), 1), declared)
        if all(comparison.metric != FAILURES.metric for comparison in configured):
            self.comparisons.append(ComparisonEvidence(FAILURES, 0.0, _process(FAILURES, routes)))
        self._counted = [one for one in self.comparisons if one.share or failures_compared]

    def ingest(self, seen: Observation, epoch_began_ns: int) -> None:
        """Add the observation's new events, in order of arrival, except those of requests decided in earlier epochs."""
        outcomes = [event for event in seen.feedback if is_of_epoch(event, seen, epoch_began_ns)]
        new = self._outcomes.ingest(outcomes, seen.time_ns, seen.randomised)
        self._outcomes.hear(event for event in seen.unheard if is_of_epoch(event, seen, epoch_began_ns))
        self._effects.add(new, seen.time_ns)
        for comparison in self._counted:
            process = comparison.process
            if isinstance(process, MeanEvidence):
                if comparison.settings.outcome in new:
                    process.add(new[comparison.settings.outcome])
            elif isinstance(process, FailureCounts):
                for failure in FAILURES_BY_METRIC[comparison.settings.metric](seen, epoch_began_ns):
                    process.add(*failure)
            elif seen.classes is not None:
                process.observe(seen.classes)

    @property
    def heard_until_ns(self) -> int:
        """Up to when, in ns since 1970, it has taken in feedback; 0 if it has not begun to."""
        return self._outcomes.feedback_shares.until_ns

    def effects(self) -> tuple[Effect, ...]:
        """What is known since the epoch began: how many times as often failures and their like come, then each outcome;
        each over the whole release, then by route.
        """
        ratios = [
            effect
            for comparison in self.comparisons
            if isinstance(comparison.process, FailureCounts)
            for effect in failure_effects(comparison.process, comparison.settings.metric)
        ]
        return *ratios, *self._effects.read(self._outcomes)

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
        """Reset all evidence; the effects are kept, and so is which sticky keys have given an outcome. Called at each
        step of the ramp, among others.
        """
        self._outcomes.restart()
        for comparison in self.comparisons:
            comparison.process.restart()

    def reset(self) -> None:
        """Reset the evidence, the effects and what is known of sticky keys, for a new epoch."""
        self._outcomes.reset()
        self._effects.reset()
        for comparison in self.comparisons:
            comparison.process.reset()

    def to_json(self) -> dict[str, Any]:
        """Return the state of each comparison, by metric, and of the outcomes."""
        kept = {comparison.settings.metric: comparison.process.to_json() for comparison in self.comparisons}
        found, shares = self._outcomes.to_json(), self._outcomes.feedback_shares.to_json()
        return {**kept, OUTCOMES: found, EFFECTS: self._effects.to_json(), SHARES: shares}

    def restore(self, kept: Mapping[str, Any]) -> tuple[str, ...]:
        """Restore the output of `to_json`, for metrics still compared; return those that `Outcomes` starts anew."""
        anew = self._outcomes.restore(kept.get(OUTCOMES, {}))
        self._outcomes.feedback_shares.restore(kept.get(SHARES))
        self._effects.restore({name: one for name, one in kept.get(EFFECTS, {}).items() if part_of(name) not in anew})
        known = [one for one in self.comparisons if one.settings.metric in kept]
        dropped = [one for one in known if one.settings.outcome and part_of(one.settings.outcome) in anew]
        for comparison in known:
            if comparison not in dropped:
                comparison.process.restore(kept[comparison.settings.metric])
        return tuple(one.settings.metric for one in dropped)

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
        enough = -math.log(alpha * (share or 1))
        return ComparisonResult(
            name=settings.name,
            metric=settings.metric,
            action=settings.action,
            share=share,
            verdict=verdict,
            log_e=process.log_e,
            log_safe=log_safe,
            more_units=process.more_units(enough) if isinstance(process, MeanEvidence) else None,
            notes=self._notes(settings, process, verdict),
        )

    def _notes(
        self, settings: ComparisonSettings, process: FailureCounts | MeanEvidence | Drift, verdict: GuardVerdict
    ) -> tuple[str, ...]:
        if isinstance(process, FailureCounts):
            return (RUN_OUT,) if verdict is GuardVerdict.INCONCLUSIVE and process.runs_out else ()
        if isinstance(process, Drift):
            return ()
        clipped = clipped_words(process.clipped, sum(process.counts))
        return tuple(filter(None, (clipped, self._outcomes.limits_reached(settings.outcome))))


def _power(log: float) -> str:
    return f"10^{log / math.log(10):.1f}"


def _process(settings: ComparisonSettings, routes: Sequence[str]) -> FailureCounts | MeanEvidence | Drift:
    if settings.outcome:
        return MeanEvidence(settings)
    drift = _DRIFTS.get(settings.metric)
    once = settings.metric == SLOW_REQUESTS  # their chance may be that beside the baseline: no bound of a key's bucket
    if settings.metric == MIRROR_DISAGREEMENT:  # mirrored are those of all weights, and those that no route takes
        routes = tuple(dict.fromkeys((*routes, DEFAULT_ROUTE)))
    return drift() if drift else FailureCounts(RATIOS[settings.metric], once=once, routes=routes)
