"""What setting a route's weight ends besides."""

from typing import Any

import pytest

from gateway.control.config.edit_notes import weight_notes
from gateway.settings.routing import ReleaseSettings


def release(**weights: Any) -> ReleaseSettings:
    """Its routes with these weights."""
    routes = [{"name": name, "match": [{"customer": name}], "weight": weight} for name, weight in weights.items()]
    document = {"stable": 1, "candidate": 2, "ramp": {"weights": [1, 100]}, "split": {"routes": routes}}
    return ReleaseSettings.model_validate(document)


@pytest.mark.parametrize(
    ("weights", "says"),
    [
        ({"a": "ramp", "b": 5}, "this ends the ramp of m: no other route follows it"),
        ({"a": "ramp", "b": "ramp", "c": "ramp"}, "route a leaves the ramp, which goes on for b, c"),
        ({"a": 5, "b": "ramp"}, ""),
        ({"b": "ramp"}, ""),
    ],
)
def test_route_that_leaves_the_ramp_is_told(weights: dict[str, Any], says: str) -> None:
    notes = weight_notes("m", release(**weights), "a")
    assert len(notes) == bool(says) and "".join(notes).startswith(says)


def test_release_without_a_split_has_no_ramp_to_leave() -> None:
    assert weight_notes("m", ReleaseSettings(stable=1), "a") == []
