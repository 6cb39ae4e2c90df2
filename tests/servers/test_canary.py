"""A canary between models of real servers, and between theirs and ONNX models of the gateway's own."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.backends import onnx_models
from tests.conformance.test_tritonclient import ask
from tests.conformance.test_tritonclient import triton as client_module
from tests.processes.flawed import until
from tests.processes.recorded import records
from tests.running import GatewayProcess
from tests.servers.process import ServerProcess
from tests.servers.remote import place_remote

pytestmark = pytest.mark.slow
HALF = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
ROUTING = {"models": {"scaling": {"stable": 1, "candidate": 2, "split": HALF}}}
X = np.array([[1, 2], [3, 4]], np.float32)
Place = Callable[[Path, ServerProcess, int], None]


def by_triton(repository: Path, server: ServerProcess, version: int) -> None:
    place_remote(repository, "scaling", version, server.url, version=version)


def tripling(path: Path) -> Path:
    """y = x + x + x on [n, 2]."""
    node = onnx_models.helper.make_node("Sum", ["x", "x", "x"], ["y"])
    shape = (onnx_models.FLOAT, ["n", 2])
    return onnx_models.save(path, [node], {"x": shape}, {"y": shape})


def by_onnx(repository: Path, _: ServerProcess, version: int) -> None:
    onnx_models.place(repository, "scaling", version, {1: onnx_models.doubling, 2: tripling}[version])


@pytest.fixture(
    params=[(by_triton, by_triton), (by_onnx, by_triton), (by_triton, by_onnx)],
    ids=["triton-triton", "onnx-triton", "triton-onnx"],
)
def canary(request: pytest.FixtureRequest, triton: ServerProcess, tmp_path: Path) -> Iterator[GatewayProcess]:
    """Stable doubles and the candidate triples."""
    for version, place in enumerate(request.param, start=1):
        place(tmp_path / "models", triton, version)
    with GatewayProcess(tmp_path, tmp_path / "models", ROUTING) as gateway:
        yield gateway


@pytest.mark.parametrize("binary", [False, True], ids=["json", "binary"])
def test_each_answer_is_of_the_version_that_it_names(canary: GatewayProcess, tmp_path: Path, binary: bool) -> None:
    variants = []
    with client_module.InferenceServerClient(canary.address) as client:
        for number in range(40):
            asked = ask(client_module, "scaling", "FP32", X, binary, binary, request_id=str(number))
            answer = client.infer(**asked)
            head = answer.get_response()
            assert (head["model_name"], head["id"]) == ("scaling", str(number))
            variant = head["parameters"]["variant"]
            factor = {"stable": 2, "candidate": 3}[variant]
            assert head["model_version"] == str(factor - 1)
            assert np.array_equal(answer.as_numpy("y"), X * factor)
            variants.append(variant)
    assert set(variants) == {"stable", "candidate"}
    until(lambda: len(records(tmp_path)) == 40, "all of them recorded")
    told = [(record["variant"], record["version"], record["outcome"]) for record in records(tmp_path)]
    assert sorted(told) == sorted((name, {"stable": 1, "candidate": 2}[name], "ok") for name in variants)


def test_a_stop_leaves_every_answer_to_stable(canary: GatewayProcess) -> None:
    body = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}
    with httpx.Client(base_url=canary.control_url) as control, httpx.Client(base_url=canary.url) as client:

        def answer() -> Any:
            return client.post("/v2/models/scaling/infer", json=body).json()["outputs"][0]["data"]

        until(lambda: answer() == [3, 6], "an answer of the candidate")
        control.post("/api/releases/scaling/stop", json={"reason": "a test"}).raise_for_status()
        assert [answer() for _ in range(30)] == [[2, 4]] * 30
