"""When hosts take a release's settings for the same."""

from typing import Any

import pytest

from gateway.control.fleet.release_place import fingerprint
from gateway.settings.routing import ReleaseSettings

SETTINGS: dict[str, Any] = {
    "stable": 1,
    "candidate": 2,
    "split": {"salt": "s", "routes": [{"name": "a", "weight": "ramp"}, {"name": "b", "weight": 5}]},
    "ramp": {"weights": [1, 5, 25], "interval": "10m"},
    "guards": {"comparisons": [{"name": "e", "metric": "failures"}, {"name": "w", "metric": "wrong_feedback"}]},
}


def of(**more: Any) -> str:
    return fingerprint(ReleaseSettings.model_validate(SETTINGS | more))


def test_settings_are_those_that_the_release_before_makes_of_them() -> None:
    """Else hosts of two releases would not take part in each other's ramps. A change needs a new protocol."""
    assert of() == "a7c8054ba6370cede00d622d"


@pytest.mark.parametrize("more", [{"candidate": 3}, {"mirror": {"weight": 5}}, {"ramp": {"weights": [1, 5, 26]}}])
def test_other_settings_are_told_apart(more: dict[str, Any]) -> None:
    assert of(**more) != of()


def test_where_the_versions_come_from_makes_no_difference() -> None:
    assert of(registry="digits") == of()
