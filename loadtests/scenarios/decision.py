"""What one routing decision costs with few routes, with 1,000 routes and with 100,000 listed customers."""

import time
from pathlib import Path
from statistics import median
from typing import Any

from gateway.routing.attributes import Attributes
from gateway.routing.release import Release
from gateway.settings.routing import ReleaseSettings
from loadtests.report import Line, report

LIMIT_US = 3.0
CALLS = 2000
FEW: list[dict[str, Any]] = [
    {"name": "pilot", "match": [{"customer": {"in": ["acme", "globex"]}}], "weight": 100},
    {"name": "eu", "match": [{"modality": "image", "headers": {"x-region": {"prefix": "eu-"}}}], "weight": 10},
    {"name": "everyone", "weight": 5},
]
THOUSAND = [
    {"name": f"r{kind}-{index}", "match": [match], "weight": 50}
    for index in range(250)
    for kind, match in enumerate(
        (
            {"customer": f"c{index}"},
            {"customer": {"prefix": f"p{index}-"}},
            {"modality": "image", "headers": {"x-region": f"region-{index}"}},
            {"modality": "image", "parameters": {"tier": {"suffix": f"-{index}"}}},
        )
    )
]
LISTED = [{"name": "many", "match": [{"customer": {"in": [f"c{index}" for index in range(100_000)]}}], "weight": 50}]
CASES = {
    "3 routes, the last matches": (FEW, Attributes("joe", "image", {"x-region": "us-1"})),
    "1,000 routes, by customer": (THOUSAND, Attributes("c200", "image", {"x-region": "none"})),
    "1,000 routes, by header": (THOUSAND, Attributes("joe", "image", {"x-region": "region-249"})),
    "1,000 routes, none matches": (THOUSAND, Attributes("joe", "text")),
    "100,000 customers, listed": (LISTED, Attributes("c99999")),
    "100,000 customers, not listed": (LISTED, Attributes("joe")),
}


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Medians over rounds; the reference is the limit itself."""
    lines = []
    for name, (routes, attributes) in CASES.items():
        release = Release(
            "m", ReleaseSettings.model_validate({"stable": 1, "candidate": 2, "split": {"routes": routes}})
        )
        costs = [median(_cost_us(release, attributes) for _ in range(20)) for _ in range(rounds)]
        lines.append(Line(name, "µs", [LIMIT_US] * rounds, costs, 1.0, False))
    return report("decision", lines)


def _cost_us(release: Release, attributes: Attributes) -> float:
    start = time.perf_counter()
    for _ in range(CALLS):
        release.decide(attributes, "prediction-1")
    return (time.perf_counter() - start) / CALLS * 1e6
