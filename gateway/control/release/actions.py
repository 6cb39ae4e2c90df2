"""What the controller asks for. Each action says why, on what evidence (audit.py), and is recorded with it."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Action:
    """`reason` is for a person; `evidence` for the record."""

    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SetWeight(Action):
    """From now on the candidate gets this share of the route's traffic."""

    route: str
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class Stop(Action):
    """No more traffic to the candidate. `guard` is who says so."""

    guard: str


@dataclass(frozen=True, slots=True)
class Pause(Action):
    """The ramp holds its weight until its cause is over (a limit), or a person lets it go on (a comparison)."""

    guard: str


@dataclass(frozen=True, slots=True)
class Continue(Action):
    """The cause of the pause is over."""

    guard: str


@dataclass(frozen=True, slots=True)
class Advance(Action):
    """The ramp rises to its next step, counted from 0."""

    step: int
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class Complete(Action):
    """The ramp has passed its last step."""
