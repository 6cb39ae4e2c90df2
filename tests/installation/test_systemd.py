"""The unit is valid for systemd, hardened by its judgement, and agrees with the gateway."""

import configparser
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings.gateway import GatewaySettings
from gateway.settings.load import parse

FOLDER = Path(__file__).parents[2] / "config" / "systemd"
EXPOSURE = 20  # tenths of systemd's scale, on which 100 is a service without any hardening


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / "canary-gateway.service")
    return parser["Service"]


def analyze(tmp_path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """systemd-analyze on the unit, with a program that exists here."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    text = (FOLDER / "canary-gateway.service").read_text()
    copy = tmp_path / "canary-gateway.service"
    copy.write_text(text.replace("/opt/canary-gateway/bin/gateway", sys.executable))
    return subprocess.run([tool, *words, str(copy)], capture_output=True, text=True, timeout=60, check=False)


def test_unit_is_valid_for_systemd(tmp_path: Path) -> None:
    verified = analyze(tmp_path, "verify", "--man=no")
    assert (verified.returncode, verified.stderr) == (0, "")


def test_unit_is_hardened_enough_for_systemd_analyze(tmp_path: Path) -> None:
    judged = analyze(tmp_path, "security", "--offline=true", f"--threshold={EXPOSURE}")
    assert judged.returncode == 0, judged.stdout


def test_gateway_accepts_its_file_and_writes_to_the_state_directory() -> None:
    settings = parse((FOLDER / "gateway.yaml").read_text(), GatewaySettings, "")
    assert settings.state == f"/var/lib/{unit()['StateDirectory']}"
    assert unit()["ExecStart"].endswith("gateway serve --config /etc/canary-gateway/gateway.yaml")
    assert settings.routing == "/etc/canary-gateway/routing.yaml"


def test_stop_timeout_is_longer_than_the_drain() -> None:
    settings = parse((FOLDER / "gateway.yaml").read_text(), GatewaySettings, "")
    assert int(unit()["TimeoutStopSec"]) > settings.server.drain + 2


def test_unit_leaves_workers_and_memory_of_a_killed_control_process() -> None:
    """Its workers go on with stable, and the next start takes the records from the memory files."""
    assert unit()["KillMode"] == "process"  # mixed and control-group end the workers, too
    assert unit()["RemoveIPC"] == "no"
    assert "DynamicUser" not in unit()  # which switches RemoveIPC on, whatever is written
    assert unit()["User"] == "canary-gateway"


def test_stop_timeout_kills_the_remaining_workers(tmp_path: Path) -> None:
    """By the unit's own command, as the shell reads it once systemd has removed its quotes."""
    program, flag, script = shlex.split(unit()["ExecStopPost"].removeprefix("-"))
    name = f"gateway.worker-{tmp_path.name}"
    script = script.replace("[.]worker", f"[.]worker-{tmp_path.name}")  # none but this test's
    for result, left in (("success", True), ("signal", True), ("timeout", False)):
        worker = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", name])
        subprocess.run([program, flag, script], env=os.environ | {"SERVICE_RESULT": result}, check=False)
        try:
            worker.wait(0.2 if left else 10)
        except subprocess.TimeoutExpired:
            assert left
            worker.kill()
            worker.wait()
        else:
            assert not left


def test_killed_worker_does_not_end_the_service() -> None:
    assert (unit()["OOMPolicy"], unit()["Restart"]) == ("continue", "always")
