"""Forecasts compared with the design's simulated medians, and what a release is waiting for."""

import math

import pytest

from gateway.control.guards.comparisons import GuardVerdict
from gateway.control.release.forecast import forecast, forecast_safe, progress
from gateway.control.release.stages import Event
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
    assert forecast_safe(weight_ppm, 0.01, 0.01) is None
    assert forecast(100_000, 0.01, base_rate=0) is None


def test_forecast_safe_equals_the_failures_that_reach_safety() -> None:
    found = forecast_safe(100_000, 0.01, 0.01)
    assert found is not None
    running = Running(release(comparisons=[ERRORS]))
    stable = round(found.failures * 0.9)
    running.tick(failures=running.failed(stable // 9, stable))
    log_safe = running.controller.assessment().failures.log_safe
    assert log_safe == pytest.approx(-math.log(0.01), rel=0.2)


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
