"""The attributes of a request as text."""

from typing import Any

import pytest

from gateway.routing.attributes import Attributes, accessor


@pytest.mark.parametrize(
    ("value", "text"),
    [("gold", "gold"), ("", ""), (2, "2"), (0.5, "0.5"), (True, "true"), (False, "false")],
)
def test_scalar_parameter_is_compared_as_text(value: Any, text: str) -> None:
    assert accessor(("parameters", "tier"))(Attributes(parameters={"tier": value})) == text


@pytest.mark.parametrize("value", [None, [], ["gold"], {}, {"gold": 1}])
def test_any_other_parameter_counts_as_missing(value: Any) -> None:
    assert accessor(("parameters", "tier"))(Attributes(parameters={"tier": value})) is None
    assert accessor(("parameters", "other"))(Attributes(parameters={"tier": value})) is None
