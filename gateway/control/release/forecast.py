"""Estimates how much traffic a release's next decision needs, for `gateway status`."""

import math
from dataclasses import dataclass
from typing import Final

from gateway.control.guards.comparisons import Assessment, GuardVerdict
from gateway.control.guards.evidence import HARMLESS_RATIOS, TOLERATED_RATIO, alpha_of
from gateway.control.release.controller import Controller
from gateway.control.release.stages import Stage
from gateway.routing.buckets import BUCKETS

WITHOUT_SAFETY: Final = (
    "which only failures give (`advance: no-violation` would need an interval with requests and without violations)"
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The failures (of both variants) that a decision needs, and the randomised requests expected to yield them."""

    failures: float
    requests: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a release is. `next_step_s`: seconds until the ramp may rise at the earliest; None if it rises no more.

    `blocked_on`: what the release waits for, in words. `stop`: traffic needed to stop a candidate that fails twice as
    often as stable; `safe`: to show one safe that fails as often. Both None if nothing fails or is randomised.
    """

    stage: Stage
    step: int
    steps: int
    next_step_s: float | None
    blocked_on: str
    assessment: Assessment
    stop: Forecast | None
    safe: Forecast | None


def forecast(weight_ppm: int, alpha: float, ratio: float = 2.0, base_rate: float = 0.01) -> Forecast | None:
    """Return the traffic needed to stop a candidate that fails `ratio` times as often as stable (at `base_rate`).

    `alpha`: the guard's own part, its share of alpha_j. None if nothing is randomised or nothing fails.
    """
    chance = weight_ppm / BUCKETS
    if not 0 < chance < 1 or base_rate <= 0:
        return None
    odds = chance * ratio / (chance * ratio + 1 - chance)
    divergence = odds * math.log(odds / chance) + (1 - odds) * math.log((1 - odds) / (1 - chance))
    return _of(-math.log(alpha) / divergence, base_rate * (1 - chance + chance * ratio))


def forecast_safe(weight_ppm: int, alpha: float, base_rate: float) -> Forecast | None:
    """Return the traffic needed to show safe a candidate that fails as often as stable; None as for `forecast`."""
    chance = weight_ppm / BUCKETS
    if not 0 < chance < 1 or base_rate <= 0:
        return None
    growth = max(_growth(chance, ratio) for ratio in HARMLESS_RATIOS)
    return _of(math.log(len(HARMLESS_RATIOS) / alpha) / growth, base_rate)


def progress(controller: Controller, now_s: float, base_rate: float | None) -> Progress:
    """Return how far the release is. `base_rate`: stable's error rate, None if it has had no requests."""
    state, ramp, assessment = controller.state, controller.ramp, controller.assessment()
    weight_ppm = ramp.weights_ppm[state.step] if ramp else max(state.weights_ppm.values(), default=0)
    alpha = alpha_of(assessment.alpha, assessment.restart) * (assessment.failures.share or 1)
    rises = ramp is not None and state.stage in (Stage.RAMPING, Stage.PAUSED, Stage.HELD)
    left_s = max(0.0, state.step_started_s + ramp.interval - now_s) if ramp and rises else None
    return Progress(
        stage=state.stage,
        step=state.step,
        steps=len(ramp.weights) if ramp else 0,
        next_step_s=left_s,
        blocked_on=_blocked_on(controller, assessment, left_s),
        assessment=assessment,
        stop=forecast(weight_ppm, alpha, base_rate=base_rate or 0.0),
        safe=forecast_safe(weight_ppm, assessment.alpha, base_rate or 0.0),
    )


def _blocked_on(controller: Controller, assessment: Assessment, left_s: float | None) -> str:
    match controller.state.stage:
        case Stage.STOPPED:
            return "someone to resume it"
        case Stage.HELD:
            return "someone to continue it"
        case Stage.PAUSED:
            return f"{controller.state.paused_by} to end, or someone to continue it"
        case Stage.RAMPING if left_s:
            return f"the interval to end, in {left_s:.0f} s"
        case Stage.RAMPING if assessment.failures.verdict is not GuardVerdict.SAFE:
            return "; ".join((f"evidence of safety, {WITHOUT_SAFETY}", *assessment.failures.notes))
        case _:
            return ""


def _growth(chance: float, ratio: float) -> float:
    """The mean growth of the log evidence of safety per failure if the true ratio is 1."""
    tolerated = math.log1p(chance * (TOLERATED_RATIO - 1)) - math.log1p(chance * (ratio - 1))
    return chance * math.log(ratio / TOLERATED_RATIO) + tolerated


def _of(failures: float, rate: float) -> Forecast:
    return Forecast(failures, failures / rate)
