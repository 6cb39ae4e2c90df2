"""Bad traffic against a gateway of two workers: an identical candidate is kept, a harmful one is stopped."""

from pathlib import Path
from random import Random
from typing import Any

import httpx
import pytest

from loadtests import moody
from loadtests.client import Client, Seen, request
from loadtests.moody import NAME, Moods, row
from loadtests.scenarios.blame import POISON, routing
from tests.processes.flawed import metric, until
from tests.running import GatewayProcess


def request_of(*rows: list[float], timeout_us: int | None = None) -> bytes:
    return request(f"/v2/models/{NAME}/infer", moody.body(*rows, timeout_us=timeout_us))


def release(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/releases/{NAME}").json()


def gateway_with_candidate(folder: Path, candidate: Moods, weight: int) -> GatewayProcess:
    moody.place(folder / "models", Moods(), candidate)
    return GatewayProcess(folder, folder / "models", routing(weight), server={"workers": 2})


@pytest.mark.slow
def test_identical_candidate_survives_bad_traffic_and_all_figures_agree(tmp_path: Path) -> None:
    generator, seen = Random(0), Seen()
    messages = [*(request_of(*rows) for rows in POISON), request_of(row(), timeout_us=1), request_of(row())]
    with gateway_with_candidate(tmp_path, Moods(), 50) as running:
        with Client(("127.0.0.1", running.port), 8, lambda: generator.choice(messages)) as client:
            while len(seen.ms) < 3000:
                client.keep_busy(0.2, seen)
        found = release(running)
        assert found["stop"] is None
        candidate = found["versions"][1]
        outcomes = candidate["outcomes"]
        assert (candidate["errors"], outcomes["model_error"], outcomes["invalid_output"]) == (0, 0, 0)
        assert outcomes["excused"] == candidate["rescues"]["excused"] > 100
        assert (
            metric(running, "gateway_predictions_total", variant="candidate", outcome="excused") == outcomes["excused"]
        )
        short = metric(running, "gateway_unsplit_total", model=NAME, reason="deadline")
        assert short == found["unsplit"]["requests"] > 100
        assert 5 < found["unsplit"]["percent"] < 30
        (guard,) = found["guards"]
        assert guard["verdict"] != "harmful"


@pytest.mark.slow
@pytest.mark.parametrize("weight", [5, 100])
def test_hanging_candidate_is_stopped_although_clients_time_out_early(tmp_path: Path, weight: int) -> None:
    message = request_of(row(luck=0.5), timeout_us=40_000)
    with gateway_with_candidate(tmp_path, Moods(hangs=0.9), weight) as running:
        with Client(("127.0.0.1", running.port), 8, lambda: message) as client:

            def stopped() -> bool:
                client.keep_busy(0.1, Seen())
                return bool(release(running)["stopped"])

            until(stopped, "the candidate to be stopped")
        assert release(running)["stop"]["by"] in ("breaker", "errors")
