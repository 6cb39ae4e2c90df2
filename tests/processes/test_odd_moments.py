"""Orders and edits at unusual moments: candidates closed, a start in progress, the routing file in the state folder."""

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.processes.flawed import send_command, until
from tests.processes.test_lost_entries import (
    ASK,
    ENTRY,
    answer,
    command,
    config,
    decisions,
    edited,
    file_of,
    models,
    post,
    started,
)
from tests.running import GatewayProcess


@pytest.mark.slow
def test_orders_while_candidates_are_closed_are_refused_with_the_reason(tmp_path: Path) -> None:
    running = started(tmp_path)
    whole = file_of(running).read_text()
    with running:
        assert send_command(running, "stop").status_code == 200
    file_of(running).write_text("")
    with running:
        for name in ("resume", "promote", "hold", "continue"):
            told = send_command(running, name)
            assert (told.status_code, "candidate 2 of 'flawed' gets no traffic" in told.json()["error"]) == (
                409,
                True,
            ), name
        told = post(f"{running.control_url}/api/releases/flawed/weight", json={"route": "all", "percent": 5})
        assert "fix the file" in told.json()["error"]
        pinned = post(f"{running.url}/v2/models/flawed/versions/2/infer", json=ASK)
        assert (pinned.status_code, "not served in version 2; served are 1" in pinned.text) == (404, True)
        edited(running, whole)
        assert answer(running, "flawed") == ("1", "stable"), "the stop holds"
        assert send_command(running, "resume").status_code == 200
        assert answer(running, "flawed") == ("2", "candidate")


def in_state(folder: Path) -> tuple[GatewayProcess, Path]:
    """Its routing file is STATE/routing.yaml, as the documentation says for where /etc cannot be written."""
    running = GatewayProcess(folder, models(folder / "models"))
    settings = yaml.safe_load(running.config.read_text())
    file = Path(settings["state"]) / "routing.yaml"
    file.parent.mkdir()
    file.write_text("# here\n" + yaml.safe_dump({"models": {"flawed": ENTRY}}, sort_keys=False))
    running.config.write_text(yaml.safe_dump({**settings, "routing": str(file)}))
    return running, file


@pytest.mark.slow
def test_routing_file_in_the_state_folder_is_watched_like_any_other(tmp_path: Path) -> None:
    running, file = in_state(tmp_path)
    with running:
        assert answer(running, "flawed") == ("2", "candidate")
        done = command(running, "weight", "flawed", "all", "50")
        assert done.returncode == 0, done.stderr
    whole = file.read_text()
    file.write_text(whole.replace("weight: 50", "weight: 60"))
    with running:
        assert decisions(running)[0]["reason"] == "models.flawed: weight of all 50% -> 60%"
    file.write_text("# here\nmodels: {}\n")
    with running:
        assert config(running)["candidates_closed"]
        assert file.read_text() == "# here\nmodels: {}\n"


@pytest.mark.slow
def test_edit_by_command_during_the_first_start_is_remembered(tmp_path: Path) -> None:
    running = started(tmp_path)
    line = [sys.executable, "-m", "gateway", "serve", "--config", str(running.config)]
    with (tmp_path / "log").open("wb") as log:
        running.process = subprocess.Popen(line, stdout=log, stderr=log)
        told: Any = None
        deadline = time.monotonic() + 60
        while told is None:
            assert time.monotonic() < deadline
            try:
                told = httpx.post(f"{running.control_url}/api/releases/flawed/promote", json={}, timeout=60)
            except httpx.TransportError:
                time.sleep(0.005)
        assert told.status_code == 200, told.text
        until(running.complete, "all workers ready")
        assert answer(running, "flawed") == ("2", "stable")
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    assert (tmp_path / "state" / "accepted.yaml").read_bytes() == file_of(running).read_bytes()
    file_of(running).write_text("")
    with running:
        assert answer(running, "flawed") == ("2", "stable")
