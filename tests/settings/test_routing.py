"""What a release's settings say of themselves."""

from typing import Any

import pytest

from gateway.settings.routing import ReleaseSettings

RAMPED, FIXED = {"name": "everyone", "weight": "ramp"}, {"name": "everyone", "weight": 10}
ERRORS = {"name": "errors", "metric": "failures"}
SLOW = {"name": "slow", "metric": "slow_requests", "threshold": "1s"}


@pytest.mark.parametrize(
    ("route", "comparison", "compared"),
    [(RAMPED, None, True), (RAMPED, SLOW, True), (FIXED, ERRORS, True), (FIXED, SLOW, False), (FIXED, None, False)],
)
def test_failures_are_compared_for_a_guard_and_for_a_ramp(
    route: dict[str, Any], comparison: dict[str, Any] | None, compared: bool
) -> None:
    guards = {"comparisons": [comparison] if comparison else []}
    said = {"stable": 1, "candidate": 2, "ramp": {}, "split": {"routes": [route]}, "guards": guards}
    assert ReleaseSettings.model_validate(said).failures_compared is compared
