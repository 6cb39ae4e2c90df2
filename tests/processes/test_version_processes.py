"""Candidates in a process of their own: what crashes, leaks, hangs or spins there harms no other request."""

import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from onnx import TensorProto, helper

from loadtests.client import Client, request
from loadtests.recorded import Told
from tests.backends.onnx_models import INT64_MIN, looping, needs_trap, place, save
from tests.processes.flawed import children, command_of, metric, suspend, until, workers
from tests.processes.recorded import assert_all_are_recorded_once, records
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
INT64 = TensorProto.INT64
EVERYONE = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 100}]}


def negating(operator: str) -> Any:
    """y = x * -1, or x / -1: the same but for the least integer, which kills the process that divides it."""

    def make(path: Path) -> Path:
        minus = helper.make_tensor("minus", INT64, [], [-1])
        node = helper.make_node(operator, ["x", "minus"], ["y"])
        return save(path, [node], {"x": (INT64, ["n", 2])}, {"y": (INT64, ["n", 2])}, [minus])

    return make


def body(*values: int) -> bytes:
    return json.dumps(
        {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "INT64", "data": [*values, 7][:2]}]}
    ).encode()


def version_pids(gateway: GatewayProcess) -> list[int]:
    """The processes of versions that have not ended, children of the template, which is one of control's."""
    (template,) = [pid for pid in children(gateway.pid) if "gateway.backends.process" in command_of(pid)]
    return [pid for pid in children(template) if command_of(pid)]


def serving(folder: Path, release: dict[str, Any], model_yaml: str = "", **settings: Any) -> GatewayProcess:
    """Two workers; 'negate' has a candidate that the least integer kills, 'bystander' has none."""
    models = folder / "models"
    place(models, "negate", 1, negating("Mul"))
    place(models, "negate", 2, negating("Div"))
    (models / "negate" / "warmup.json").write_bytes(body(1))
    if model_yaml:
        (models / "negate" / "model.yaml").write_text(model_yaml)
    place(models, "bystander", 1, negating("Mul"))
    routing = {"models": {"negate": {"stable": 1, "candidate": 2, **release}}}
    return GatewayProcess(folder, models, routing, server={"workers": 2, **settings.pop("server", {})}, **settings)


def ask(gateway: GatewayProcess, *values: int, model: str = "negate") -> httpx.Response:
    return httpx.post(f"{gateway.url}/v2/models/{model}/infer", content=body(*values), timeout=30)


def release(gateway: GatewayProcess) -> Any:
    return httpx.get(f"{gateway.control_url}/api/releases/negate").json()


def answers_from_candidate(gateway: GatewayProcess) -> bool:
    return bool(ask(gateway, 1).json()["parameters"]["variant"] == "candidate")


@contextmanager
def bystanders(gateway: GatewayProcess) -> Iterator[Told]:
    """Clients of another model, who ask all the time; none of them may lose an answer."""
    told, end = Told(), threading.Event()

    def run() -> None:
        sent = request("/v2/models/bystander/infer", body(3))
        with Client(("127.0.0.1", gateway.port), 8, lambda: sent) as client:
            while not end.is_set():
                client.keep_busy(0.05, told)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield told
    finally:
        end.set()
        thread.join()


@needs_trap
def test_candidate_killed_by_a_request_is_rescued_recorded_as_crashed_and_stopped(tmp_path: Path) -> None:
    with serving(tmp_path, {"split": EVERYONE}) as gateway:
        before = workers(gateway)
        with bystanders(gateway) as told:
            answers = []
            for _ in range(10):
                until(lambda: release(gateway)["stopped"] or answers_from_candidate(gateway), "the candidate")
                answers.append(ask(gateway, INT64_MIN).json())
            until(lambda: release(gateway)["stopped"], "the stop")
        assert [answer["outputs"][0]["data"] for answer in answers] == [[INT64_MIN, -7]] * 10
        assert {answer["parameters"]["variant"] for answer in answers} == {"stable"}
        assert (told.failures, workers(gateway)) == ({}, before)
        stop = release(gateway)["stop"]
        assert (stop["by"], "SIGFPE" in stop["reason"], stop["evidence"]["deaths"]) == ("crashes", True, 3)
        assert metric(gateway, "gateway_rescues_total", model="negate", reason="crashed") == 3
    crashed = [record["prediction_id"] for record in records(tmp_path) if record["rescue_reason"] == "crashed"]
    assert (len(crashed), set(stop["evidence"]["predictions"])) == (3, set(crashed))
    assert all(prediction in stop["reason"] for prediction in crashed)


@needs_trap
def test_mirrored_requests_that_kill_the_candidate_are_noticed_by_no_client_and_stop_it(tmp_path: Path) -> None:
    split = {**EVERYONE, "routes": [{"name": "everyone", "weight": 0}]}
    with serving(tmp_path, {"split": split, "mirror": {"weight": 100}}) as gateway:
        before = workers(gateway)
        end_s = time.monotonic() + 60
        while not release(gateway)["stopped"]:
            answer = ask(gateway, INT64_MIN)
            assert answer.status_code == 200
            assert time.monotonic() < end_s
            time.sleep(0.05)
        stop = release(gateway)["stop"]
        assert (stop["by"], len(stop["evidence"]["predictions"])) == ("crashes", 3)
        assert workers(gateway) == before


def test_process_killed_again_and_again_under_load_loses_no_request_and_no_record(tmp_path: Path) -> None:
    models = tmp_path / "models"
    for version in (1, 2):
        place(models, "loop", version, looping)
    turns = {"inputs": [{"name": "x", "shape": [1], "datatype": "INT64", "data": [3000]}]}
    (models / "loop" / "warmup.json").write_text(json.dumps(turns))
    guards = {"breaker": {"crashes": 1000, "consecutive_failures": 1000}}
    routing = {"models": {"loop": {"stable": 1, "candidate": 2, "split": EVERYONE, "guards": guards}}}
    told, kills = Told(), 0
    with GatewayProcess(tmp_path, models, routing, server={"workers": 2}) as gateway:
        sent = request("/v2/models/loop/infer", json.dumps(turns).encode())
        with Client(("127.0.0.1", gateway.port), 24, lambda: sent) as client:
            while kills < 7:
                client.keep_busy(0.2, told)
                pids = version_pids(gateway)
                if told.variants["candidate"] and pids and metric(gateway, "gateway_version_process_up", model="loop"):
                    client.send()
                    time.sleep(0.005)
                    os.kill(pids[0], signal.SIGKILL)
                    kills += 1
                    for answer in client.rest():
                        told.add(answer)
        assert told.failures == {}
        assert told.variants["candidate"] > 0
        assert not httpx.get(f"{gateway.control_url}/api/releases/loop").json()["stopped"]
        assert metric(gateway, "gateway_version_process_starts_total", model="loop") >= 7
    assert_all_are_recorded_once(tmp_path, told)


def test_suspended_process_is_rescued_stopped_and_replaced(tmp_path: Path) -> None:
    settings = {"heartbeat_timeout": "10s"}  # ten answers in a row are missed before, on the busiest machine
    with serving(tmp_path, {"split": EVERYONE, "rescue": {"timeout": "100ms"}}, server=settings) as gateway:
        (pid,) = version_pids(gateway)
        suspend(pid)
        try:
            end_s = time.monotonic() + 30
            while not release(gateway)["stopped"]:
                answer = ask(gateway, 1).json()
                assert (answer["outputs"][0]["data"], answer["parameters"]["variant"]) == ([-1, -7], "stable")
                assert time.monotonic() < end_s
            assert release(gateway)["stop"]["by"] == "breaker"
            until(lambda: version_pids(gateway) not in ([pid], []), "its replacement")
        finally:
            if command_of(pid):
                os.kill(pid, signal.SIGCONT)


def test_process_ends_with_the_workers_when_control_is_killed(tmp_path: Path) -> None:
    with serving(tmp_path, {"split": EVERYONE}) as gateway:
        assert gateway.process is not None
        (pid,) = version_pids(gateway)
        serving_pids = workers(gateway)
        gateway.process.kill()
        gateway.process.wait()
        assert ask(gateway, 1).json()["parameters"]["variant"] in {"stable", "candidate"}
        until(lambda: ask(gateway, 1).json()["parameters"]["variant"] == "stable", "the dead man's switch")
        for worker in serving_pids:
            os.kill(worker, signal.SIGTERM)
        until(lambda: not command_of(pid), "the end of the version's process")
        gateway.__enter__()


def test_stable_version_in_a_process_of_its_own_survives_its_death(tmp_path: Path) -> None:
    with serving(tmp_path, {}, "isolation: process\n") as gateway:
        answers: Counter[int] = Counter()
        for round_ in range(3):
            pids = version_pids(gateway)
            killing = threading.Timer(0.05, lambda pids=pids: [os.kill(pid, signal.SIGKILL) for pid in pids])
            killing.start()
            while killing.is_alive():
                answers[ask(gateway, round_).status_code] += 1
            for _ in range(5):
                answers[ask(gateway, round_).status_code] += 1
            until(lambda: len(set(version_pids(gateway)) - set(pids)) == 2, "the processes")  # noqa: B023
        assert answers.keys() == {200}


@needs_trap
def test_requests_that_kill_a_stable_version_fail_and_those_beside_them_do_not(tmp_path: Path) -> None:
    """Stable divides; some clients send the integer that kills it, many others, of two workers, do not."""
    models = tmp_path / "models"
    place(models, "negate", 1, negating("Div"))
    (models / "negate" / "warmup.json").write_bytes(body(1))
    (models / "negate" / "model.yaml").write_text("isolation: process\n")
    innocent, killers = Told(), []
    with GatewayProcess(tmp_path, models, {"models": {"negate": {"stable": 1}}}, server={"workers": 2}) as gateway:

        def kill() -> None:
            killers.append(ask(gateway, INT64_MIN).status_code)

        sent = request("/v2/models/negate/infer", body(3))
        with Client(("127.0.0.1", gateway.port), 16, lambda: sent) as client:
            threads = [threading.Thread(target=kill) for _ in range(3)]
            for thread in threads:
                thread.start()
            while any(thread.is_alive() for thread in threads):
                client.keep_busy(0.1, innocent)
            client.keep_busy(0.5, innocent)
        assert killers == [500] * 3
        assert (innocent.failures, innocent.variants["stable"] > 100) == ({}, True)
        # the first start, at least one death with all killers inside, and one of each killer alone
        assert metric(gateway, "gateway_version_process_starts_total", model="negate") >= 5


def test_edit_to_a_candidate_that_cannot_be_loaded_in_its_process_changes_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, {"split": EVERYONE}) as gateway:
        pids = version_pids(gateway)
        folder = tmp_path / "models" / "negate" / "3"
        folder.mkdir()
        (folder / "model.onnx").write_bytes(b"no model")
        routing = {"models": {"negate": {"stable": 1, "candidate": 3, "split": EVERYONE}}}
        (tmp_path / "routing.yaml").write_text(yaml.safe_dump(routing))
        url = f"{gateway.control_url}/api/config"
        until(lambda: "ONNX Runtime cannot load it" in (httpx.get(url).json()["last_error"] or ""), "the refusal")
        assert ask(gateway, 1).json()["parameters"]["variant"] == "candidate"
        assert version_pids(gateway) == pids
