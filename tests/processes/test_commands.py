"""`gateway status`, `stop` and `resume` against a running gateway, and without one."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.processes.flawed import gateway
from tests.running import GatewayProcess


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    with gateway(tmp_path_factory.mktemp("commands")) as started:
        yield started


def command(config: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "gateway", *words, "--config", str(config)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)


def test_stop_status_and_resume(running: GatewayProcess) -> None:
    stopped = command(running.config, "stop", "flawed", "--reason", "complaints [of globex]")
    assert (stopped.returncode, stopped.stdout) == (0, "version 2 of flawed is stopped\n")
    told = command(running.config, "status", "flawed")
    assert "stopped by local via cli: complaints [of globex]" in told.stdout
    (release,) = json.loads(command(running.config, "status", "--json").stdout)
    assert (release["stopped"], release["stop"]["reason"]) == (True, "complaints [of globex]")
    resumed = command(running.config, "resume", "flawed", "--json")
    assert json.loads(resumed.stdout)["action"] == "resume"
    alone = command(running.config, "status").stdout
    assert "flawed: running" in alone
    assert "Fleet" not in alone
    assert httpx.get(f"{running.control_url}/api/fleet").json() == {"fleet": None}


def test_impossible_order_prints_one_line_and_exits_with_1(running: GatewayProcess) -> None:
    for words, says in (
        (("resume", "flawed"), "'flawed' is not stopped"),
        (("stop", "nothing"), "there is no model 'nothing'; there are flawed"),
        (("status", "nothing"), "there is no model 'nothing'"),
    ):
        ended = command(running.config, *words)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1)
        assert says in ended.stderr


def test_status_shows_what_is_wrong_with_the_last_edit(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        (tmp_path / "routing.yaml").write_text("models: {flawed: {stabel: 1}}")
        for _ in range(50):
            told = command(running.config, "status").stdout
            if "not in force" in told:
                break
        assert "The last edit is not in force" in told
        assert "stabel" in told


def test_status_without_a_gateway_asks_whether_it_is_running(tmp_path: Path) -> None:
    absent = gateway(tmp_path)
    ended = command(absent.config, "status")
    assert ended.returncode == 1
    assert "is `gateway serve` running?" in ended.stderr
