"""The controller of one release: turns each tick's observation into actions on the release and its weights.

    step(now, observation)
      1. sync with the switchboard: stops and resumes by people and circuit breakers
      2. guards ingest new events; limits are evaluated
      3. decide on at most one of stop, pause, continue, advance, complete
      4. set the weights that follow from the stage, the step and each route's conditions

It has no clock and no side effects: the caller passes the time and applies the returned actions.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from gateway.control.guards.comparisons import Assessment, Guards
from gateway.control.guards.evidence import TOLERATED_RATIO
from gateway.control.guards.limits import RouteConditions, Violation, first_violation, violations
from gateway.control.guards.observation import Observation
from gateway.control.release.actions import Action, Advance, Complete, Continue, Pause, Restart, SetWeight, Stop
from gateway.control.release.audit import evidence_record
from gateway.control.release.known_effects import record_of
from gateway.control.release.stages import Event, ReleaseState, Stage
from gateway.errors import Conflict
from gateway.settings.guards import GuardsSettings, RampSettings
from gateway.settings.metric_names import COMPLAINTS, METRICS
from gateway.settings.routing import ReleaseSettings, RouteSettings, SplitSettings
from gateway.settings.units import PPM

REQUEST_RATE: Final = "candidate.requests_per_s"
COMMANDS: Final = (Event.HOLD, Event.CONTINUE, Event.COMPLETE)


@dataclass(frozen=True, slots=True)
class _Tick:
    """The inputs of one tick's decision."""

    now_s: float
    seen: Observation
    assessment: Assessment
    violations: tuple[Violation, ...]


class Controller:
    """Controls one release that has a candidate. All `now_s` arguments come from the same monotonic clock. `declared`:
    the outcomes that are business metrics in model.yaml, which count whatever else clients send.
    """

    def __init__(self, settings: ReleaseSettings, declared: frozenset[str] = frozenset()) -> None:
        split, guards = settings.split or SplitSettings(), settings.guards or GuardsSettings()
        self.settings = settings
        names = [route.name for route in split.routes]
        self.guards = Guards(guards, names, declared, failures_compared=settings.failures_compared)
        self.state = ReleaseState()
        self.ramp = settings.ramp if settings.is_ramped else None
        self._limits = guards.limits
        self._routes = [(route, RouteConditions(route.while_)) for route in split.routes]
        self._unconditional = {route.name: True for route in split.routes if not route.while_}
        self._open_routes: dict[str, bool] = {}
        self.dropped: tuple[str, ...] = ()  # metrics whose evidence an earlier release kept, and is dropped

    def step(self, now_s: float, seen: Observation) -> tuple[Action, ...]:
        """Process one tick and return the actions to apply, in order. The controller assumes they will be applied."""
        self._sync_stage(now_s, seen)
        asked = {route.name: one.step(now_s, seen.window) for route, one in self._routes if route.while_}
        self._open_routes = self._unconditional | asked if asked else self._unconditional
        decided: tuple[Action, ...] = ()
        if self.state.stage is not Stage.STOPPED:
            self.guards.ingest(seen, self.state.epoch_began_ns)
            violated = violations(self._limits, seen.window, self.state.epoch_began_s)
            decided = self._decide(_Tick(now_s, seen, self.assessment(), violated))
        return (*self._restarted(seen), *decided, *self._weight_changes(seen))

    def observe(self, now_s: float, seen: Observation) -> tuple[Action, ...]:
        """What a host does in a tick whose release another host of its fleet steps: see whether conditions hold, and
        stop on a violated limit.
        """
        for _, conditions in self._routes:
            conditions.step(now_s, seen.window)
        limits = [limit for limit in self._limits if limit.action == "stop"]
        violated = violations(limits, seen.window, self.state.epoch_began_s)
        if seen.stopped or not violated or self.state.stage is Stage.STOPPED:
            return ()
        return self._stop(_Tick(now_s, seen, self.assessment(), violated), violated[0].limit.name, str(violated[0]))

    def command(self, event: Event, now_s: float) -> None:
        """Apply a person's HOLD, CONTINUE or COMPLETE (promotion); raise Conflict if the stage does not allow it.

        Stops and resumes go through the switchboard and reach the controller in its observations.
        """
        if event not in COMMANDS:
            raise Conflict(f"'{event}' is not a command for a ramp; commands are {', '.join(COMMANDS)}")
        limits = {limit.name for limit in self._limits}
        paused_by_comparison = self.state.stage is Stage.PAUSED and self.state.paused_by not in limits
        self.state.apply(event)
        self.state.step_started_s = now_s
        if event is Event.CONTINUE and paused_by_comparison:
            self._start_evidence()

    def inherit_conditions(self, before: "Controller") -> None:
        """Take over condition state from the previous controller, for routes whose conditions have not changed."""
        known = {(route.name, route.while_): conditions for route, conditions in before._routes}
        self._routes = [(route, known.get((route.name, route.while_), now)) for route, now in self._routes]

    def assessment(self) -> Assessment:
        """Return the present assessment by all comparisons."""
        return self.guards.assess(max(1, self.state.restart))

    def weight_ppm(self, route: RouteSettings) -> int:
        """Return the weight that the route should have now, in ppm."""
        if self.state.stage is Stage.STOPPED or not self._open_routes.get(route.name, False):
            return 0
        if isinstance(route.weight, int):
            return route.weight
        assert self.ramp is not None
        return self.ramp.weights_ppm[self.state.step]

    def _sync_stage(self, now_s: float, seen: Observation) -> None:
        """Sync the stage with stops and resumes on the switchboard; on the first tick, begin an epoch."""
        place = self.state
        unknown, place.epoch, before = place.epoch is None, seen.epoch, place.epoch or 0
        if place.restart == 0:
            self._begin(now_s, seen)
        if place.stage is not Stage.STOPPED and (seen.stopped or (not unknown and seen.epoch > before)):
            place.apply(Event.STOP)
        if place.stage is Stage.STOPPED and not seen.stopped and (unknown or seen.epoch > before):
            place.apply(Event.RESUME)
            self._begin(now_s, seen)

    def _begin(self, now_s: float, seen: Observation) -> None:
        """Begin a new epoch at the ramp's first step."""
        place = self.state
        place.step, place.step_started_s = 0, now_s
        place.epoch_began_ns, place.epoch_began_s = (
            seen.time_ns,
            now_s,
        )  # for records, and ids without epoch mark
        self.guards.reset()
        self._start_evidence()
        if self.ramp is not None:
            place.apply(Event.BEGIN)

    def _start_evidence(self) -> None:
        self.state.restart += 1
        self.guards.restart()

    def _decide(self, tick: _Tick) -> tuple[Action, ...]:
        stop = first_violation(tick.violations, "stop")
        if stop is not None:
            return self._stop(tick, stop.limit.name, str(stop))
        if tick.assessment.stop is not None:
            return self._stop(tick, tick.assessment.stop.name, tick.assessment.explain("stop"))
        if self.state.stage is Stage.RAMPING:
            return self._pause(tick) or self._advance(tick)
        if self.state.stage is Stage.PAUSED:
            return self._continue(tick)
        return ()

    def _stop(self, tick: _Tick, guard: str, reason: str) -> tuple[Action, ...]:
        self.state.apply(Event.STOP)
        return (Stop(reason, self._evidence(tick), guard),)

    def _pause(self, tick: _Tick) -> tuple[Action, ...]:
        limit, comparison = first_violation(tick.violations, "pause"), tick.assessment.pause
        if limit is None and comparison is None:
            return ()
        self.state.apply(Event.PAUSE)
        self.state.violated_s = tick.now_s
        if limit is not None:
            self.state.paused_by, reason = limit.limit.name, str(limit)
        elif comparison is not None:
            self.state.paused_by, reason = comparison.name, tick.assessment.explain("pause")
        return (Pause(reason, self._known(tick), self.state.paused_by),)

    def _continue(self, tick: _Tick) -> tuple[Action, ...]:
        """End a pause by a limit once no pausing limit has been violated for that limit's whole window."""
        limit = next((limit for limit in self._limits if limit.name == self.state.paused_by), None)
        if first_violation(tick.violations, "pause") is not None:
            self.state.violated_s = tick.now_s
        if limit is None or tick.now_s - self.state.violated_s < limit.window:
            return ()
        self.state.apply(Event.CONTINUE)
        self.state.step_started_s = tick.now_s
        return (Continue(f"{limit.name} has been kept for {limit.window:g} s", self._known(tick), limit.name),)

    def _advance(self, tick: _Tick) -> tuple[Action, ...]:
        ramp = self.ramp
        assert ramp is not None
        if not all(self._open_routes[route.name] for route, _ in self._routes if route.weight == "ramp"):
            self.state.step_started_s = tick.now_s  # the interval does not run while a route is closed
        reason = self._advance_reason(ramp, tick)
        if not reason:
            return ()
        evidence = self._known(tick)
        if self.state.step + 1 == len(ramp.weights):
            self.state.apply(Event.COMPLETE)
            return (Complete(reason, evidence),)
        self.state.step += 1
        self.state.step_started_s = tick.now_s
        self._start_evidence()
        return (Advance(reason, evidence, self.state.step, ramp.weights_ppm[self.state.step]),)

    def _advance_reason(self, ramp: RampSettings, tick: _Tick) -> str:
        """Return why the step is passed, or "" if it is not. At 100% stable gets nothing to compare with, so an
        interval without a violation is enough.
        """
        requests = tick.seen.window.read(REQUEST_RATE, ramp.interval, self.state.step_started_s).count
        if tick.now_s - self.state.step_started_s < ramp.interval or tick.violations or not requests:
            return ""
        if tick.assessment.safe:
            return f"safe: the candidate does not fail {TOLERATED_RATIO:g} times as often as stable"
        everything = ramp.weights_ppm[self.state.step] == PPM
        if (ramp.advance == "no-violation" or everything) and not tick.assessment.harmful:
            return f"no violation for {ramp.interval:g} s ({requests} requests)"
        return ""

    def _restarted(self, seen: Observation) -> tuple[Action, ...]:
        """What to record if the evidence on some metrics was dropped as the state was loaded."""
        dropped, self.dropped = self.dropped, ()
        if not dropped:
            return ()
        reason = (
            f"the evidence on {', '.join(dropped)} starts anew after the upgrade: feedback comes more often for one"
            " version, which the release before did not allow for"
        )
        return (Restart(reason, {"time_ns": seen.time_ns, "metrics": [*dropped]}),)

    def _weight_changes(self, seen: Observation) -> Iterator[Action]:
        """Yield an action for each route weight that has to change."""
        for route, conditions in self._routes:
            weight_ppm = self.weight_ppm(route)
            if self.state.weights_ppm.get(route.name) != weight_ppm:
                self.state.weights_ppm[route.name] = weight_ppm
                evidence = {"time_ns": seen.time_ns, "stage": str(self.state.stage), "while": conditions.to_json()}
                yield SetWeight(self._weight_reason(route, conditions), evidence, route.name, weight_ppm)

    def _weight_reason(self, route: RouteSettings, conditions: RouteConditions) -> str:
        if self.state.stage is Stage.STOPPED:
            return "stopped"
        if not self._open_routes[route.name]:
            return f"while: {conditions}"
        return f"step {self.state.step + 1} of the ramp" if route.weight == "ramp" else "as configured"

    def _known(self, tick: _Tick) -> dict[str, Any]:
        """The evidence with the effects. A stop gets those once the candidate is stopped (see `CandidateStopper`)."""
        return self._evidence(tick) | record_of(self.guards.effects)

    def _evidence(self, tick: _Tick) -> dict[str, Any]:
        return evidence_record(tick.seen.time_ns, self.guards, tick.assessment, tick.violations)


def outcomes_read(settings: ReleaseSettings) -> tuple[str, ...]:
    """Return the names of the outcomes whose means limits and conditions read."""
    split, guards = settings.split or SplitSettings(), settings.guards or GuardsSettings()
    metrics = {limit.metric for limit in guards.limits}
    metrics |= {condition.metric for route in split.routes for condition in route.while_}
    outcomes = {metric.partition(".")[2] for metric in metrics.difference(METRICS)}
    if any(metric.endswith(".complaint_rate") for metric in metrics):
        outcomes.add(COMPLAINTS)
    return tuple(sorted(outcomes))


def outcomes_named(settings: ReleaseSettings) -> frozenset[str]:
    """Return the names of all outcomes that limits, conditions and comparisons name."""
    compared = settings.guards.comparisons if settings.guards else ()
    return frozenset((*outcomes_read(settings), *(one.outcome for one in compared)))


def windows_s(settings: ReleaseSettings) -> set[float]:
    """Return the lengths, in seconds, of all windows over which the release reads metrics: its Window keeps these."""
    split, guards = settings.split or SplitSettings(), settings.guards or GuardsSettings()
    asked = {limit.window for limit in guards.limits}
    asked |= {condition.window for route in split.routes for condition in route.while_}
    return asked | ({settings.ramp.interval} if settings.ramp else set())
