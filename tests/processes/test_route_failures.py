"""A candidate that fails on one route alone is shown to be worse there, and nowhere else."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.routing.buckets import bucket_of
from loadtests import models
from tests.processes.flawed import body, until
from tests.processes.test_commands import command
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
NAME = "flawed"
CANDIDATE_FAILS, BOTH_FAIL = -1.0, 3e38  # NaN, and twice as much is no finite number
HURT_PPM, REST_PPM = 500_000, 200_000
ROUTES = [
    {"name": "hurt", "match": [{"headers": {"x-group": {"in": ["hurt"]}}}], "weight": 50},
    {"name": "rest", "weight": 20},
]
RELEASE = {
    "stable": 1,
    "candidate": 2,
    "split": {"stickiness": "customer", "salt": "fixed", "routes": ROUTES},
    "guards": {
        "breaker": {"consecutive_failures": 1_000_000},
        "comparisons": [{"name": "errors", "metric": "failures", "action": "pause"}],  # there is no ramp to pause
    },
}


RAMPED = {
    **RELEASE,
    "split": {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": "ramp"}]},
    "ramp": {"weights": [50], "interval": "1h"},
    "guards": {"breaker": {"consecutive_failures": 1_000_000}},
}


def ask(client: httpx.Client, group: str, customer: str, first: float) -> None:
    headers = {"x-group": group, "x-customer-id": customer}
    client.post(f"/v2/models/{NAME}/infer", content=body(first), headers=headers).raise_for_status()


def drawn(customers: list[str], weight_ppm: int) -> list[int]:
    """How many of them the candidate has, and stable."""
    candidates = sum(bucket_of("fixed", one) < weight_ppm for one in customers)
    return [candidates, len(customers) - candidates]


def failures(document: dict[str, Any]) -> dict[str | None, dict[str, Any]]:
    return {one["route"]: one for one in document["effects"] if one["metric"] == "failures"}


def units(effect: dict[str, Any]) -> list[int]:
    return [effect["candidate_units"], effect["stable_units"]]


def test_only_the_route_whose_candidate_fails_shows_it(tmp_path: Path) -> None:
    """On it each customer asks twice: its second failure is no evidence. Who fails is certain, as the salt is."""
    models.flawed(tmp_path / "models", "nan")
    hurt, rest = ([f"{group} {number}" for number in range(count)] for group, count in (("hurt", 60), ("rest", 150)))
    rules = {"models": {NAME: RELEASE}}
    with GatewayProcess(tmp_path, tmp_path / "models", rules) as running:
        page = f"{running.control_url}/api/releases/{NAME}"

        def shown() -> dict[str | None, dict[str, Any]]:
            return failures(httpx.get(page).json())

        with httpx.Client(base_url=running.url) as client:
            for one in hurt * 2:
                ask(client, "hurt", one, CANDIDATE_FAILS)
            for one in rest:
                ask(client, "rest", one, BOTH_FAIL)
        expected = {"hurt": [drawn(hurt, HURT_PPM)[0], 0], "rest": drawn(rest, REST_PPM)}
        whole = [sum(both) for both in zip(*expected.values(), strict=True)]
        until(lambda: [units(one) for route, one in shown().items() if route is None] == [whole], "all are counted")
        found = shown()
        assert {route: units(effect) for route, effect in found.items()} == {None: whole, **expected}
        verdicts = {route: effect["verdict"] for route, effect in found.items()}
        assert verdicts == {None: "not known yet", "hurt": "worse", "rest": "not known yet"}
        assert found["hurt"]["low"] > 0 and found["rest"]["low"] < 0 < found["rest"]["high"]
        told = command(running.config, "status", NAME).stdout.splitlines()
        rows = [[cell.strip() for cell in line.split("│")[1:5]] for line in told]
        assert [row for row in rows if row[:1] == ["failures"]] == [
            ["failures", "", f"n={whole[1]}", f"n={whole[0]}"],
            ["failures", "hurt", "n=0", f"n={expected['hurt'][0]}"],
        ]
        promoted = command(running.config, "promote", NAME, "--reason", "seen")
        assert promoted.returncode == 0, promoted.stderr
        (decision, *_) = httpx.get(f"{running.control_url}/api/decisions?model={NAME}").json()
        kept = failures(decision["evidence"])
        assert kept.keys() == {None, "hurt"}, json.dumps(kept)
        assert kept["hurt"] == found["hurt"]


def test_failures_of_both_versions_are_counted_for_a_ramp_without_a_comparison(tmp_path: Path) -> None:
    """Its steps depend on how often both fail, so that stable's answers are looked at, too."""
    models.flawed(tmp_path / "models", "nan")
    with GatewayProcess(tmp_path, tmp_path / "models", {"models": {NAME: RAMPED}}) as running:
        page = f"{running.control_url}/api/releases/{NAME}"
        with httpx.Client(base_url=running.url) as client:
            for _ in range(60):
                ask(client, "rest", "anyone", BOTH_FAIL)

        def counted() -> list[int]:
            return [sum(units(one)) for one in failures(httpx.get(page).json()).values()]

        until(lambda: counted() == [60], "both versions' failures are counted")
        document = httpx.get(page).json()
        assert [(guard["metric"], guard["action"]) for guard in document["guards"]] == [("failures", "none")]
        assert min(units(failures(document)[None])) > 10, "some 30 of each"
