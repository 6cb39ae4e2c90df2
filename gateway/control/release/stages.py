"""The state machine of a release: its stages, the events that move it between them, and the state that is saved.

`TRANSITIONS` is the only table of permitted moves. `persistence` also sets the stage when it loads a saved state.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from gateway.errors import Conflict


class Stage(StrEnum):
    """The stage of a release, which determines its route weights."""

    IDLE = "idle"  # no ramp: weights are as configured
    RAMPING = "ramping"  # the ramp weight rises step by step, on evidence
    PAUSED = "paused"  # a guard holds the ramp
    HELD = "held"  # a person holds the ramp
    STOPPED = "stopped"  # all weights are 0
    COMPLETE = "complete"  # the ramp weight stays at its last step


class Event(StrEnum):
    """An event that moves a release from one stage to another."""

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


def next_stage(stage: Stage, event: Event) -> Stage:
    """Return the stage that follows `stage` on `event`; raise Conflict if the event is not possible in `stage`."""
    if (stage, event) not in TRANSITIONS:
        possible = sorted(other for of, other in TRANSITIONS if of == stage)
        raise Conflict(f"'{event}' is not possible while the release is {stage}; possible are {', '.join(possible)}")
    return TRANSITIONS[stage, event]


@dataclass(slots=True, kw_only=True)
class ReleaseState:
    """The state of one release. Times in seconds are on the controller's clock.

    `step`: index of the ramp's step. `step_started_s`: when the step started, restarted by an order, a pause that
    ended, or a closed route. `restart`: how many times the evidence has started. `epoch`: the switchboard's epoch, None
    before the first tick. `epoch_began_ns`, `epoch_began_s`: when it began (ns since 1970; controller's clock).
    `paused_by`: name of the guard that paused the ramp. `violated_s`: when a limit was last violated. `weights_ppm`:
    the weight that each route was last set to.
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

    def apply(self, event: Event) -> None:
        """Apply `event`; raise Conflict if it is not possible in the present stage."""
        self.stage = next_stage(self.stage, event)

    def to_json(self, now_s: float) -> dict[str, Any]:
        """Return the state for a file, with ages instead of times: another process's clock may start elsewhere."""
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
        """Rebuild the state from the output of `to_json`; `now_s` is on this process's clock.

        `epoch` is left unknown, because the switchboard's epochs may have started over.
        """
        return cls(
            stage=Stage(kept["stage"]),
            step=kept["step"],
            step_started_s=now_s - kept["age_s"],
            restart=kept["restart"],
            epoch_began_ns=kept["epoch_began_ns"],
            paused_by=kept["paused_by"],
            violated_s=now_s,
        )
