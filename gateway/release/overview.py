"""What is known of a release while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass

from gateway.release.stops import Decision
from gateway.shm.scoreboard import Totals


@dataclass(frozen=True, slots=True)
class Counted:
    """One version's part in a release."""

    version: int
    variant: str
    totals: Totals


@dataclass(frozen=True, slots=True)
class Overview:
    """One release as it is now. `weights_ppm`: by route, as configured; `stop`: why it is stopped, or None."""

    model: str
    stable: int
    candidate: int | None
    weights_ppm: Mapping[str, int]
    stopped: bool
    stop: Decision | None
    epoch: int
    versions: tuple[Counted, ...]
