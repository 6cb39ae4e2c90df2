"""No thread can be started when one is needed: the request is refused with the reason, and the next one answered."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends import onnx_models
from tests.processes.flawed import kill, metric, until, workers
from tests.running import GatewayProcess
from tests.wire import LONG

pytestmark = pytest.mark.slow

# Threads with these names cannot be started while the file exists.
NONE = """
import os, sys, threading

names, file = os.environ["NO_THREADS"].split(","), os.environ["NO_THREADS_WHILE"]
start = threading.Thread.start

def started(thread):
    if os.path.exists(file) and thread.name.startswith(tuple(names)):
        raise RuntimeError("can't start new thread")
    start(thread)

threading.Thread.start = started
"""
SPLIT = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 100}]}
ROWS = 100_000
Scarce = Callable[..., GatewayProcess]


@pytest.fixture
def scarce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scarce:
    """A gateway with few threads: while a file `none` exists, threads with the given names cannot be started."""
    folder = tmp_path / "patch"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(NONE)

    def made(*names: str, routing: Any = None, **settings: Any) -> GatewayProcess:
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), os.getcwd()]))
        monkeypatch.setenv("NO_THREADS", ",".join(names))
        monkeypatch.setenv("NO_THREADS_WHILE", str(tmp_path / "none"))
        for number in (1, 2):
            version = tmp_path / "models" / "m" / str(number)
            version.mkdir(parents=True)
            onnx_models.looping(version / "model.onnx")
        onnx_models.doubling(tmp_path / "models" / "short" / "1" / "model.onnx")
        routing = routing or {"models": {"m": {"stable": 1}}}
        return GatewayProcess(tmp_path, tmp_path / "models", routing, **settings)

    return made


def long_run(running: GatewayProcess) -> httpx.Response:
    """A request to a model that runs as long as its input says, so that no run is on the event loop."""
    return httpx.post(f"{running.url}/v2/models/m/infer", json=LONG, timeout=30)


def test_first_request_without_a_thread_is_refused_and_the_next_answered(scarce: Scarce, tmp_path: Path) -> None:
    """The model runs on the event loop, and in threads for large requests."""
    with scarce("short-1") as running:
        (tmp_path / "none").touch()
        for _ in range(3):
            refused = large_run(running)
            assert refused.status_code == 503
            assert "no thread for the model to run in" in refused.json()["error"]
            assert refused.headers["retry-after"] == "1"
        assert running.ready()
        (tmp_path / "none").unlink()
        assert large_run(running).status_code == 200
        assert metric(running, "gateway_inflight_requests") == 0


def large_run(running: GatewayProcess) -> httpx.Response:
    tensor = {"name": "x", "shape": [ROWS, 2], "datatype": "FP32", "data": [1] * ROWS * 2}
    return httpx.post(f"{running.url}/v2/models/short/infer", json={"inputs": [tensor]}, timeout=30)


def test_version_that_needs_threads_starts_them_before_its_first_request(scarce: Scarce, tmp_path: Path) -> None:
    with scarce("m-1") as running:
        (tmp_path / "none").touch()
        assert long_run(running).status_code == 200


def test_candidate_without_threads_is_not_published(scarce: Scarce, tmp_path: Path) -> None:
    with scarce("m-2") as running:
        (tmp_path / "none").touch()
        text = f"models: {{m: {{stable: 1, candidate: 2, split: {SPLIT}}}}}"
        (tmp_path / "routing.yaml").write_text(text)
        until(lambda: "there are no threads for it" in _error(running), "the edit is refused, and why")
        assert httpx.post(f"{running.url}/v2/models/m/infer", json=LONG).json()["parameters"]["variant"] == "stable"
        (tmp_path / "none").unlink()
        (tmp_path / "routing.yaml").write_text(text + "\n")
        until(lambda: _error(running) == "", "the edit is in force")
        until(lambda: long_run(running).json()["parameters"]["variant"] == "candidate", "the candidate answers")


def _error(running: GatewayProcess) -> str:
    return httpx.get(f"{running.control_url}/api/config").json()["last_error"] or ""


def test_worker_without_a_pipe_thread_is_started_again(scarce: Scarce, tmp_path: Path) -> None:
    with scarce("to-worker") as running:
        (worker,) = workers(running)
        (tmp_path / "none").touch()
        kill(worker)
        until(lambda: "starting worker 0 has failed" in running.log, "it is said")
        (tmp_path / "none").unlink()
        until(running.ready, "a worker serves again")
