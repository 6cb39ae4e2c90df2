"""Forecasts compared with the design's simulated medians, and what a release is waiting for."""

import math

import pytest

from gateway.control.guards.comparisons import GuardVerdict
from gateway.control.guards.failure_counts import FailureMix
from gateway.control.release.forecast import (
    KEYLESS,
    STICKY,
    failures_until_safe,
    forecast,
    progress,
    safety_needs,
)
from gateway.control.release.stages import Event
from gateway.shm.failure_events import FailureEvent, FailureKind
from tests.control.release.running import ERRORS, RAMP, Running, release

TABLE = [
    (0.01, 2, 1298, 128_000),
    (0.01, 5, 125, 12_000),
    (0.01, 10, 46, 4_200),
    (0.05, 2, 284, 27_000),
    (0.05, 5, 31, 2_600),
    (0.05, 10, 14, 966),
    (0.10, 2, 164, 14_900),
    (0.10, 5, 20, 1_400),
    (0.10, 10, 9, 474),
    (0.50, 2, 83, 5_500),
    (0.50, 5, 20, 667),
    (0.50, 10, 14, 255),
]


@pytest.mark.parametrize(("share", "ratio", "failures", "requests"), TABLE)
def test_forecast_is_near_the_simulated_medians(share: float, ratio: float, failures: int, requests: int) -> None:
    found = forecast(round(share * 1e6), 0.01, ratio, 0.01)
    assert found is not None
    assert found.failures == pytest.approx(failures, rel=0.25)
    assert found.requests == pytest.approx(requests, rel=0.25)


@pytest.mark.parametrize("weight_ppm", [0, 1_000_000])
def test_forecast_is_none_without_randomised_traffic(weight_ppm: int) -> None:
    assert forecast(weight_ppm, 0.01) is None
    assert failures_until_safe(weight_ppm, 0.01, STICKY) is None
    assert forecast(100_000, 0.01, base_rate=0) is None


MEDIANS_SAFE = [
    (0.01, 0, 4250),
    (0.10, 0, 530),
    (0.50, 0, 225),
    (0.01, 1, 5475),
    (0.10, 1, 605),
    (0.50, 1, 245),
    (0.10, 2, 1120),
    (0.50, 2, 395),
    (0.01, 4, 13050),
    (0.10, 4, 1270),
    (0.50, 4, 565),
]


@pytest.mark.parametrize(("share", "times", "failures"), MEDIANS_SAFE)
def test_failures_until_safe_are_near_the_simulated_medians(share: float, times: int, failures: int) -> None:
    """`times`: that each sticky customer who fails does so; 0: none is sticky."""
    mix = FailureMix(0, ((times, 5),)) if times else FailureMix(7)
    found = failures_until_safe(round(share * 1e6), 0.01, mix)
    assert found is not None and failures <= found < 1.4 * failures


def test_failures_that_customers_repeat_very_often_never_show_safety() -> None:
    assert failures_until_safe(100_000, 0.01, FailureMix(0, ((64, 3),))) == math.inf
    running = Running(release(ramp={**RAMP, "weights": [10, 100], "advance": "safe"}, comparisons=[ERRORS]))
    running.calmly(61)
    running.answer()
    running.tick(failures=[sticky(900_000)] * 70)
    said = "evidence of safety: it does not grow while each customer fails so often: 64 failures count as 1"
    now = progress(running.controller, running.now_s, 0.01)
    assert now.blocked_on.startswith(f"{said} (") and now.safe is None and now.stop is not None


def test_forecast_counts_a_sticky_customer_once() -> None:
    running = Running(release(ramp={**RAMP, "weights": [10, 100], "advance": "safe"}, comparisons=[ERRORS]))
    running.calmly(61)
    running.answer()
    before = progress(running.controller, running.now_s, 0.01)
    running.tick(failures=[sticky(900_000 + key) for key in range(30)] * 2)
    now = progress(running.controller, running.now_s, 0.01)
    assert before.sticky and now.sticky and before.stop and now.stop and before.safe and now.safe
    assert (before.safe.failures, now.safe.failures) == (
        failures_until_safe(100_000, 0.01, STICKY),
        failures_until_safe(100_000, 0.01, FailureMix(0, ((2, 30),))),
    )
    assert now.stop.requests == pytest.approx(2 * before.stop.requests)
    assert now.safe.requests == pytest.approx(now.safe.failures * 2 / 0.01)
    said = "evidence of safety: {} failures so far, about {} show it if both fail as often"
    assert before.blocked_on.startswith(f"{said.format(0, 670)}; a sticky customer counts once (only ")
    assert now.blocked_on.startswith(f"{said.format(30, '1,200')}; a sticky customer counts once (only ")


def test_forecast_of_requests_that_are_drawn_each_on_its_own() -> None:
    settings = release(ramp={**RAMP, "weights": [10, 100], "advance": "safe"}, comparisons=[ERRORS])
    assert settings.split is not None
    each = settings.model_copy(update={"split": settings.split.model_copy(update={"stickiness": "prediction"})})
    running = Running(each)
    running.calmly(61)
    running.answer()
    assert not progress(running.controller, running.now_s, 0.01).sticky, "nor before one fails"
    running.tick(failures=running.failed(1, 9))
    now = progress(running.controller, running.now_s, 0.01)
    assert not now.sticky and now.safe is not None
    assert now.safe.requests == pytest.approx(64_400, rel=0.01)
    said = "evidence of safety: 10 failures so far, about 640 show it if both fail as often ("
    assert now.blocked_on.startswith(said)


def test_failures_that_a_ramp_needs_are_known_before_it_begins() -> None:
    ramp = {**RAMP, "weights": [1, 10, 100], "advance": "safe"}
    once = "; a sticky customer counts once, so as many have to fail"
    said = "each step waits for failures of stable and candidate, about 5,900 at 1%, 670 at 10%"
    assert safety_needs(release(ramp=ramp)) == f"{said}{once}"
    twice = said.replace("5,900", "11,000").replace("670", "1,200")
    assert safety_needs(release(ramp=ramp, alpha="0.01%")) == f"{twice}{once}"
    assert safety_needs(release(ramp=RAMP)) == ""
    assert safety_needs(release([{"name": "everyone", "weight": 5}], ramp=ramp)) == ""
    assert safety_needs(release(ramp={**ramp, "weights": [100]})) == ""


def sticky(key: int) -> FailureEvent:
    return FailureEvent(0, 0, 1, 100_000, key < 100_000, FailureKind.FAILURE, key)


def test_forecast_safe_equals_the_failures_that_reach_safety() -> None:
    found = failures_until_safe(100_000, 0.01, KEYLESS)
    assert found is not None
    running = Running(release(comparisons=[ERRORS]))
    stable = round(found * 0.9)
    running.tick(failures=running.failed(stable // 9, stable))
    log_safe = running.controller.assessment().failures.log_safe
    assert log_safe == pytest.approx(-math.log(0.01), rel=0.05)


def test_progress_says_what_a_release_waits_for() -> None:
    running = Running(release(ramp={**RAMP, "advance": "safe"}, comparisons=[ERRORS]))
    running.calmly(20)
    now = progress(running.controller, running.now_s, 0.01)
    assert (now.stage, now.step, now.steps, now.next_step_s) == ("ramping", 0, 4, pytest.approx(41))
    assert now.blocked_on == "the interval to end, in 41 s"
    assert now.assessment.failures.verdict is GuardVerdict.NO_DATA
    assert now.stop is not None and now.safe is not None
    assert now.safe.requests > now.stop.requests > 10_000
    running.calmly(60)
    assert progress(running.controller, running.now_s, 0.01).blocked_on.startswith("evidence of safety")
    running.controller.command(Event.HOLD, running.now_s)
    assert progress(running.controller, running.now_s, None).blocked_on == "someone to continue it"
    running.stop()
    running.tick()
    stopped = progress(running.controller, running.now_s, None)
    assert (stopped.blocked_on, stopped.next_step_s, stopped.stop) == ("someone to resume it", None, None)
