"""The release as a state machine: in any order of events, the weight rises only on a pass."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.control.release.actions import Advance, Stop
from gateway.control.release.stages import TRANSITIONS, Event, Stage
from gateway.errors import Conflict
from tests.control.release.running import ERRORS, Running, release

LIMITS = [
    {"name": "slow", "metric": "candidate.latency_p99_ms", "above": 50, "window": "10s", "action": "pause"},
    {"name": "hard", "metric": "candidate.error_rate", "above": "50%", "window": "10s"},
]
STEPS = [0, 10_000, 100_000, 500_000, 1_000_000]


class ReleaseMachine(RuleBasedStateMachine):
    """`before`: the weight before the last tick. `fresh`: the epoch has just begun."""

    def __init__(self) -> None:
        super().__init__()
        self.running = Running(release(comparisons=[ERRORS], limits=LIMITS))
        self.before = self.after = 0
        self.found: list[object] = []
        self.fresh = True
        self._tick()

    @rule(seconds=st.integers(1, 90), requests=st.integers(0, 3))
    def traffic(self, seconds: int, requests: int) -> None:
        for _ in range(seconds // 3):
            self.running.answer(requests)
            self._tick(3.0)

    @rule(candidate=st.integers(0, 6), stable=st.integers(0, 20))
    def failures(self, candidate: int, stable: int) -> None:
        self._tick(failures=self.running.failed(candidate, stable))

    @rule()
    def a_slow_candidate(self) -> None:
        self.running.answer(120, ms=90)
        self._tick()

    @rule()
    def a_broken_candidate(self) -> None:
        self.running.fail(400)
        self._tick()

    @rule()
    def stop(self) -> None:
        self.running.stop()
        self._tick()

    @precondition(lambda self: self.running.stopped)
    @rule()
    def resume(self) -> None:
        self.running.resume()
        self.fresh = True
        self._tick()

    @rule(event=st.sampled_from([Event.HOLD, Event.CONTINUE, Event.COMPLETE]))
    def order(self, event: Event) -> None:
        stage = self.running.controller.state.stage
        try:
            self.running.controller.command(event, self.running.now_s)
        except Conflict:
            assert (stage, event) not in TRANSITIONS

    @invariant()
    def the_weight_is_one_of_the_ramps(self) -> None:
        assert self.after in STEPS

    @invariant()
    def it_is_0_exactly_while_stopped(self) -> None:
        assert (self.after == 0) == self.running.stopped == (self.running.stage == Stage.STOPPED)

    def _tick(self, elapsed_s: float = 1.0, **events: list) -> None:
        stage = self.running.controller.state.stage
        self.before = self.after
        self.found = list(self.running.tick(elapsed_s, **events))
        self.after = self.running.weights["everyone"]
        if self.after > self.before:
            risen = STEPS.index(self.after) - STEPS.index(self.before)
            advanced = [action for action in self.found if isinstance(action, Advance)]
            assert risen == 1
            assert self.fresh if self.before == 0 else (len(advanced) == 1 and stage is Stage.RAMPING)
        if self.after < self.before:
            assert self.running.stopped or any(isinstance(action, Stop) for action in self.found) or self.fresh
        self.fresh = False


TestReleaseMachine = ReleaseMachine.TestCase
TestReleaseMachine.settings = settings(
    max_examples=60, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)


def test_every_stage_can_be_stopped_and_a_stop_is_left_only_by_resume() -> None:
    for stage in Stage:
        events = {event for of, event in TRANSITIONS if of is stage}
        assert events == {Event.RESUME} if stage is Stage.STOPPED else Event.STOP in events
    assert set(TRANSITIONS.values()) == set(Stage)
