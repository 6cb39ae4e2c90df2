"""Undoing a promotion: the old stable is still loaded, and is stable again in one edit, also after a restart."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.backends.onnx_models import crashing, needs_trap
from tests.control.api.test_commands import ROUTING, decisions, file_of, post, variants
from tests.processes.flawed import gateway, kill, metric, release, until, workers
from tests.processes.test_reload import config, wait_for_generation
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

PROMOTED = (
    "# What meets whom.\nmodels:\n  flawed:          # the only one\n    stable: 2\n"
    "    rescue: {timeout: 1s}  # for whichever comes next\n"
)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[GatewayProcess]:
    started = gateway(tmp_path)
    file_of(started).write_text(ROUTING)
    with started:
        yield started


def undo(running: GatewayProcess, **body: Any) -> httpx.Response:
    return post(running, "releases/flawed/undo-promote", **body)


def refusal(running: GatewayProcess, **body: Any) -> str:
    refused = undo(running, **body)
    assert refused.status_code == 409
    return str(refused.json()["error"])


def test_undo_makes_the_old_stable_serve_again(running: GatewayProcess) -> None:
    assert "has a candidate, version 2" in refusal(running)
    post(running, "releases/flawed/promote", reason="better")
    assert release(running)["undo_to"] == 1
    shutil.move(running.config.parent / "models/flawed/1", running.config.parent / "away")
    assert "cannot be served any more" in refusal(running)
    shutil.move(running.config.parent / "away", running.config.parent / "models/flawed/1")
    assert "is stable now, not 3" in refusal(running, stable=3)
    tried = undo(running, dry_run=True).json()
    assert (tried["decision"], file_of(running).read_text()) == (None, PROMOTED)
    done = undo(running, stable=2, reason="worse after all").json()
    assert done["difference"] == tried["difference"]
    assert file_of(running).read_text() == PROMOTED.replace("stable: 2", "stable: 1")
    told = release(running)
    assert (told["stable"], told["candidate"], told.get("undo_to")) == (1, None, None)
    assert variants(running) == {"stable"}
    undone, promoted = decisions(running)
    assert (undone["action"], undone["candidate"], undone["reason"]) == ("undo-promote", 2, "worse after all")
    assert (undone["evidence"]["stable_before"], undone["evidence"]["stable"]) == (2, 1)
    assert promoted["action"] == "promote"
    assert "no promotion to undo" in refusal(running)


def test_undo_with_routes_after_a_restart_brings_the_candidate_back(tmp_path: Path) -> None:
    started = gateway(tmp_path)
    file_of(started).write_text(ROUTING)
    with started:
        post(started, "releases/flawed/promote")
    again = gateway(tmp_path)
    file_of(again).write_text(PROMOTED)
    with again:
        assert release(again)["undo_to"] == 1
        assert undo(again, keep_routes=True).status_code == 200
        assert file_of(again).read_text() == ROUTING
        assert variants(again) == {"stable", "candidate"}
        assert release(again)["routes"][0]["in_force_percent"] == 50


@needs_trap
def test_old_version_that_kills_whatever_loads_it_costs_only_the_undo(running: GatewayProcess) -> None:
    """Neither an edit nor a new worker loads it, and an undo tries it unless every worker still has it."""
    post(running, "releases/flawed/promote")
    crashing(running.config.parent / "models/flawed/1/model.onnx")
    kill(workers(running)[0])
    until(lambda: metric(running, "gateway_worker_restarts_total") == 1, "its death is seen")
    assert "SIGFPE" in undo(running).text, "the worker that is left has it, and the next one will not"
    until(lambda: metric(running, "gateway_workers", state="ready") == 2, "another worker")
    before = workers(running)
    edited = file_of(running).read_text().replace("1s", "2s")
    generation = config(running)["generation"]
    file_of(running).write_text(edited)
    wait_for_generation(running, generation + 1)
    file_of(running).write_text(edited.replace("2s", "1s"))
    wait_for_generation(running, generation + 2)
    assert "SIGFPE" in undo(running).text
    assert (workers(running), release(running)["stable"]) == (before, 2)
    assert metric(running, "gateway_worker_restarts_total") == 1
    assert variants(running) == {"stable"}


def test_undo_after_a_manual_edit_of_the_entry_is_refused(running: GatewayProcess) -> None:
    post(running, "releases/flawed/promote")
    file_of(running).write_text(PROMOTED.replace("1s", "2s"))
    until(lambda: "undo_to" not in release(running), "the edit is in force")
    assert "edited by hand since the promotion" in refusal(running)
    assert file_of(running).read_text() == PROMOTED.replace("1s", "2s")
