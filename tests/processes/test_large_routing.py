"""A routing file of 100,000 customers, and workers that reuse the measurements of others."""

import os
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.backends.shared_measurements import MIN_AGE_NS
from gateway.shm.claim import memory_path
from gateway.shm.owner import measured_path
from loadtests import models
from loadtests.scenarios.large import routing
from tests import running as running_module
from tests.processes.flawed import until, workers
from tests.running import GatewayProcess

RELEASES = 4
MODELS = 12
STOP = {"reason": "a test"}


@contextmanager
def started(folder: Path, count: int, document: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[GatewayProcess]:
    """A gateway with that many small models whose files are old enough to be shared."""
    monkeypatch.setattr(running_module, "READY_WITHIN_S", 120.0)
    models.tiny(folder / "models", "m0")
    for number in range(1, count):
        shutil.copytree(folder / "models" / "m0", folder / "models" / f"m{number}")
    newest_s = max(file.stat().st_ctime for file in (folder / "models").rglob("*"))
    until(lambda: time.time() - newest_s > MIN_AGE_NS / 1e9, "the files stand still")
    with GatewayProcess(folder, folder / "models", document, server={"workers": 2}) as running:
        yield running


@pytest.mark.slow
def test_routing_file_of_100000_customers_is_started_edited_and_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = routing(RELEASES, 100_000)
    with (
        started(tmp_path, RELEASES, document, monkeypatch) as running,
        httpx.Client(base_url=running.control_url, timeout=30) as control,
    ):
        before = control.get("/api/config").json()
        document["models"]["m1"]["split"]["routes"][-1]["weight"] = 6
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(document))
        waited_s = []

        def is_applied() -> bool:
            began_s = time.monotonic()
            control.post("/api/releases/m0/stop", json=STOP).raise_for_status()
            waited_s.append(time.monotonic() - began_s)
            control.post("/api/releases/m0/resume", json=STOP).raise_for_status()
            now = control.get("/api/config").json()
            return bool(now["revision"] != before["revision"] and now["acknowledged"] == 2)

        until(is_applied, "the edit is in force")
        assert sorted(waited_s)[len(waited_s) // 2] < 0.5, "stops while the edit is read, judged and given out"
        routes = control.get("/api/releases/m1").json()["routes"]
        assert routes[-1] == {"route": "everyone", "weight_percent": 6.0, "in_force_percent": 6.0}
        assert control.get("/metrics").status_code == 200
        assert "its priority is reset" not in running.log


@pytest.mark.slow
def test_replacement_worker_measures_no_model_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with started(tmp_path, MODELS, {"models": {"m0": {"stable": 1}}}, monkeypatch) as running:
        shared = measured_path(memory_path(tmp_path / "state").with_suffix(".scoreboard"))
        before = shared.read_bytes()
        assert MODELS <= before.count(b'"sha256"') <= 2 * MODELS
        first, other = workers(running)
        os.kill(first, signal.SIGKILL)
        until(lambda: len({*workers(running)} - {first}) == 2 and serving(running) == 2, "another has come")
        assert other in workers(running)
        assert shared.read_bytes() == before
    assert not shared.exists()


def serving(running: GatewayProcess) -> int:
    return int(httpx.get(f"{running.control_url}/health").json().get("serving", 0))
