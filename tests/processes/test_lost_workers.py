"""Workers that are killed, suspended or blocked by a version: stable is served and edits take effect all the same."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.shm.claim import memory_path
from gateway.shm.scoreboard import LOADING, Scoreboard
from tests.backends.onnx_models import crashing, doubling, endless, looping, needs_trap, place, trapping
from tests.processes.flawed import (
    ROUTING,
    body,
    command_of,
    gateway,
    kill,
    metric,
    release,
    until,
    workers,
)
from tests.processes.test_reload import config, edit, routing, scratch, shares, trials_of, wait_for_generation
from tests.running import GatewayProcess
from tests.wire import row

pytestmark = pytest.mark.slow
STABLE = {"models": {"flawed": {"stable": 1}}}


def ready(running: GatewayProcess) -> int:
    return int(metric(running, "gateway_workers", state="ready"))


def predict(running: GatewayProcess, first: float = 1.0, path: str = "flawed") -> int:
    with contextlib.suppress(httpx.TransportError):
        return httpx.post(f"{running.url}/v2/models/{path}/infer", content=body(first), timeout=30).status_code
    return 0


def error(running: GatewayProcess) -> str:
    return config(running)["last_error"] or ""


def model(running: GatewayProcess, name: str, what: str) -> httpx.Response:
    return httpx.post(f"{running.url}/v2/repository/models/{name}/{what}", timeout=60)


# --- a version that was served once and has been overwritten since


@needs_trap
@pytest.mark.parametrize("how", ["edit", "load"])
def test_overwritten_version_is_tried_before_any_worker_loads_it(tmp_path: Path, how: str) -> None:
    with gateway(tmp_path) as running:
        file = tmp_path / "models" / "flawed" / "2" / "model.onnx"
        good, before = file.read_bytes(), workers(running)
        if how == "edit":
            assert model(running, "flawed", "unload").status_code == 200
        crashing(file)
        if how == "edit":
            edit(running, routing(weight=51))
            until(lambda: "models.flawed: version 2: loading it killed the process by SIGFPE" in error(running), "it")
        else:
            refused = model(running, "flawed", "load")
            assert (refused.status_code, "SIGFPE" in refused.text) == (400, True)
            assert shares(running) == {"stable", "candidate"}
        assert workers(running) == before
        file.write_bytes(good)
        assert model(running, "flawed", "load").status_code == 200
        edit(running, routing(weight=52))
        wait_for_generation(running, 2)
        assert shares(running) == {"stable", "candidate"}
        assert workers(running) == before


@needs_trap
def test_replacement_worker_does_not_load_a_crashing_version(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        file = tmp_path / "models" / "flawed" / "2" / "model.onnx"
        good = file.read_bytes()
        crashing(file)
        for restarts in (1, 2):
            kill(workers(running)[0])
            until(lambda: metric(running, "gateway_worker_restarts_total") == restarts, "a restart")  # noqa: B023
            until(lambda: ready(running) == 2, "both workers")
        assert shares(running) == {"stable"}
        (out,) = config(running)["unavailable"]
        assert (out["model"], out["version"], "SIGFPE" in out["reason"]) == ("flawed", 2, True)
        file.write_bytes(good)
        kill(workers(running)[0])
        until(lambda: metric(running, "gateway_worker_restarts_total") == 3, "a restart")
        until(lambda: ready(running) == 2, "both workers")
        assert shares(running) == {"stable", "candidate"}
        edit(running, routing(weight=100))
        wait_for_generation(running, 2)
        assert (shares(running), config(running)["unavailable"]) == ({"candidate"}, [])


@needs_trap
def test_crashing_model_without_an_entry_is_not_loaded_by_an_edit(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        before = workers(running)
        place(tmp_path / "models", "stray", 1, crashing)
        edit(running, routing(weight=0))
        wait_for_generation(running, 2)
        assert (shares(running), workers(running)) == ({"stable"}, before)
        assert ("stray", 1) in {(out["model"], out["version"]) for out in config(running)["unavailable"]}


@needs_trap
def test_crashing_stable_version_does_not_affect_other_models(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    place(tmp_path / "models", "other", 1, doubling)
    with running:
        file = tmp_path / "models" / "flawed" / "1" / "model.onnx"
        good = file.read_bytes()
        crashing(file)
        killed = workers(running)
        for pid in killed:
            kill(pid)
        until(
            lambda: ready(running) >= 1 and metric(running, "gateway_worker_restarts_total") >= len(killed),
            "a worker that is none of those, whose deaths control may not have seen yet",
        )
        assert (infer(running, "other"), predict(running)) == (200, 404)
        file.write_bytes(good)
        assert model(running, "flawed", "load").status_code == 200
        assert predict(running) == 200


# --- a version that loads in the trial, but not in every worker


@contextlib.contextmanager
def slow(folder: Path) -> Iterator[tuple[GatewayProcess, Path, Any]]:
    """Two workers with a stable version; loading its candidate takes seconds."""
    models = folder / "models"
    for version in (1, 2):
        looping(models / "slow" / str(version) / "model.onnx")
    turns: Any = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [1]}]}
    (models / "slow" / "model.yaml").write_text("isolation: thread\n")  # so that workers load the candidate
    sample = models / "slow" / "warmup.json"
    sample.write_text(json.dumps(turns))
    with GatewayProcess(folder, models, {"models": {"slow": {"stable": 1}}}, server={"workers": 2}) as running:
        sample.write_text(json.dumps({"inputs": [{**turns["inputs"][0], "data": [200_000]}]}))
        yield running, sample, turns


def test_version_that_crashes_workers_is_refused_and_costs_one_at_a_time(
    tmp_path: Path,
) -> None:
    everyone = {"split": {"routes": [{"name": "everyone", "weight": 100}]}}
    with slow(tmp_path) as (running, _, turns):
        first = workers(running)[0]
        edit(running, yaml.safe_dump({"models": {"slow": {"stable": 1, "candidate": 2, **everyone}}}))
        loads = Scoreboard.attach(memory_path(tmp_path / "state").with_suffix(".scoreboard"), 2).head(0)
        until(lambda: loads[LOADING] > 0, "the first worker loads it")
        kill(first)
        until(lambda: "trying once more" in running.log, "a second attempt")
        until(lambda: first not in workers(running) and ready(running) == 2, "a successor")
        until(lambda: loads[LOADING] > 0, "it loads it, too")
        kill(workers(running)[-1])
        until(lambda: "models.slow: version 2: worker 0 ended while it was loading it" in error(running), "a refusal")
        assert "server.workers" in error(running)
        assert config(running)["generation"] == 1
        until(lambda: ready(running) == 2, "both workers")
        url = f"{running.url}/v2/models/slow/infer"
        assert {httpx.post(url, json=turns).headers["x-variant"] for _ in range(10)} == {"stable"}


# --- a version whose warm-up never ends


def test_edit_to_an_endless_version_does_not_block_a_later_edit(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        place(tmp_path / "models", "flawed", 3, endless)
        edit(running, routing(candidate=3))
        until(lambda: scratch(running), "the trial")
        edit(running, routing(weight=100))
        wait_for_generation(running, 2)
        assert shares(running) == {"candidate"}
        until(lambda: not scratch(running), "the trial's end")


def test_endless_version_is_refused_after_load_timeout_naming_the_setting(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        pass
    settings = yaml.safe_load(running.config.read_text())
    settings["models"]["load_timeout"] = "3s"
    running.config.write_text(yaml.safe_dump(settings))
    with running:
        place(tmp_path / "models", "flawed", 3, endless)
        edit(running, routing(candidate=3))
        until(lambda: "within models.load_timeout, 3 s" in error(running), "the refusal")
        assert "models.flawed: version 3: " in error(running)
        assert not scratch(running)


def test_sigterm_ends_a_gateway_during_the_trial_of_an_endless_version(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        place(tmp_path / "models", "flawed", 3, endless)
        edit(running, routing(candidate=3))
        until(lambda: scratch(running), "the trial")
        time.sleep(1)
        began_s = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began_s < 10


def test_start_serves_stable_without_its_endless_candidate(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    endless(tmp_path / "models" / "flawed" / "2" / "model.onnx")
    with running:
        assert shares(running) == {"stable"}
        (out,) = config(running)["unavailable"]
        assert (out["model"], out["version"], "models.load_timeout" in out["reason"]) == ("flawed", 2, True)
        edit(running, yaml.safe_dump(STABLE))
        wait_for_generation(running, 2)
        assert shares(running) == {"stable"}


def test_trial_process_ends_when_the_gateway_is_killed(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        place(tmp_path / "models", "flawed", 3, endless)
        edit(running, routing(candidate=3))
        trials: list[int] = []
        until(lambda: bool(trials.extend(trials_of(running)) or trials), "the trial")
        (trial,) = trials
        kill(running.pid)
        assert running.process is not None
        running.process.wait()
        until(lambda: "gateway.backends.trial_child" not in command_of(trial), "its end")
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(ROUTING))
        with running:  # on the same state
            until(lambda: predict(running) == 200, "an answer, once the workers that were left alone have gone")


# --- a worker without a heartbeat


def test_suspended_worker_is_replaced_and_delays_no_edit(tmp_path: Path) -> None:
    with gateway(tmp_path, server={"heartbeat_timeout": "6s"}) as running:
        suspended = workers(running)[0]
        os.kill(suspended, signal.SIGSTOP)
        began_s = time.monotonic()
        edit(running, routing(weight=100))
        until(lambda: metric(running, "gateway_workers", state="silent") == 1, "that it is shown")
        until(lambda: suspended not in workers(running), "its end")
        assert time.monotonic() - began_s < 15
        assert metric(running, "gateway_workers_killed_total", reason="silent") == 1
        until(lambda: config(running)["generation"] == 2 or bool(error(running)), "an answer to the edit")
        until(lambda: ready(running) == 2, "its successor")
        if error(running):  # a death during an edit is no consent
            edit(running, routing(weight=99.9))
        until(lambda: config(running)["generation"] == 2, "the edit")
        assert "has shown no sign of life" in running.log


def test_workers_suspended_together_with_control_are_kept(tmp_path: Path) -> None:
    with gateway(tmp_path, server={"heartbeat_timeout": "1s"}) as running:
        before = workers(running)
        everyone = [running.pid, *before]
        for pid in everyone:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(4)
        for pid in everyone:
            os.kill(pid, signal.SIGCONT)
        time.sleep(2)
        assert workers(running) == before
        assert metric(running, "gateway_worker_restarts_total") == 0


@contextlib.contextmanager
def one_core() -> Iterator[None]:
    """What is started meanwhile shares one core, and leaves the others to other tests."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def test_worker_on_a_busy_machine_is_not_ended_as_silent(tmp_path: Path) -> None:
    burn = [sys.executable, "-c", "while True: pass"]
    with one_core(), gateway(tmp_path, server={"heartbeat_timeout": "1s"}) as running:
        before = workers(running)
        load = [subprocess.Popen(burn) for _ in range(8)]
        try:
            time.sleep(6)
        finally:
            for process in load:
                process.kill()
                process.wait()
        assert workers(running) == before


# --- what a new worker serves


def test_new_worker_serves_what_the_others_serve(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    place(tmp_path / "models", "extra", 1, doubling)
    place(tmp_path / "models", "unwanted", 1, doubling)
    with running:
        place(tmp_path / "models", "extra", 2, doubling)
        place(tmp_path / "models", "later", 1, doubling)
        assert model(running, "later", "load").status_code == 200
        assert model(running, "unwanted", "unload").status_code == 200
        for restarts, pid in enumerate(workers(running), 1):
            kill(pid)
            until(lambda: metric(running, "gateway_worker_restarts_total") == restarts, "a restart")  # noqa: B023
            until(lambda: ready(running) == 2, "both workers")
            served = {name: {infer(running, name) for _ in range(12)} for name in ("extra", "later", "unwanted")}
            assert served == {"extra": {200}, "later": {200}, "unwanted": {404}}
        assert model(running, "unwanted", "load").status_code == 200
        assert {infer(running, "unwanted") for _ in range(12)} == {200}


def infer(running: GatewayProcess, name: str) -> int:
    return httpx.post(f"{running.url}/v2/models/{name}/infer", json=row()).status_code


def test_dead_worker_is_replaced_during_continuous_edits(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        before = workers(running)
        kill(before[0])
        end_s, weight = time.monotonic() + 20, 0
        while len(set(workers(running)) - {before[0]}) < 2 or ready(running) < 2:
            assert time.monotonic() < end_s, "edits keep it from being replaced"
            weight += 1
            edit(running, routing(weight=weight % 99 + 1))
            time.sleep(0.3)
        assert metric(running, "gateway_worker_restarts_total") == 1
        until(lambda: config(running)["acknowledged"] == 2, "both follow")
        assert not error(running)


# --- a candidate that crashes the workers that run it


@needs_trap
@pytest.mark.parametrize("mirrored", [False, True])
def test_candidate_that_crashes_workers_while_running_is_stopped(tmp_path: Path, mirrored: bool) -> None:
    running = gateway(tmp_path)
    trapping(tmp_path / "models" / "flawed" / "2" / "model.onnx")
    sample = {"inputs": [{"name": "x", "shape": [2, 4], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6, 7, 8]}]}
    (tmp_path / "models" / "flawed" / "warmup.json").write_text(json.dumps(sample))
    (tmp_path / "models" / "flawed" / "model.yaml").write_text("batching: off\nisolation: thread\n")
    if mirrored:
        (tmp_path / "routing.yaml").write_text(routing(weight=0, mirror={"weight": 100}))
    with running:
        assert shares(running) == {"stable", "candidate"} if not mirrored else {"stable"}
        end_s = time.monotonic() + 30
        while not release(running)["stopped"]:
            predict(running, -1.0)
            assert time.monotonic() < end_s
        stop = release(running)["stop"]
        assert (stop["by"], "SIGFPE" in stop["reason"]) == ("worker-deaths", True)
        assert metric(running, "gateway_worker_restarts_total") <= 1
        until(lambda: ready(running) == 2, "both workers")
        assert {predict(running, -1.0) for _ in range(10)} == {200}
        shutil.rmtree(tmp_path / "models" / "flawed" / "2")
