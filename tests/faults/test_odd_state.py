"""Unexpected content in the state folder: the start is refused with one sentence, or the file is made anew."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.flawed import gateway, send_command
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

SHAPES = ("null", "[[null]]", "{}", "[[1e999, 1]]", '{"flawed": [1]}', "[" * 100_000)


def run_serve(running: GatewayProcess) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(running.config)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("shape", ["null", "{}", '["text"]'])
def test_malformed_stops_file_is_refused_with_one_sentence(tmp_path: Path, shape: str) -> None:
    running = gateway(tmp_path)
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "stops.json").write_text(shape)
    ended = run_serve(running)
    said = " ".join(ended.stderr.split())
    assert (ended.returncode, "Traceback" in said) == (1, False), said
    assert "stops.json is damaged" in said
    assert "Fix it, or remove it" in said


@pytest.mark.parametrize("shape", SHAPES)
def test_malformed_file_that_can_be_rebuilt_does_not_prevent_serving(tmp_path: Path, shape: str) -> None:
    state = tmp_path / "state"
    state.mkdir()
    for name in ("releases.json", "accepted.yaml", "ramps.json"):
        (state / name).write_text(shape)
    with gateway(tmp_path, server={"workers": 1}) as running:
        assert send_command(running, "stop").status_code == 200
        said = "ramps.json is damaged" in running.log
        assert said or shape[0] in "{[", "it is made anew, and no one hears of it"


@pytest.mark.parametrize("kind", ["a folder", "a link to itself"])
def test_unreadable_decision_list_is_refused_with_one_sentence(tmp_path: Path, kind: str) -> None:
    running = gateway(tmp_path)
    (tmp_path / "state").mkdir()
    journal = tmp_path / "state" / "decisions.jsonl"
    if kind == "a folder":
        journal.mkdir()
    else:
        journal.symlink_to(journal)
    ended = run_serve(running)
    said = " ".join(ended.stderr.split())
    assert (ended.returncode, "Traceback" in said) == (1, False), said
    assert "decisions.jsonl cannot be read" in said
