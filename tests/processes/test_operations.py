"""`promote`, `weight`, `history`, `hold`, `continue`, `explain --live` and `status --watch` on a running gateway."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.control.api.test_commands import ROUTING, file_of
from tests.processes.flawed import gateway, release, until
from tests.processes.test_commands import command
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow


@pytest.fixture
def running(tmp_path: Path) -> Iterator[GatewayProcess]:
    started = gateway(tmp_path)
    file_of(started).write_text(ROUTING)
    with started:
        yield started


def test_weight_and_promote_with_a_dry_run_first(running: GatewayProcess) -> None:
    tried = command(running.config, "weight", "flawed", "everyone", "25", "--dry-run")
    assert "-          weight: 50\n+          weight: 25\n" in tried.stdout
    assert release(running)["routes"][0]["weight_percent"] == 50
    done = command(running.config, "weight", "flawed", "everyone", "25", "--reason", "well so far")
    assert done.stdout == f"{tried.stdout}route everyone of flawed sends 25% to version 2\n"
    assert command(running.config, "weight", "flawed", "everyone", "25").stdout == "nothing to change\n"

    tried = command(running.config, "promote", "flawed", "--dry-run")
    assert (tried.returncode, release(running)["candidate"]) == (0, 2)
    done = command(running.config, "promote", "flawed", "--reason", "better [than 1]")
    assert done.stdout == f"{tried.stdout}every request of flawed is answered by version 2\n"
    assert (release(running)["stable"], release(running)["candidate"]) == (2, None)

    promoted, weighted = json.loads(command(running.config, "history", "flawed", "--json").stdout)
    assert (promoted["action"], weighted["action"], weighted["reason"]) == ("promote", "weight", "well so far")
    table = command(running.config, "history", "--limit", "1").stdout
    assert "better" in table
    assert "well so far" not in table


def test_explain_live_takes_a_stop_into_account(running: GatewayProcess) -> None:
    question = ("explain", "flawed", "--key", "p-1")
    files, live = (json.loads(command(running.config, *question, *more, "--json").stdout) for more in ((), ("--live",)))
    assert files == live
    command(running.config, "stop", "flawed")
    assert "the candidate is stopped" in command(running.config, *question, "--live").stdout
    assert "the candidate is stopped" not in command(running.config, *question).stdout
    at_url = command(running.config.parent / "absent.yaml", *question, "--url", running.control_url)
    assert "the candidate is stopped" in at_url.stdout


def test_impossible_order_prints_one_line_and_exits_with_1(running: GatewayProcess) -> None:
    command(running.config, "stop", "flawed")
    for words, says in (
        (("promote", "flawed"), "resume it first"),
        (("promote", "nothing"), "there is no model 'nothing'"),
        (("weight", "flawed", "nobody", "5"), "it has everyone"),
        (("hold", "flawed"), "no route with weight: ramp"),
        (("continue", "flawed"), "no route with weight: ramp"),
        (("explain", "nothing", "--live"), "there is no model 'nothing'"),
    ):
        ended = command(running.config, *words)
        assert (ended.returncode, ended.stderr.count("\n")) == (1, 1), words
        assert says in ended.stderr
    assert command(running.config, "weight", "flawed", "everyone", "101").returncode == 2
    assert file_of(running).read_text() == ROUTING


def test_status_watch_updates_until_ctrl_c(running: GatewayProcess) -> None:
    line = [sys.executable, "-m", "gateway", "status", "--watch", "--config", str(running.config)]
    environment = os.environ | {"FORCE_COLOR": "1", "COLUMNS": "120"}
    watching = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
    assert watching.stdout is not None
    os.set_blocking(watching.stdout.fileno(), False)
    shown = bytearray()

    def shows(text: bytes) -> bool:
        shown.extend(watching.stdout.read() or b"")  # type: ignore[union-attr]
        return text in shown

    until(lambda: shows(b"running"), "the release")
    command(running.config, "stop", "flawed")
    until(lambda: shows(b"stopped"), "the stop")
    watching.send_signal(signal.SIGINT)
    _, errors = watching.communicate(timeout=10)
    assert (watching.returncode, errors) == (0, b"")
