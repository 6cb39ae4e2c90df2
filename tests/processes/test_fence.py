"""A stop is complete: no answer of the candidate follows it, and no worker or client can delay it for long."""

import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from gateway.shm.segment import memory_folder
from gateway.shm.switchboard import FOREVER_NS, HEADER, HEARTBEAT, NEVER_NS, Switchboard
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


@pytest.mark.parametrize("path", ["small", "large"])
def test_answers_sent_after_the_heartbeat_has_become_stale_are_counted(tmp_path: Path, path: str) -> None:
    """The heartbeat is fresh and stale in turn, so in some sends it is fresh before the write and stale after it."""
    rows = 1 if path == "small" else 100_000  # large bodies are handled elsewhere
    document = {"inputs": [{"name": "x", "shape": [rows, 2], "datatype": "FP32", "data": [0] * (2 * rows)}]}
    with (
        GatewayProcess(tmp_path, wide_models(tmp_path), WIDE) as running,
        httpx.Client(base_url=running.url, timeout=20) as client,
        changing(board(running, 1).words),
    ):
        assert metric(running, "gateway_late_sends_total") == 0
        candidates = 0
        while not (late := metric(running, "gateway_late_sends_total")):
            for _ in range(10):
                answer = client.post("/v2/models/wide/infer", content=json.dumps(document))
                candidates += answer.headers["x-variant"] == "candidate"
        assert late <= candidates


@contextlib.contextmanager
def changing(words: "memoryview[int]") -> Iterator[None]:
    """Set the heartbeat to long ago and to much later than now, as often as possible."""
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            words[HEARTBEAT] = NEVER_NS
            words[HEARTBEAT] = FOREVER_NS

    thread = threading.Thread(target=change)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


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
    with gateway(tmp_path, server={"heartbeat_timeout": "60s"}) as running:  # or it would be killed as silent
        (suspended, _) = workers(running)
        os.kill(suspended, signal.SIGSTOP)
        try:
            customers = "\n".join(f"        - customer: customer-{number}" for number in range(10_000))
            (tmp_path / "routing.yaml").write_text(
                "models:\n  flawed:\n    stable: 1\n    candidate: 2\n    split:\n      routes:\n"
                f"      - name: listed\n        weight: 100\n        match:\n{customers}\n"
            )
            end_s = time.monotonic() + 3.0  # the edit is read and given out meanwhile
            while time.monotonic() < end_s:
                assert httpx.get(f"{running.control_url}/health").status_code == 200
                time.sleep(0.05)
            assert send_command(running, "stop").status_code == 200
            assert release(running)["stopped"]
        finally:
            os.kill(suspended, signal.SIGCONT)
        until(lambda: httpx.get(f"{running.control_url}/api/config").json()["acknowledged"] == 2, "both follow")
        assert httpx.post(f"{running.url}/v2/models/flawed/infer", content=body(1.0)).status_code == 200
