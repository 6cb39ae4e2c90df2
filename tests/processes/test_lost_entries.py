"""A routing file that is truncated, emptied, removed or edited by hand: while a gateway runs, and before a start."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.backends.onnx_models import place, scaling
from tests.processes.flawed import kill, metric, send_command, until
from tests.running import GatewayProcess

SPLIT = {"stickiness": "customer", "salt": "a-salt", "routes": [{"name": "all", "weight": 100}]}
ENTRY = {"stable": 1, "candidate": 2, "split": SPLIT}
OTHER: Any = {"stable": 1}
get, post = partial(httpx.get, timeout=60), partial(httpx.post, timeout=60)
ASK = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


def models(folder: Path) -> Path:
    for name in ("flawed", "other", "unnamed"):
        for version in (1, 2):
            place(folder, name, version, scaling(version))
    return folder


def started(folder: Path, routing: Any = None) -> GatewayProcess:
    return GatewayProcess(folder, models(folder / "models"), routing or {"models": {"flawed": ENTRY, "other": OTHER}})


def file_of(running: GatewayProcess) -> Path:
    return running.config.parent / "routing.yaml"


def config(running: GatewayProcess) -> Any:
    return get(f"{running.control_url}/api/config").json()


def decisions(running: GatewayProcess, **query: str) -> Any:
    return get(f"{running.control_url}/api/decisions", params=query).json()


def answer(running: GatewayProcess, model: str) -> tuple[str, str]:
    told = post(f"{running.url}/v2/models/{model}/infer", json=ASK, headers={"x-customer-id": "acme"})
    assert told.status_code == 200, told.text
    return told.headers["x-model-version"], told.headers["x-variant"]


def edited(running: GatewayProcess, document: Any, *, refused: str = "") -> None:
    generation = config(running)["generation"]
    file_of(running).write_text(document if isinstance(document, str) else yaml.safe_dump(document))
    if refused:
        until(lambda: refused in (config(running)["last_error"] or ""), f"an error that says {refused}")
        assert config(running)["generation"] == generation
    else:
        until(lambda: config(running)["generation"] > generation, "a new generation")


def command(running: GatewayProcess, *arguments: str) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "gateway", *arguments, "--config", str(running.config)]
    return subprocess.run(line, capture_output=True, text=True, env=os.environ | {"COLUMNS": "300"})


@pytest.mark.slow
def test_entries_removed_from_a_running_gateway_s_file_change_nothing(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        whole = file_of(running).read_text()
        assert [answer(running, name)[0] for name in ("flawed", "other", "unnamed")] == ["2", "1", "2"]
        edited(running, "", refused="stable alone")
        edited(running, "# nothing\n---\n", refused="stable alone")
        edited(running, {"models": {"other": OTHER}}, refused="name the model with stable alone: flawed: {stable: 1}")
        edited(running, {"models": {}}, refused="stable alone")
        file_of(running).unlink()
        until(lambda: "no such file" in (config(running)["last_error"] or ""), "an error")
        assert answer(running, "flawed") == ("2", "candidate")
        edited(running, whole)
        send_command(running, "stop")
        place(tmp_path / "models", "unnamed", 3, scaling(3))
        edited(running, {"models": {"flawed": ENTRY}})
        edited(running, {"models": {"other": OTHER}})
        assert [answer(running, name) for name in ("flawed", "other", "unnamed")] == [
            ("1", "stable"), ("1", "stable"), ("2", "stable"),
        ]  # fmt: skip
        told = get(f"{running.control_url}/api/releases/flawed").json()
        assert (told["stable"], told["candidate"], told["stopped"]) == (1, 2, True)
        refused = send_command(running, "resume")
        assert (refused.status_code, "no entry" in refused.json()["error"]) == (409, True)
        assert post(f"{running.url}/v2/repository/models/unnamed/load", json={}).status_code == 200
        assert answer(running, "unnamed")[0] == "2"
        index = post(f"{running.url}/v2/repository/index", json={}).json()
        (new,) = [one for one in index if (one["name"], one["version"]) == ("unnamed", "3")]
        assert new["reason"].startswith("not loaded")
        edits = [one["reason"] for one in decisions(running) if one["action"] == "edit"]
        assert "models.flawed: its entry is gone; stable stays 1, and candidate 2 stays stopped" in edits
    with running:  # the same over a restart, and the entry comes back
        assert [answer(running, name)[0] for name in ("flawed", "other", "unnamed")] == ["1", "1", "2"]
        edited(running, {"models": {"flawed": {**ENTRY, "split": {"routes": SPLIT["routes"]}}, "other": OTHER}})
        assert answer(running, "flawed") == ("1", "stable")
        asked = post(f"{running.control_url}/api/explain", json={"model": "flawed", "customer": "acme"}).json()
        assert asked["salt"] == "a-salt"
    shutil.rmtree(tmp_path / "models" / "unnamed" / "2")
    with running:
        assert post(f"{running.url}/v2/models/unnamed/infer", json=ASK).status_code in (404, 503)
        index = post(f"{running.url}/v2/repository/index", json={}).json()
        (gone,) = [one for one in index if (one["name"], one["version"]) == ("unnamed", "2")]
        assert "put its folder back" in gone["reason"]


@pytest.fixture(scope="module")
def served_before(tmp_path_factory: pytest.TempPathFactory) -> GatewayProcess:
    """One that has served its candidate; a version has come since."""
    folder = tmp_path_factory.mktemp("before")
    running = started(folder)
    with running:
        assert answer(running, "flawed") == ("2", "candidate")
    place(folder / "models", "unnamed", 3, scaling(3))
    return running


@pytest.mark.slow
@pytest.mark.parametrize(
    "text",
    [
        "models: {flawed",
        "",
        "models: {other: {stable: 1}}\n",
        "models: {flawed: {stable: 7, candidate: 2}, other: {stable: 1}}\n",
        "models: {new: {stable: 1}, flawed: {stable: 1, candidate: 2}, other: {stable: 1}}\n",
        b"models: {flawed: {stable: 1, candidate: 2}} # \xff\n",
        None,
    ],
)
def test_start_with_a_refused_file_serves_remembered_stables(served_before: GatewayProcess, text: Any) -> None:
    running = served_before
    whole = file_of(running).read_text()
    if text is None:
        file_of(running).unlink()
    else:
        file_of(running).write_bytes(text if isinstance(text, bytes) else text.encode())
    with running:
        assert [answer(running, name) for name in ("flawed", "other", "unnamed")] == [
            ("1", "stable"), ("1", "stable"), ("2", "stable"),
        ]  # fmt: skip
        told = config(running)
        assert told["candidates_closed"]
        assert "routing.yaml: " in told["last_error"]
        assert metric(running, "gateway_config_candidates_closed") == 1
        assert "is refused" in running.log
        assert "no candidate receives traffic" in command(running, "status").stdout
        assert command(running, "check").returncode == 1
        edited(running, whole)  # for the next one, too
        assert not config(running)["candidates_closed"]
        assert config(running)["last_error"] is None
        assert answer(running, "flawed") == ("2", "candidate")


@pytest.mark.slow
def test_stop_while_candidates_are_closed_holds_after_the_file_is_fixed(tmp_path: Path) -> None:
    running = started(tmp_path)
    whole = file_of(running).read_text()
    with running:
        pass
    file_of(running).write_text("")
    with running:
        assert send_command(running, "stop").status_code == 200
        edited(running, whole)
        assert answer(running, "flawed") == ("1", "stable")


def test_first_start_with_a_refused_file_fails(tmp_path: Path) -> None:
    running = started(tmp_path)
    file_of(running).write_text("models: {flawed: {stable")
    done = command(running, "serve")
    assert (done.returncode, "routing.yaml: line " in done.stderr) == (1, True)
    assert command(running, "check").returncode == 1


@pytest.mark.slow
def test_edit_by_hand_is_a_decision_with_the_previous_text(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        before = file_of(running).read_text()
        edited(running, before.replace("weight: 100", "weight: 10"))
        (told,) = decisions(running, model="flawed")
        assert (told["action"], told["reason"]) == ("edit", "models.flawed: weight of all 100% -> 10%")
        evidence = told["evidence"]
        assert "-      - name: all\n" not in evidence["difference"]
        assert "-        weight: 100\n+        weight: 10\n" in evidence["difference"]
        assert abs(evidence["modified_ns"] - file_of(running).stat().st_mtime_ns) < 1e9
        assert evidence["owner"] in told["by"]
        assert evidence["after"] == config(running)["revision"]
        assert (tmp_path / "state" / "history" / evidence["kept"]).read_text() == before
        assert decisions(running, model="other") == []
        now = file_of(running).read_text()
        file_of(running).write_text(now + "# a remark\n")
        os.kill(running.pid, signal.SIGHUP)
        until(lambda: len(decisions(running)) == 2, "the remark")
        assert decisions(running)[0]["model"] == ""
        done = command(running, "weight", "flawed", "all", "20")
        assert done.returncode == 0, done.stderr
        assert [one["action"] for one in decisions(running)] == ["weight", "edit", "edit"]
        last = file_of(running).read_text()
    file_of(running).write_text(last.replace("weight: 20", "weight: 30"))
    with running:
        assert decisions(running)[0]["reason"] == "models.flawed: weight of all 20% -> 30%"
        told = json.loads(command(running, "history", "flawed", "--json").stdout)
        assert [one["action"] for one in told] == ["edit", "weight", "edit"]
        assert "# a remark" in file_of(running).read_text()


@pytest.mark.slow
def test_gateway_killed_during_an_edit_starts_with_one_text_or_the_other(tmp_path: Path) -> None:
    running = started(tmp_path)
    whole = file_of(running).read_text()
    for number, pause_s in enumerate((0.05, 0.3, 0.35, 0.4, 0.6)):
        running.__enter__()
        send_command(running, "stop")
        file_of(running).write_text(whole + f"# {number}\n")
        time.sleep(pause_s)  # somewhere between being seen and being in force
        kill(running.pid)
        assert running.process is not None
        running.process.wait()
    with running:
        assert config(running)["last_error"] is None
        assert [answer(running, name)[0] for name in ("flawed", "other", "unnamed")] == ["1", "1", "2"]
        assert not list((tmp_path / "state").glob("*.yaml.new"))
        assert (tmp_path / "state" / "accepted.yaml").read_bytes() == file_of(running).read_bytes()
