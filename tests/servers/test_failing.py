"""Triton killed, suspended and started again under load: as the candidate it costs no request, as stable no gateway."""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from loadtests.client import Client, request
from loadtests.recorded import Told
from tests.backends import onnx_models
from tests.processes.flawed import until
from tests.processes.recorded import assert_all_are_recorded_once
from tests.running import GatewayProcess
from tests.servers import triton
from tests.servers.process import ServerProcess
from tests.servers.remote import place_remote
from tests.servers.triton import Scaling, TritonProcess

pytestmark = pytest.mark.slow
CONNECTIONS: Final = 8
HALF: Final = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
TOLERANT: Final = {"breaker": {"consecutive_failures": 1000000}}
ROW: Final = b'{"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}'


@pytest.fixture
def server(tmp_path: Path) -> Iterator[TritonProcess]:
    """Triples, on two instances, in 2 ms, so that it is always asked something when it dies."""
    triton.place(tmp_path / "triton", "scaling", Scaling(factor=3, width=2, delay_s=0.002, instances=2))
    with TritonProcess(tmp_path / "server", tmp_path / "triton") as running:
        assert isinstance(running, TritonProcess)
        yield running


def gateway(folder: Path, server: ServerProcess, **release: Any) -> GatewayProcess:
    """Two workers; ONNX doubles as stable, Triton triples as the candidate, which gets half of the traffic."""
    onnx_models.place(folder / "models", "scaling", 1, onnx_models.doubling)
    place_remote(folder / "models", "scaling", 2, server.url, version=1)
    routing = {"models": {"scaling": {"stable": 1, "candidate": 2, "split": HALF, **release}}}
    return GatewayProcess(folder, folder / "models", routing, server={"workers": 2})


def stopped(running: GatewayProcess) -> bool:
    return bool(httpx.get(f"{running.control_url}/api/releases/scaling").json()["stopped"])


def candidates(client: Client, told: Told) -> int:
    """How many answers of the candidate there are in another tenth of a second."""
    before = told.variants["candidate"]
    client.keep_busy(0.1, told)
    return told.variants["candidate"] - before


def answers(server: ServerProcess) -> bool:
    """Whether it does, asked past the gateway. Triton may not survive being suspended: it aborts itself if a lock of
    its own has timed out meanwhile.
    """
    for _ in range(5):
        with suppress(httpx.TransportError):
            return httpx.post(f"{server.url}/v2/models/scaling/infer", content=ROW, timeout=2).status_code == 200
    return False


@pytest.mark.parametrize("guards, kills", [({}, 1), (TOLERANT, 3)], ids=["once", "three-times"])
def test_candidate_killed_under_load_costs_no_request(
    tmp_path: Path, server: TritonProcess, guards: dict[str, Any], kills: int
) -> None:
    """It is not stopped for one death, and gets its share again once its server is back."""
    sent, told = request("/v2/models/scaling/infer", ROW), Told()
    with gateway(tmp_path, server, guards=guards) as running:
        with Client(("127.0.0.1", running.port), CONNECTIONS, lambda: sent) as client:
            until(lambda: candidates(client, told) > 0, "the candidate's first answer")
            for _ in range(kills):
                client.send()
                server.kill()
                client.keep_busy(0.5, told)
                assert not candidates(client, told)
                server.start()
                until(lambda: candidates(client, told) > 0, "the candidate's answer after its server's return")
            assert not stopped(running)
        assert not told.failures
    assert_all_are_recorded_once(tmp_path, told)
    assert "Traceback" not in running.log


def test_candidate_suspended_under_load_costs_no_request(tmp_path: Path, server: TritonProcess) -> None:
    sent, told = request("/v2/models/scaling/infer", ROW), Told()
    with gateway(tmp_path, server, guards=TOLERANT, rescue={"timeout": "100ms"}) as running:
        with Client(("127.0.0.1", running.port), CONNECTIONS, lambda: sent) as client:
            until(lambda: candidates(client, told) > 0, "the candidate's first answer")
            client.send()
            server.suspend()
            client.keep_busy(1.0, told)
            server.go_on()
            if not answers(server):
                server.kill()
                server.start()
            until(lambda: stopped(running) or candidates(client, told) > 0, "an answer after its server's return")
            assert not stopped(running), httpx.get(f"{running.control_url}/api/releases/scaling").text
        assert not told.failures
    assert_all_are_recorded_once(tmp_path, told)


def test_stable_that_is_down_is_not_ready_while_the_gateway_is(tmp_path: Path, server: TritonProcess) -> None:
    place_remote(tmp_path / "models", "scaling", 1, server.url)
    onnx_models.place(tmp_path / "models", "doubling", 1, onnx_models.doubling)
    with (
        GatewayProcess(tmp_path, tmp_path / "models", server={"workers": 2}) as running,
        httpx.Client(base_url=running.url) as client,
    ):

        def status(path: str) -> int:
            return client.get(path).status_code

        def asked(model: str) -> httpx.Response:
            return client.post(f"/v2/models/{model}/infer", content=ROW)

        assert asked("scaling").json()["outputs"][0]["data"] == [3, 6]
        server.kill()

        def not_ready() -> bool:
            return asked("scaling").status_code == 503 and status("/v2/models/scaling/ready") != 200

        until(not_ready, "the model is not ready")
        assert (status("/v2/health/ready"), status("/v2/models/doubling/ready")) == (200, 200)
        assert asked("doubling").status_code == 200
        server.start()
        until(lambda: status("/v2/models/scaling/ready") == 200, "the model is ready")
        until(lambda: asked("scaling").status_code == 200, "an answer")


def test_gateway_that_starts_before_its_stables_server_serves_it_later(tmp_path: Path, server: TritonProcess) -> None:
    server.kill()
    place_remote(tmp_path / "models", "scaling", 1, server.url)
    onnx_models.place(tmp_path / "models", "doubling", 1, onnx_models.doubling)
    with GatewayProcess(tmp_path, tmp_path / "models") as running:
        assert httpx.get(f"{running.url}/v2/models/scaling/ready").status_code != 200
        server.start()
        until(lambda: httpx.post(f"{running.url}/v2/models/scaling/infer", content=ROW).status_code == 200, "an answer")
