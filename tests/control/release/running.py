"""A release that is run tick by tick: real counters, a real window, and a fake clock."""

import random
from typing import Any

import numpy as np

from gateway.control.guards.observation import ClassCounts, FeedbackEvent, MirrorPair, Observation
from gateway.control.guards.window import FeedbackCounts, MetricWindow, Sample
from gateway.control.release.actions import Action
from gateway.control.release.controller import Controller, windows_s
from gateway.errors import Outcome
from gateway.settings.routing import ReleaseSettings
from gateway.shm.failure_events import FailureEvent, FailureKind
from gateway.shm.tally import Tally

EVERYONE = [{"name": "everyone", "weight": "ramp"}]
RAMP = {"weights": [1, 10, 50, 100], "interval": "60s", "advance": "no-violation"}
ERRORS = {"name": "errors", "metric": "failures"}


def release(
    routes: list[dict[str, Any]] = EVERYONE, ramp: dict[str, Any] | None = RAMP, **guards: Any
) -> ReleaseSettings:
    return ReleaseSettings.model_validate(
        {"stable": 1, "candidate": 2, "split": {"routes": routes}, "ramp": ramp, "guards": guards}
    )


class Running:
    """`actions` is everything that the controller has requested, `weights` the current weights of the routes."""

    def __init__(self, settings: ReleaseSettings, controller: Controller | None = None, now_s: float = 1000.0) -> None:
        self.settings = settings
        self.controller = controller or Controller(settings)
        self.now_s = now_s
        self.epoch = 1
        self.stopped = False
        self.stable, self.candidate = Tally(), Tally()
        self.feedback = FeedbackCounts()
        self.window = MetricWindow(windows_s(settings))
        self.actions: list[Action] = []
        self.weights: dict[str, int] = {}

    @property
    def time_ns(self) -> int:
        return round(self.now_s * 1e9)

    @property
    def stage(self) -> str:
        return str(self.controller.state.stage)

    def answer(self, count: int = 1, variant: str = "candidate", ms: float = 1.0) -> None:
        """Count answered predictions."""
        for _ in range(count):
            getattr(self, variant).success(variant, round(ms * 1e6), 0)

    def fail(self, count: int = 1, variant: str = "candidate") -> None:
        """Count failed predictions, without failure events."""
        for _ in range(count):
            getattr(self, variant).failure(variant, Outcome.MODEL_ERROR, 1_000_000)

    def failed(
        self,
        candidate: int,
        stable: int,
        weight_ppm: int = 100_000,
        kind: FailureKind = FailureKind.FAILURE,
        epoch: int | None = None,
    ) -> list[FailureEvent]:
        """Failure events without a sticky key."""
        return [
            FailureEvent(self.time_ns, 0, epoch or self.epoch, weight_ppm, is_candidate, kind, None)
            for is_candidate, count in ((True, candidate), (False, stable))
            for _ in range(count)
        ]

    def judged(
        self, candidate: int, stable: int, right: tuple[int, int] = (0, 0), ago_s: float = 0, outcome: str = "wrong"
    ) -> list[FeedbackEvent]:
        """Feedback events that so many predictions were wrong (1), and so many `right` (0), in any order."""
        decided_ns = self.time_ns - round(ago_s * 1e9)
        events = [
            FeedbackEvent(self.time_ns, decided_ns, 100_000, is_candidate, None, {outcome: value})
            for value, counts in ((1.0, (candidate, stable)), (0.0, right))
            for is_candidate, count in zip((True, False), counts, strict=True)
            for _ in range(count)
        ]
        random.Random(len(events)).shuffle(events)
        return events

    def tick(
        self,
        elapsed_s: float = 1.0,
        failures: list[FailureEvent] | None = None,
        feedback: list[FeedbackEvent] | None = None,
        pairs: list[MirrorPair] | None = None,
        classes: ClassCounts | None = None,
    ) -> list[Action]:
        """Advance the clock, then let the controller look. Returns the actions that it requested."""
        self.now_s += elapsed_s
        sample = Sample(self.stable.read(), self.candidate.read(), candidate_feedback=self.feedback)
        self.window.sample(self.now_s, sample)
        seen = Observation(
            time_ns=self.time_ns,
            epoch=self.epoch,
            stopped=self.stopped,
            window=self.window,
            failures=failures or [],
            feedback=feedback or [],
            pairs=pairs or [],
            classes=classes,
        )
        found = list(self.controller.step(self.now_s, seen))
        self.actions += found
        self._carry_out(found)
        return found

    def calmly(self, seconds: int, per_s: int = 2) -> None:
        """Let seconds of traffic without failures pass."""
        for _ in range(seconds):
            self.answer(per_s)
            self.tick()

    def kinds(self, but: str = "SetWeight") -> list[str]:
        """The kinds of action so far."""
        return [type(action).__name__ for action in self.actions if type(action).__name__ != but]

    def stop(self) -> None:
        """Stop, as an operator or a breaker does."""
        self.stopped = True

    def resume(self) -> None:
        """Resume, as an operator does."""
        self.stopped = False
        self.epoch += 1

    def _carry_out(self, actions: list[Action]) -> None:
        for action in actions:
            if hasattr(action, "route"):
                self.weights[action.route] = action.weight_ppm
            if type(action).__name__ == "Stop":
                self.stopped = True


def counts(candidate: list[list[int]], stable: list[list[int]]) -> ClassCounts:
    return ClassCounts(np.array(candidate, np.int64), np.array(stable, np.int64))
