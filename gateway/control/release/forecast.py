"""Estimates how much traffic a release's next decision needs, for `gateway status` and `gateway check`.

A sticky customer counts once. So further failures are taken to be of as many customers as those so far. As customers
run out it takes more: where some are sticky, that many requests are the least.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from gateway.control.guards.comparisons import FAILURES, Assessment, GuardVerdict
from gateway.control.guards.evidence import alpha_of, log_mean, logs_of_safety
from gateway.control.guards.failure_counts import FailureCounts, FailureMix
from gateway.control.release.controller import Controller
from gateway.control.release.stages import Stage
from gateway.routing.buckets import BUCKETS
from gateway.settings.guards import GuardsSettings
from gateway.settings.routing import ReleaseSettings, SplitSettings

KEYLESS: Final = FailureMix(1)  # each request is drawn on its own
STICKY: Final = FailureMix(0, ((1, 1),))  # each failure is of another customer
ONCE: Final = "a sticky customer counts once"
MOST_REMEMBERED: Final = 1024  # forecasts: several of some hundred releases
HALVINGS: Final = 6  # of an interval by a half of its lower end: to 1%
WITHOUT_SAFETY: Final = (
    "only failures give it; `advance: no-violation` would need an interval with requests and without violations"
)


@dataclass(frozen=True, slots=True)
class Forecast:
    """The failures (of both variants) that a decision needs, of a sticky customer one, and the randomised requests
    expected to yield them.
    """

    failures: float
    requests: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a release is. `next_step_s`: seconds until the ramp may rise at the earliest; None if it rises no more.

    `blocked_on`: what the release waits for, in words. `stop`: traffic needed to stop a candidate that fails twice as
    often as stable; `safe`: to show one safe that fails as often. Both None if nothing fails or is randomised.
    `sticky`: whether they are the least, as customers are sticky.
    """

    stage: Stage
    step: int
    steps: int
    next_step_s: float | None
    blocked_on: str
    assessment: Assessment
    stop: Forecast | None
    safe: Forecast | None
    sticky: bool


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


@lru_cache(MOST_REMEMBERED)
def failures_until_safe(weight_ppm: int, alpha: float, mix: FailureMix) -> float | None:
    """Return the failures, of a sticky customer one, that show safe a candidate that fails as often as stable, if they
    are as in `mix`: whose expected evidence is enough. inf if such failures never do; None if nothing is randomised.
    """
    chance = weight_ppm / BUCKETS
    if not 0 < chance < 1:
        return None
    variants = (True, chance), (False, 1 - chance)
    keyless = {(chance, candidate): share * mix.keyless for candidate, share in variants}
    keys = {(chance, candidate, times): share * number for times, number in mix.keys for candidate, share in variants}
    each = [log / mix.counted for log in logs_of_safety(keyless, keys)]
    growth, enough = max(each), -math.log(alpha)
    if growth <= 0:
        return math.inf
    low, high = enough / growth, (enough + math.log(len(each))) / growth
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if log_mean([middle * log for log in each]) > enough else (middle, high)
    return high


def safety_needs(release: ReleaseSettings) -> str:
    """Return how many failures each step of the ramp needs to be shown safe, in words; empty if none is asked for."""
    if release.candidate is None or not release.is_ramped or release.ramp is None or release.ramp.advance != "safe":
        return ""
    alpha, mix = (release.guards or GuardsSettings()).alpha, _expected(release)
    steps = [(ppm, failures_until_safe(ppm, alpha, mix)) for ppm in release.ramp.weights_ppm]
    said = ", ".join(f"{_about(failures)} at {ppm / 10_000:g}%" for ppm, failures in steps if failures is not None)
    once = f"; {ONCE}, so as many have to fail" if mix.keys else ""
    return f"each step waits for failures of stable and candidate, about {said}{once}" if said else ""


def progress(controller: Controller, now_s: float, base_rate: float | None) -> Progress:
    """Return how far the release is. `base_rate`: stable's error rate, None if it has had no requests."""
    state, ramp, assessment = controller.state, controller.ramp, controller.assessment()
    weight_ppm = ramp.weights_ppm[state.step] if ramp else max(state.weights_ppm.values(), default=0)
    alpha = alpha_of(assessment.alpha, assessment.restart) * (assessment.failures.share or 1)
    rises = ramp is not None and state.stage in (Stage.RAMPING, Stage.PAUSED, Stage.HELD)
    left_s = max(0.0, state.step_started_s + ramp.interval - now_s) if ramp and rises else None
    mix = _failed(controller)
    seen = mix if mix.counted else _expected(controller.settings)
    counted_rate = (base_rate or 0.0) * seen.counted / seen.failures
    needed = failures_until_safe(weight_ppm, assessment.alpha, seen)
    return Progress(
        stage=state.stage,
        step=state.step,
        steps=len(ramp.weights) if ramp else 0,
        next_step_s=left_s,
        blocked_on=_blocked_on(controller, assessment, left_s, _until_safe(needed, mix, bool(seen.keys))),
        assessment=assessment,
        stop=forecast(weight_ppm, alpha, base_rate=counted_rate),
        safe=_of(needed, counted_rate) if needed not in (None, math.inf) and counted_rate else None,
        sticky=bool(seen.keys),
    )


def _blocked_on(controller: Controller, assessment: Assessment, left_s: float | None, until_safe: str) -> str:
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
            return "; ".join((f"evidence of safety{until_safe} ({WITHOUT_SAFETY})", *assessment.failures.notes))
        case _:
            return ""


def _until_safe(needed: float | None, mix: FailureMix, sticky: bool) -> str:
    """How many failures count so far, and how many are `needed`."""
    if needed is None:
        return ""
    if needed == math.inf:
        counted = f"{mix.failures:,} failures count as {mix.counted:,}"
        return f": it does not grow while each customer fails so often: {counted}"
    once = f"; {ONCE}" if sticky else ""
    return f": {mix.counted:,} failures so far, about {_about(needed)} show it if both fail as often{once}"


def _failed(controller: Controller) -> FailureMix:
    """What has failed since the evidence of failures restarted."""
    processes = [one.process for one in controller.guards.comparisons if one.settings.metric == FAILURES.metric]
    return next(one.mix for one in processes if isinstance(one, FailureCounts))


def _expected(release: ReleaseSettings) -> FailureMix:
    """What is taken before anything has failed."""
    return KEYLESS if (release.split or SplitSettings()).stickiness == "prediction" else STICKY


def _about(failures: float) -> str:
    """In two digits: 560, 57,000."""
    return f"{round(failures, 1 - math.floor(math.log10(failures))):,.0f}"


def _of(failures: float, rate: float) -> Forecast:
    return Forecast(failures, failures / rate)
