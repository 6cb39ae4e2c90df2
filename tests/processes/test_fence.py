"""A stop is complete: no answer of the candidate follows it, and no worker or client can delay it for long."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import httpx
import pytest

from gateway.shm.segment import memory_folder
from gateway.shm.switchboard import HEADER, Switchboard
from tests.backends import onnx_models
from tests.processes.flawed import body, gateway, metric, release, send_command, until, workers
from tests.running import GatewayProcess
from tests.wire import LONG, Wire, post, turns

pytestmark = pytest.mark.slow

ROWS = 1 << 20  # whose answer is more than the buffers of a connection hold


def board(running: GatewayProcess, count: int) -> Switchboard:
    """The gateway's own switchboard."""
    maps = Path(f"/proc/{running.pid}/maps").read_text()
    (path,) = {line.split()[-1] for line in maps.splitlines() if line.endswith(".switchboard")}
    assert Path(path).parent == memory_folder()
    return Switchboard.attach(Path(path), count)


def test_worker_that_never_ends_a_send_is_killed(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        words = board(running, 2).words
        before = workers(running)
        words[HEADER] += 1  # a send of worker 0 begins, and the worker is suspended in it
        assert send_command(running, "stop").status_code == 200
        until(lambda: metric(running, "gateway_worker_restarts_total") == 1, "a new worker")
        assert len(set(workers(running)) & set(before)) == 1
        until(lambda: metric(running, "gateway_workers", state="ready") == 2, "both workers")
        assert send_command(running, "resume").status_code == 200
        assert send_command(running, "stop").status_code == 200
        assert metric(running, "gateway_worker_restarts_total") == 1, "the new worker is not waited for"


def test_client_that_does_not_read_delays_no_stop_and_gets_nothing_later(tmp_path: Path) -> None:
    """Large pipelined answers: the second is not sent until the client reads the first."""
    with (
        GatewayProcess(tmp_path, wide_models(tmp_path), WIDE, limits={"timeout": "20s"}) as running,
        Wire(running) as wire,
    ):
        document = {"inputs": [{"name": "x", "shape": [ROWS, 2], "datatype": "FP32", "data": [0] * (2 * ROWS)}]}
        request = post("wide", document)
        threading.Thread(target=wire.send, args=[request * 3], daemon=True).start()
        until(lambda: answered(running, "wide") >= 1, "the first of the answers")
        assert httpx.post(f"{running.control_url}/api/releases/wide/stop").status_code == 200
        variants = [wire.read().headers["x-variant"] for _ in range(3)]
        assert variants == ["candidate", "stable", "stable"]


EVERYONE = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 100}]}
WIDE = {"models": {"wide": {"stable": 1, "candidate": 2, "split": EVERYONE, "rescue": {"timeout": "10s"}}}}


def wide_models(folder: Path) -> Path:
    for version in (1, 2):
        onnx_models.doubling(folder / "models" / "wide" / str(version) / "model.onnx")
    return folder / "models"


def answered(running: GatewayProcess, model: str) -> float:
    return metric(running, "gateway_predictions_total", model=model, outcome="ok")


def test_pinned_candidate_request_in_progress_is_refused_after_a_stop(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for version in (1, 2):
        onnx_models.looping(models / "slow" / str(version) / "model.onnx")
    (models / "slow" / "warmup.json").write_text(json.dumps(LONG))
    routing = {"models": {"slow": {"stable": 1, "candidate": 2, "split": EVERYONE}}}
    with GatewayProcess(tmp_path, models, routing) as running, Wire(running) as wire:
        wire.send(post("slow/versions/2", turns(1_200_000)))
        until(lambda: metric(running, "gateway_inflight_requests") == 1, "it is under way")
        assert httpx.post(f"{running.control_url}/api/releases/slow/stop").status_code == 200
        reply = wire.read()
        assert (reply.status, "is stopped" in reply.document["error"]) == (409, True)


def test_suspended_worker_delays_neither_control_nor_a_stop(tmp_path: Path) -> None:
    """Not even while control sends it more than a pipe holds."""
    with gateway(tmp_path) as running:
        (suspended, _) = workers(running)
        os.kill(suspended, signal.SIGSTOP)
        try:
            customers = "\n".join(f"        - customer: customer-{number}" for number in range(10_000))
            (tmp_path / "routing.yaml").write_text(
                "models:\n  flawed:\n    stable: 1\n    candidate: 2\n    split:\n      routes:\n"
                f"      - name: listed\n        weight: 100\n        match:\n{customers}\n"
            )
            for _ in range(60):  # the edit is read and given out meanwhile
                assert httpx.get(f"{running.control_url}/health").status_code == 200
                time.sleep(0.05)
            assert send_command(running, "stop").status_code == 200
            assert release(running)["stopped"]
        finally:
            os.kill(suspended, signal.SIGCONT)
        until(lambda: httpx.get(f"{running.control_url}/api/config").json()["acknowledged"] == 2, "both follow")
        assert httpx.post(f"{running.url}/v2/models/flawed/infer", content=body(1.0)).status_code == 200
