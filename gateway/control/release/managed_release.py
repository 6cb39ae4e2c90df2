"""One managed release: buffers its failure events and feedback until its controller's next step."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from gateway.control.guards.observation import ClassCounts, FeedbackEvent, MirrorPair, Observation, Randomised
from gateway.control.guards.window import FeedbackCounts, MetricWindow, Sample
from gateway.control.record_writer.feedback_stats import CreditedFeedback, Key
from gateway.control.record_writer.outcome_sums import CORRECT, WRONG, VersionFeedback
from gateway.control.release.controller import Controller, outcomes_read
from gateway.routing.buckets import BUCKETS
from gateway.routing.release import Variant
from gateway.settings.metric_names import COMPLAINTS
from gateway.settings.routing import ReleaseSettings
from gateway.shm.failure_events import FailureEvent, route_id
from gateway.shm.tally import UNSTRATIFIED, Totals

UNDECLARED: Final[frozenset[str]] = frozenset()
RAMP: Final = "ramp"


@dataclass(slots=True, kw_only=True)
class ManagedRelease:
    """A release with a candidate, its controller and its window, and the events received since the last step.

    `slot`: its slot on the switchboard. `live`: routes whose weights control sets, in the order of the board's words.
    `declared`: business metrics in model.yaml. `unheard`: see Observation. `outcomes`: those whose means limits and
    conditions read.
    """

    name: str
    settings: ReleaseSettings
    controller: Controller
    window: MetricWindow
    slot: int
    live: tuple[str, ...]
    declared: frozenset[str] = UNDECLARED
    failures: list[FailureEvent] = field(default_factory=list)
    feedback: list[FeedbackEvent] = field(default_factory=list)
    pairs: list[MirrorPair] = field(default_factory=list)
    unheard: list[FeedbackEvent] = field(default_factory=list)
    outcomes: Sequence[str] = field(init=False)

    @property
    def candidate(self) -> int:
        """The candidate's version."""
        assert self.settings.candidate is not None
        return self.settings.candidate

    def __post_init__(self) -> None:
        self.outcomes = outcomes_read(self.settings)

    @property
    def heard_until_ns(self) -> int:
        """Up to when, in ns since 1970, the controller has taken in feedback; 0 if it has not begun to."""
        return self.controller.guards.heard_until_ns

    def weights_ppm(self) -> list[int]:
        """Return the weights that the controller wants for the live routes, in ppm, in their order."""
        if not self.live or self.settings.split is None:
            return []
        routes = {route.name: route for route in self.settings.split.routes}
        return [self.controller.weight_ppm(routes[name]) for name in self.live]

    def add_feedback(self, item: CreditedFeedback) -> None:
        """Buffer feedback on a prediction as evidence, if one of the two versions made it and was chosen at random.

        For a mirrored pair both versions have answered, so the weight does not matter.
        """
        token = item.token
        candidate = token.variant is Variant.CANDIDATE
        version = self.candidate if candidate else self.settings.stable
        if token.rescued or token.variant is Variant.PINNED or token.version != version:
            return
        if item.mirrored is not None and not candidate:
            self.pairs.append(MirrorPair(*item.mirrored, token.mark, token.nonce, route_id(token.route)))
        if item.outcomes and 0 < token.weight_ppm < BUCKETS:
            self.feedback.append(_event(item))

    def add_unheard(self, item: CreditedFeedback) -> None:
        """Buffer feedback that an earlier process has received and not counted, by the rules of `add_feedback`."""
        before = len(self.feedback)
        self.add_feedback(replace(item, mirrored=None))
        self.unheard += self.feedback[before:]
        del self.feedback[before:]

    def sample(
        self, feedback: Mapping[Key, VersionFeedback], stable: Totals, candidate: Totals, inflight: int
    ) -> Sample:
        """Return the present counters for the window. `feedback`: of all versions."""
        return Sample(
            stable,
            candidate,
            feedback_counts(feedback.get((self.name, self.settings.stable, Variant.STABLE)), self.outcomes),
            feedback_counts(feedback.get((self.name, self.candidate, Variant.CANDIDATE)), self.outcomes),
            inflight,
            stable.waiting + candidate.waiting,
        )

    @property
    def has_evidence(self) -> bool:
        """Whether any evidence is buffered."""
        return bool(self.failures or self.feedback or self.pairs)

    def take_evidence(self) -> tuple[list[FailureEvent], list[FeedbackEvent], list[MirrorPair]]:
        """Return what is buffered and clear the buffers, that of `unheard`, too: a fleet's hosts have no use for it."""
        taken = self.failures, self.feedback, self.pairs
        self.failures, self.feedback, self.pairs, self.unheard = [], [], [], []
        return taken

    def observation(
        self,
        time_ns: int,
        epoch: int,
        stopped: bool,
        stable: Totals,
        candidate: Totals,
        *,
        randomised: Randomised | None = None,
    ) -> Observation:
        """Return the observation for the controller's next step and clear the buffers."""
        unheard = self.unheard
        failures, feedback, pairs = self.take_evidence()
        classes = class_counts(stable, candidate)
        return Observation(
            time_ns=time_ns,
            epoch=epoch,
            stopped=stopped,
            window=self.window,
            failures=failures,
            feedback=feedback,
            pairs=pairs,
            classes=classes,
            randomised=randomised,
            unheard=unheard,
        )


def _event(item: CreditedFeedback) -> FeedbackEvent:
    token = item.token
    return FeedbackEvent(
        time_ns=item.time_ns,
        decided_ns=token.time_ns,
        weight_ppm=token.weight_ppm,
        candidate=token.variant is Variant.CANDIDATE,
        key=token.bucket if token.sticky else None,
        outcomes=item.outcomes,
        mark=token.mark,
        nonce=token.nonce,
        route=token.route,
    )


def class_counts(stable: Totals, candidate: Totals) -> ClassCounts:
    """Return the predicted classes of randomised traffic so far."""
    return ClassCounts(candidate.classes[:UNSTRATIFIED], stable.classes[:UNSTRATIFIED])


def live_routes(settings: ReleaseSettings) -> tuple[str, ...]:
    """Return the names of the routes whose weights control sets: those of the ramp or with `while` conditions."""
    routes = settings.split.routes if settings.split else ()
    return tuple(route.name for route in routes if route.weight == RAMP or route.while_)


def feedback_counts(credit: VersionFeedback | None, outcomes: Iterable[str] = ()) -> FeedbackCounts:
    """Return a version's feedback counters for its window, with those of these outcomes."""
    if credit is None:
        return FeedbackCounts(outcomes=dict.fromkeys(outcomes, (0, 0.0)))
    correct, wrong = credit.received[CORRECT], credit.received[WRONG]  # a window needs counters that never fall
    rewards = credit.received_of("reward")
    sums = {name: credit.received_of(name) for name in outcomes}
    means = {name: (one.values, one.total) for name, one in sums.items()}
    if COMPLAINTS in means:
        means[COMPLAINTS] = 0, float(credit.complaints)
    return FeedbackCounts(correct + wrong, correct, rewards.values, rewards.total, means)
