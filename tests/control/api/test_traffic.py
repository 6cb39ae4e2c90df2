"""GET /api/traffic: counts of an hour, a day and the release that go on after a restart; routes and customers."""

from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes.flawed import body, gateway, until
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow


def traffic(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/releases/flawed/traffic").json()


def predict(running: GatewayProcess, count: int, first: float = 1.0) -> None:
    with httpx.Client(base_url=running.url) as client:
        for number in range(count):
            headers = {"x-customer-id": f"customer-{number % 2}"}
            assert client.post("/v2/models/flawed/infer", content=body(first), headers=headers).status_code == 200


def requests(document: Any, period: str) -> int:
    return sum(int(version[period]["requests"]) for version in document["versions"])


def test_traffic_goes_on_after_a_restart(tmp_path: Path) -> None:
    with gateway(tmp_path) as started:
        predict(started, 40)
        until(lambda: traffic(started)["counted"] == 40, "the records")
        before = traffic(started)
        assert [requests(before, period) for period in ("hour", "day", "release")] == [40, 40, 40]
        assert httpx.get(f"{started.control_url}/api/traffic").json()[0]["model"] == "flawed"
        assert [(one["name"], one["requests"], one["too_many"]) for one in before["routes"]] == [("everyone", 40, 0)]
        assert {one["name"]: one["requests"] for one in before["customers"]} == {"customer-0": 20, "customer-1": 20}
        candidate = before["versions"][1]["release"]["requests"]
        assert candidate == before["routes"][0]["candidate_requests"] > 0
    with gateway(tmp_path) as again:
        until(lambda: requests(traffic(again), "release") == 40, "what was saved is read")
        after = traffic(again)
        assert after["versions"] == before["versions"]
        assert after["since_time_s"] == before["since_time_s"]
        predict(again, 5)
        until(lambda: requests(traffic(again), "release") == 45, "the later ones")
        assert httpx.get(f"{again.control_url}/api/releases/nothing/traffic").status_code == 404
