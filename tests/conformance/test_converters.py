"""Versions of one model written by different converters stay interchangeable, whatever their files declare."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.backends.labelling import FLOAT, WEIGHTS, X, forest, model, node
from tests.backends.onnx_models import place
from tests.running import GatewayProcess

CANARY: Any = {"stable": 1, "candidate": 2, "split": {"routes": [{"name": "all", "weight": 100}]}}
Y: Any = {"y": (FLOAT, ["n", 5])}
WEIGHED: Any = {**X, "w": (FLOAT, [8, 5]), "bias": (FLOAT, [5])}
NODES = [node("MatMul", "x w", "product"), node("Add", "product bias", "y")]
BIAS = np.arange(5, dtype=np.float32)


def plain_weights(path: Path) -> Path:
    """The same as the version whose weights are inputs too, with other names."""
    nodes = [node("MatMul", "x matrix", "product"), node("Add", "product bias", "y")]
    return model(nodes, {"matrix": WEIGHTS, "bias": BIAS}, outputs=Y)(path)


def weighed(path: Path) -> Path:
    return model(NODES, {"w": WEIGHTS, "bias": BIAS}, inputs=WEIGHED, outputs=Y)(path)


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("converters")
    versions = {
        "trees": (forest(), forest([1], [1, 3])),
        "unsaid": (forest([1], [1, 3]), forest(None, None)),
        "weights": (weighed, plain_weights),
        "turned": (plain_weights, weighed),
    }
    for name, (stable, candidate) in versions.items():
        place(folder / "models", name, 1, stable)
        place(folder / "models", name, 2, candidate)
        (folder / "models" / name / "model.yaml").write_text("batching: {max_delay: 20ms}\n")
    with GatewayProcess(folder, folder / "models", {"models": dict.fromkeys(versions, CANARY)}) as running:
        yield running
    assert "Traceback" not in running.log


@pytest.fixture
def client(gateway: GatewayProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        yield client


def tensor(name: str, values: Any) -> dict[str, Any]:
    array = np.asarray(values, np.float32)
    return {"name": name, "shape": list(array.shape), "datatype": "FP32", "data": array.ravel().tolist()}


def infer(client: httpx.Client, name: str, *tensors: dict[str, Any]) -> Any:
    answer = client.post(f"/v2/models/{name}/infer", json={"inputs": list(tensors)})
    assert answer.status_code == 200, answer.text
    return answer.json()


def rows(count: int) -> Any:
    return np.random.default_rng(count).standard_normal((count, 8)).astype(np.float32)


@pytest.mark.parametrize("name", ["trees", "unsaid"])
def test_candidate_with_other_declared_shapes_answers_all_requests(client: httpx.Client, name: str) -> None:
    for count in (5, 1, 5, 2, 5, 7, 5, 5, 32, 40):
        answer = infer(client, name, tensor("x", rows(count)))
        assert (answer["model_version"], answer["parameters"]["variant"]) == ("2", "candidate")
        assert [output["shape"] for output in answer["outputs"]] == [[count], [count, 3]]


@pytest.mark.parametrize("name", ["trees", "unsaid"])
@pytest.mark.parametrize("version", [1, 2])
def test_metadata_has_the_shapes_of_real_outputs(client: httpx.Client, name: str, version: int) -> None:
    label, scores = client.get(f"/v2/models/{name}/versions/{version}").json()["outputs"]
    assert label["shape"] == [-1]
    assert scores["shape"] in ([-1, 3], [-1, -1])


@pytest.mark.parametrize("name", ["weights", "turned"])
def test_initializers_are_not_listed_as_inputs(client: httpx.Client, name: str) -> None:
    for version in (1, 2):
        inputs = client.get(f"/v2/models/{name}/versions/{version}").json()["inputs"]
        assert inputs == [{"name": "x", "datatype": "FP32", "shape": [-1, 8]}]
    x = rows(3)
    answer = infer(client, name, tensor("x", x))
    assert answer["model_version"] == "2", "the candidate is not refused"
    assert answer["outputs"][0]["data"] == pytest.approx((x @ WEIGHTS + BIAS).ravel().tolist(), rel=1e-4, abs=1e-5)
    refused = client.post(f"/v2/models/{name}/infer", json={"inputs": [tensor("typo", x)]})
    assert refused.json()["error"].endswith("the model's inputs are 'x' (FP32 [-1, 8])")


def test_request_that_overrides_stable_weights_is_answered_by_stable(client: httpx.Client) -> None:
    """The candidate has no such weights, and the client made no mistake."""
    x, bias = rows(2), np.full(5, 100, np.float32)
    for tensors in ([tensor("x", x), tensor("bias", bias)], [tensor("bias", bias), tensor("x", x)]):
        answer = infer(client, "weights", *tensors)
        assert answer["model_version"] == "1"
        assert answer["outputs"][0]["data"] == pytest.approx((x @ WEIGHTS + bias).ravel().tolist(), rel=1e-4)
    missing = client.post("/v2/models/weights/infer", json={"inputs": [tensor("bias", bias)]})
    assert missing.json()["error"] == "input 'x' is missing; send it as FP32 [-1, 8]"


def test_overridden_weights_do_not_affect_requests_in_the_same_batch(client: httpx.Client) -> None:
    """Requests with and without weights of their own at the same moment, on a version that waits to fill batches."""

    def ask(number: int) -> bool:
        x = rows(1 + number % 3)
        bias = np.full(5, number, np.float32) if number % 2 else BIAS
        more = [tensor("bias", bias)] if number % 2 else []
        path = "/v2/models/weights/versions/1/infer"
        answer = client.post(path, json={"inputs": [*more, tensor("x", x)]})
        found = np.array(answer.json()["outputs"][0]["data"]).reshape(-1, 5)
        return bool(np.allclose(found, x @ WEIGHTS + bias, rtol=1e-4, atol=1e-4))

    with ThreadPoolExecutor(16) as threads:
        assert all(threads.map(ask, range(64)))
    stats = client.get("/v2/models/weights/versions/1/stats").json()["model_stats"][0]
    assert max(batch["batch_size"] for batch in stats["batch_stats"]) > 1, "those without weights of their own share"
