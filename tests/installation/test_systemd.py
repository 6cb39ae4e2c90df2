"""The unit: systemd understands it, finds it hardened, and it is true of the gateway."""

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from gateway.settings.gateway_settings import GatewaySettings
from gateway.settings.load import parse

FOLDER = Path(__file__).parents[2] / "config" / "systemd"
EXPOSURE = 20  # tenths of systemd's scale, on which 100 is a service without any hardening


def unit() -> configparser.SectionProxy:
    parser = configparser.ConfigParser(interpolation=None, strict=True)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read(FOLDER / "canary-gateway.service")
    return parser["Service"]


def analyze(tmp_path: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    """systemd-analyze on the unit, which runs a program that is here."""
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is missing: apt-get install systemd")
    text = (FOLDER / "canary-gateway.service").read_text()
    copy = tmp_path / "canary-gateway.service"
    copy.write_text(text.replace("/opt/canary-gateway/bin/gateway", sys.executable))
    return subprocess.run([tool, *words, str(copy)], capture_output=True, text=True, timeout=60, check=False)


def test_systemd_understands_it(tmp_path: Path) -> None:
    verified = analyze(tmp_path, "verify", "--man=no")
    assert (verified.returncode, verified.stderr) == (0, "")


def test_systemd_finds_it_hardened(tmp_path: Path) -> None:
    judged = analyze(tmp_path, "security", "--offline=true", f"--threshold={EXPOSURE}")
    assert judged.returncode == 0, judged.stdout


def test_the_gateway_takes_its_file_and_writes_where_it_may() -> None:
    settings = parse((FOLDER / "gateway.yaml").read_text(), GatewaySettings, "")
    assert settings.state == f"/var/lib/{unit()['StateDirectory']}"
    assert unit()["ExecStart"].endswith("gateway serve --config /etc/canary-gateway/gateway.yaml")
    assert settings.routing == "/etc/canary-gateway/routing.yaml"


def test_the_gateway_is_given_the_time_to_drain() -> None:
    settings = parse((FOLDER / "gateway.yaml").read_text(), GatewaySettings, "")
    assert int(unit()["TimeoutStopSec"]) > settings.server.drain + 2
    assert unit()["KillMode"] == "mixed"


def test_a_killed_worker_does_not_end_the_service() -> None:
    assert (unit()["OOMPolicy"], unit()["Restart"]) == ("continue", "always")
