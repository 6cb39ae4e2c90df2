"""Versions that another server runs: a second gateway, in front of which a first one splits the traffic."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from tests.backends.onnx_models import doubling, place, scaling
from tests.processes.flawed import metric, until
from tests.processes.recorded import records
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
CYCLES = 200
EVERYONE = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 100}]}
BODY = {"id": "a", "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1.5, -2]}]}


def remote(models: Path, version: int, url: Any, **more: Any) -> None:
    folder = models / "doubling" / str(version)
    folder.mkdir(parents=True)
    (folder / "remote.yaml").write_text(yaml.safe_dump({"url": url, **more}))


def front(folder: Path, models: Path, candidate: int | None = 2, **more: Any) -> GatewayProcess:
    release = {"stable": 1} | ({"candidate": candidate, "split": EVERYONE} if candidate else {})
    return GatewayProcess(folder, models, {"models": {"doubling": release | more.pop("release", {})}}, **more)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GatewayProcess]:
    """Serves `doubling` in version 7, which triples."""
    models = tmp_path / "there"
    place(models, "doubling", 7, scaling(3.0))
    with GatewayProcess(tmp_path / "server", models) as server:
        yield server


def ask(gateway: GatewayProcess, **options: Any) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v2/models/doubling/infer", **({"json": BODY} | options), timeout=30)


def binary_body() -> tuple[bytes, dict[str, str]]:
    raw = np.array([[1.5, -2]], "<f4").tobytes()
    document = {
        "id": "b",
        "inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}],
        "parameters": {"binary_data_output": True},
    }
    text = json.dumps(document).encode()
    return text + raw, {"inference-header-content-length": str(len(text))}


def variant(response: httpx.Response) -> str:
    assert response.status_code == 200, response.text
    return str(response.headers["x-variant"])


def test_a_remote_candidate_beside_an_onnx_stable(tmp_path: Path, server: GatewayProcess) -> None:
    models = tmp_path / "models"
    place(models, "doubling", 1, doubling)
    remote(models, 2, server.url)
    with front(tmp_path / "front", models) as gateway:
        text = ask(gateway)
        assert variant(text) == "candidate"
        document = text.json()
        assert document["model_version"] == "2" and document["id"] == "a"
        assert document["parameters"]["variant"] == "candidate" and document["parameters"]["prediction_id"]
        assert document["outputs"][0]["data"] == [4.5, -6.0]

        body, headers = binary_body()
        raw = ask(gateway, json=None, content=body, headers=headers)
        length = int(raw.headers["inference-header-content-length"])
        head = json.loads(raw.content[:length])
        assert head["model_version"] == "2" and head["id"] == "b"
        assert np.frombuffer(raw.content[length:], "<f4").tolist() == [4.5, -6.0]

        httpx.post(f"{gateway.control_url}/api/releases/doubling/stop", json={"reason": "test"}).raise_for_status()
        stopped = ask(gateway)
        assert variant(stopped) == "stable" and stopped.json()["outputs"][0]["data"] == [3.0, -4.0]
    lines = records(tmp_path / "front")
    assert [line["version"] for line in lines] == [2, 2, 1]
    for line in lines[:2]:
        assert line["model_sha256"] is None
        assert line["remote"] == server.url and line["remote_version"] == "7" and line["remote_model"] == "doubling"
    assert lines[2]["model_sha256"] and "remote" not in lines[2]


def test_a_candidate_whose_server_is_killed_under_load_costs_no_request(tmp_path: Path, server: GatewayProcess) -> None:
    models = tmp_path / "models"
    place(models, "doubling", 1, doubling)
    remote(models, 2, server.url)
    with front(tmp_path / "front", models, release={"guards": {"breaker": {"consecutive_failures": 1000}}}) as gateway:
        seen: Counter[str] = Counter()
        ended = threading.Event()

        def load() -> None:
            with httpx.Client(timeout=30) as client:
                while not ended.is_set():
                    answer = client.post(f"{gateway.url}/v2/models/doubling/infer", json=BODY)
                    assert answer.status_code == 200, answer.text
                    right = [4.5, -6.0] if answer.headers["x-variant"] == "candidate" else [3.0, -4.0]
                    assert answer.json()["outputs"][0]["data"] == right
                    seen[answer.headers["x-variant"]] += 1

        failed: list[BaseException] = []

        def watched() -> None:
            try:
                load()
            except BaseException as error:
                failed.append(error)

        threads = [threading.Thread(target=watched) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: seen["candidate"] > 200, "answers of the candidate")
        server.stop()
        until(lambda: seen["stable"] > 200, "answers of stable in its place")
        with server:
            before = seen["candidate"]
            until(lambda: seen["candidate"] > before + 100, "answers of the candidate after its return")
            ended.set()
            for thread in threads:
                thread.join()
        assert not failed
        assert metric(gateway, "gateway_rescues_total", model="doubling", reason="unavailable") > 0


def test_an_onnx_candidate_beside_a_remote_stable(tmp_path: Path, server: GatewayProcess) -> None:
    models = tmp_path / "models"
    remote(models, 1, server.url)
    place(models, "doubling", 2, doubling)
    with front(tmp_path / "front", models) as gateway:
        assert ask(gateway).json()["outputs"][0]["data"] == [3.0, -4.0]
        nan = BODY | {"inputs": [{**BODY["inputs"][0], "data": [3e38, 1]}]}  # type: ignore[dict-item]
        rescued = ask(gateway, json=nan)  # infinite for both, so stable's answer is sent
        assert variant(rescued) == "stable"
        assert rescued.json()["outputs"][0]["data"] == ["Infinity", 3.0]
        body, headers = binary_body()
        pinned = httpx.post(f"{gateway.url}/v2/models/doubling/versions/1/infer", content=body, headers=headers)
        length = int(pinned.headers["inference-header-content-length"])
        assert np.frombuffer(pinned.content[length:], "<f4").tolist() == [4.5, -6.0]
        wrong = ask(gateway, json=BODY | {"inputs": [{**BODY["inputs"][0], "name": "z"}]})  # type: ignore[dict-item]
        assert wrong.status_code == 400 and "z" in wrong.json()["error"]


def test_a_stable_version_whose_server_comes_late(tmp_path: Path, server: GatewayProcess) -> None:
    server.stop()
    models = tmp_path / "models"
    remote(models, 1, server.url)
    place(models, "other", 1, doubling)
    with front(tmp_path / "front", models, candidate=None) as gateway:
        ready = f"{gateway.url}/v2/models/doubling/ready"
        assert httpx.get(ready).status_code == 503
        assert ask(gateway).status_code == 503
        assert httpx.get(f"{gateway.url}/v2/models/other/ready").status_code == 200
        with server:
            until(lambda: httpx.get(ready).status_code == 200, "the model to be ready")
            assert ask(gateway).json()["outputs"][0]["data"] == [4.5, -6.0]
        until(lambda: ask(gateway).status_code == 503, "its absence to be seen")
        until(lambda: httpx.get(ready).status_code == 503, "the model not to be ready")
    assert "Traceback" not in gateway.log


def test_stops_and_resumes_of_a_remote_candidate(tmp_path: Path, server: GatewayProcess) -> None:
    """After `stop` has returned, no answer is the candidate's, over 200 cycles under load."""
    models = tmp_path / "models"
    place(models, "doubling", 1, doubling)
    remote(models, 2, server.url)
    with front(tmp_path / "front", models) as gateway:
        ended = threading.Event()
        failed: list[str] = []
        late: list[str] = []
        phase = [0]  # odd: stopped
        answered: Counter[int] = Counter()

        def load() -> None:
            with httpx.Client(timeout=30) as client:
                while not ended.is_set():
                    before = phase[0]
                    answer = client.post(f"{gateway.url}/v2/models/doubling/infer", json=BODY)
                    if answer.status_code != 200:
                        failed.append(answer.text)
                    if before == phase[0]:
                        answered[before] += 1
                        if before % 2 and answer.headers["x-variant"] == "candidate":
                            late.append(answer.text)

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        order = f"{gateway.control_url}/api/releases/doubling/"
        with httpx.Client(timeout=30) as client:
            for _ in range(CYCLES):
                assert client.post(f"{order}stop", json={"reason": "cycle"}).status_code == 200
                phase[0] += 1
                until(lambda: answered[phase[0]] > 2, "answers while it is stopped")
                phase[0] += 1
                assert client.post(f"{order}resume", json={"reason": "cycle"}).status_code == 200
                until(lambda: answered[phase[0]] > 2, "answers while it runs")
        ended.set()
        for thread in threads:
            thread.join()
        assert not failed and not late
