"""What a decision costs, for the record: figures are printed, and only the answers are asserted."""

from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from gateway.routing.attributes import Attributes
from gateway.routing.release import Release
from gateway.settings.routing import ReleaseSettings

THOUSAND_ROUTES: list[dict[str, Any]] = [
    {"name": f"r{index}", "match": [match], "weight": 50}
    for index in range(250)
    for match in (
        {"customer": f"c{index}"},
        {"customer": {"prefix": f"p{index}-"}},
        {"modality": "image", "headers": {"x-region": {"exact": f"region-{index}"}}},
        {"modality": "image", "parameters": {"tier": {"suffix": f"-{index}"}}},
    )
]
for position, route in enumerate(THOUSAND_ROUTES):
    route["name"] = f"r{position}"
MANY = {"name": "many", "match": [{"customer": {"in": [f"c{index}" for index in range(100_000)]}}], "weight": 50}
FEW = [
    {"name": "pilot", "match": [{"customer": {"in": ["acme", "globex"]}}], "weight": 100},
    {"name": "eu", "match": [{"modality": "image", "headers": {"x-region": {"prefix": "eu-"}}}], "weight": 10},
    {"name": "everyone", "weight": 5},
]


@pytest.mark.parametrize(
    ("routes", "attributes", "expected"),
    [
        (FEW, Attributes("joe", "image", {"x-region": "us-1"}), "everyone"),
        (THOUSAND_ROUTES, Attributes("c200", "image", {"x-region": "none"}), "r800"),
        (THOUSAND_ROUTES, Attributes("joe", "image", {"x-region": "region-249"}), "r998"),
        ([MANY], Attributes("c99999"), "many"),
    ],
    ids=["few routes", "a thousand routes, customer", "a thousand routes, region", "100,000 customers"],
)
def test_a_decision(benchmark: BenchmarkFixture, routes: list[Any], attributes: Attributes, expected: str) -> None:
    settings = {"stable": 1, "candidate": 2, "split": {"routes": routes}}
    release = Release("m", ReleaseSettings.model_validate(settings))
    assert benchmark(release.decide, attributes, "p-1").route == expected
