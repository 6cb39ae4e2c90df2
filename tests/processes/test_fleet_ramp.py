"""Two gateways ramp one release together, over a real Redis, also when the one that leads is suspended."""

import json
import os
import signal
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests import models
from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import body, metric, release, until
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
RAMP = {"weights": [20, 40, 60, 80, 90], "interval": "2s", "advance": "no-violation"}
SPLIT = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": "ramp"}]}
ROUTING = {"models": {"flawed": {"stable": 1, "candidate": 2, "split": SPLIT, "ramp": RAMP}}}
KNOWN = {"fleet": "gateway", "words": {"other/1": [1, 0]}, "stops": [], "sequence": 0}


def host(folder: Path, store: RedisServer, name: str) -> GatewayProcess:
    """A host that has been in the fleet before."""
    state = folder / name / "state"
    state.mkdir(parents=True)
    (state / "fleet.json").write_text(json.dumps(KNOWN))
    models.flawed(folder / name / "models", "nan")
    fleet = {"store": store.url, "lease": "3s", "host": name}  # a busy machine delays beats
    return GatewayProcess(folder / name, folder / name / "models", ROUTING, fleet=fleet)


def led_by(running: GatewayProcess) -> Any:
    fleet = httpx.get(f"{running.control_url}/api/fleet").json()["fleet"]
    return [one["leader"] for one in fleet["leaders"]]


def ramp(running: GatewayProcess) -> Any:
    return release(running)["ramp"]


def reaches(step: int, *hosts: GatewayProcess) -> None:
    """Send requests to the last one only, until all are at this step of the ramp."""

    def reached() -> bool:
        for _ in range(10):
            httpx.post(f"{hosts[-1].url}/v2/models/flawed/infer", content=body(1.0), timeout=10).raise_for_status()
        return all(ramp(one)["step"] >= step for one in hosts)

    until(reached, f"step {step}")


def advances(running: GatewayProcess) -> int:
    decisions = httpx.get(f"{running.control_url}/api/decisions").json()
    return sum(one["action"] == "advance" for one in decisions)


def test_two_gateways_ramp_together_and_one_goes_on_when_the_leader_is_suspended(tmp_path: Path) -> None:
    with RedisServer(tmp_path / "redis") as store, host(tmp_path, store, "a") as a, host(tmp_path, store, "b") as b:
        until(lambda: led_by(a) == led_by(b) and led_by(a)[0] in ("a", "b"), "there is a leader")
        old, new = (a, b) if led_by(a) == ["a"] else (b, a)
        assert [metric(one, "gateway_fleet_leader", model="flawed") for one in (old, new)] == [1, 0]
        reaches(1, old, new)
        assert advances(old) >= 1 and advances(new) == 0
        os.kill(old.pid, signal.SIGSTOP)
        try:
            until(lambda: metric(new, "gateway_fleet_leader", model="flawed") == 1, "the other one leads")
            step = ramp(new)["step"]
            assert step >= 1
            reaches(min(step + 1, 4), new)
        finally:
            os.kill(old.pid, signal.SIGCONT)
        until(lambda: led_by(old) == led_by(new) and ramp(old)["step"] == ramp(new)["step"], "the old leader follows")
        assert metric(old, "gateway_fleet_leader", model="flawed") == 0
        until(lambda: advances(old) + advances(new) == ramp(new)["step"], "each step is one decision")
