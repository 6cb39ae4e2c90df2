"""The actions that a release controller returns. Each carries its reason and its evidence (`audit`), for the record."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Action:
    """Base of all actions. `reason`: text for people; `evidence`: JSON for the decision log."""

    reason: str
    evidence: dict[str, Any]


@dataclass(frozen=True, slots=True)
class SetWeight(Action):
    """Give the candidate this share of the route's traffic, in ppm."""

    route: str
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class Stop(Action):
    """Send no more traffic to the candidate. `guard`: name of the limit or comparison that found harm."""

    guard: str


@dataclass(frozen=True, slots=True)
class Pause(Action):
    """Hold the ramp at its weight: by a limit, until it is kept again; by a comparison, until a person continues."""

    guard: str


@dataclass(frozen=True, slots=True)
class Continue(Action):
    """Continue the ramp: the limit `guard`, which paused it, is kept again."""

    guard: str


@dataclass(frozen=True, slots=True)
class Advance(Action):
    """Raise the ramp to `step`, counted from 0."""

    step: int
    weight_ppm: int


@dataclass(frozen=True, slots=True)
class Restart(Action):
    """The evidence on some outcomes, which an earlier release of the gateway kept, starts anew."""


@dataclass(frozen=True, slots=True)
class Complete(Action):
    """Complete the ramp: it has passed its last step."""
