"""The stages of a release, and what leads from one to another: everything that affects a stage is in this file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.errors import Conflict


class Stage(StrEnum):
    """What a release does with its weights."""

    IDLE = "idle"  # they are as configured: there is no ramp
    RAMPING = "ramping"  # the ramp's rises, one step at a time, on evidence
    PAUSED = "paused"  # a guard holds it
    HELD = "held"  # a person holds it
    STOPPED = "stopped"  # all are 0
    COMPLETE = "complete"  # the ramp's stays where it ended


class Event(StrEnum):
    """What moves a release."""

    BEGIN = "begin"
    PAUSE = "pause"
    CONTINUE = "continue"
    HOLD = "hold"
    COMPLETE = "complete"
    STOP = "stop"
    RESUME = "resume"


TRANSITIONS: Final[Mapping[tuple[Stage, Event], Stage]] = {
    (Stage.IDLE, Event.BEGIN): Stage.RAMPING,
    (Stage.IDLE, Event.COMPLETE): Stage.COMPLETE,
    (Stage.IDLE, Event.STOP): Stage.STOPPED,
    (Stage.RAMPING, Event.PAUSE): Stage.PAUSED,
    (Stage.RAMPING, Event.HOLD): Stage.HELD,
    (Stage.RAMPING, Event.COMPLETE): Stage.COMPLETE,
    (Stage.RAMPING, Event.STOP): Stage.STOPPED,
    (Stage.PAUSED, Event.CONTINUE): Stage.RAMPING,
    (Stage.PAUSED, Event.HOLD): Stage.HELD,
    (Stage.PAUSED, Event.COMPLETE): Stage.COMPLETE,
    (Stage.PAUSED, Event.STOP): Stage.STOPPED,
    (Stage.HELD, Event.CONTINUE): Stage.RAMPING,
    (Stage.HELD, Event.COMPLETE): Stage.COMPLETE,
    (Stage.HELD, Event.STOP): Stage.STOPPED,
    (Stage.STOPPED, Event.RESUME): Stage.IDLE,
    (Stage.COMPLETE, Event.STOP): Stage.STOPPED,
}


def after(stage: Stage, event: Event) -> Stage:
    """The stage that `event` leads to; raises Conflict where it does not belong."""
    if (stage, event) not in TRANSITIONS:
        possible = sorted(other for of, other in TRANSITIONS if of == stage)
        raise Conflict(f"'{event}' is not possible while the release is {stage}; possible are {', '.join(possible)}")
    return TRANSITIONS[stage, event]


@dataclass(slots=True)
class ReleaseState:
    """Where a release is. Seconds are of the controller's clock.

    `step_started_s`: when the step began, or the last violation in it was over. `restart`: how often the evidence has
    started. `epoch`: the switchboard's, None until it is seen. `paused_by`: a guard, and `violated_s` when a limit was
    last seen violated. `weights_ppm`: what each route was last set to.
    """

    stage: Stage = Stage.IDLE
    step: int = 0
    step_started_s: float = 0.0
    restart: int = 0
    epoch: int | None = None
    epoch_began_ns: int = 0
    epoch_began_s: float = -math.inf
    paused_by: str = ""
    violated_s: float = -math.inf
    weights_ppm: dict[str, int] = field(default_factory=dict)

    def move(self, event: Event) -> None:
        """Raises Conflict where the event does not belong."""
        self.stage = after(self.stage, event)

    def to_json(self, now_s: float) -> dict[str, Any]:
        """For a file: ages instead of times, since another process's clock may begin elsewhere."""
        return {
            "stage": str(self.stage),
            "step": self.step,
            "age_s": now_s - self.step_started_s,
            "restart": self.restart,
            "epoch_began_ns": self.epoch_began_ns,
            "paused_by": self.paused_by,
        }

    @classmethod
    def from_json(cls, kept: Mapping[str, Any], now_s: float) -> "ReleaseState":
        """What `to_json` gave, `now_s` being this process's clock. The switchboard's epochs may have begun anew."""
        return cls(
            stage=Stage(kept["stage"]),
            step=kept["step"],
            step_started_s=now_s - kept["age_s"],
            restart=kept["restart"],
            epoch_began_ns=kept["epoch_began_ns"],
            paused_by=kept["paused_by"],
            violated_s=now_s,
        )
