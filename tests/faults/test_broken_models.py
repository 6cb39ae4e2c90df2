"""Broken files: what cannot serve is refused by name; everything else is served, and what is missing is reported."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
from onnx import TensorProto, helper

from tests import zoo
from tests.backends import onnx_models
from tests.backends.onnx_models import FLOAT, save
from tests.faults.test_overload import until
from tests.running import GatewayProcess
from tests.wire import row

pytestmark = pytest.mark.slow

EVERYONE = {"stable": 1, "candidate": 2, "split": {"routes": [{"name": "everyone", "weight": 100}]}}


def squaring(path: Path) -> Path:
    """y = x * x on [n, 2]: replaces a doubling model."""
    return save(path, [helper.make_node("Mul", ["x", "x"], ["y"])], {"x": (FLOAT, ["n", 2])}, {"y": (FLOAT, ["n", 2])})


def halved(path: Path) -> Path:
    """A real model file of which only the first half was copied."""
    whole = squaring(path).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    return path


def empty(path: Path) -> Path:
    path.write_bytes(b"")
    return path


def missing(path: Path) -> Path:
    return path


def of_an_unknown_operator(path: Path) -> Path:
    node = helper.make_node("Improve", ["x"], ["y"], domain="com.example")
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("com.example", 1)]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), opset_imports=opsets)
    onnx.save(model, str(path))
    return path


def pairing(path: Path) -> Path:
    """Rows in pairs: it fails at run time on an odd number of elements."""
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [2, -1])
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    return save(path, [node], {"x": (FLOAT, ["n"])}, {"y": (FLOAT, [2, "half"])}, [shape])


Maker = Callable[[Path], Path]
BROKEN: list[Maker] = [zoo.garbage, halved, empty, missing, of_an_unknown_operator, zoo.half_known]


def put(models: Path, name: str, version: int, make: Maker) -> Path:
    path = models / name / str(version) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    return make(path)


def start(command: str, config: Path) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-m", "gateway", command, "--config", str(config)]
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ | {"COLUMNS": "300"}
    )


def refused(config: Path, *parts: str, by: tuple[str, ...] = ("serve", "check")) -> None:
    """Check that the commands exit with 1, and with a reason on stderr that contains all `parts`."""
    for process in [start(command, config) for command in by]:
        with process:
            stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 1, (stdout, stderr)
        for part in parts:
            assert part in stderr
        assert "Traceback" not in stderr


def infer(gateway: GatewayProcess, path: str = "m", document: Any = None) -> httpx.Response:
    return httpx.post(f"{gateway.url}/v2/models/{path}/infer", json=document or row())


def index(gateway: GatewayProcess) -> dict[tuple[str, str], tuple[str, str]]:
    entries = httpx.post(f"{gateway.url}/v2/repository/index").json()
    return {(entry["name"], entry["version"]): (entry["state"], entry["reason"]) for entry in entries}


@pytest.mark.parametrize("make", BROKEN)
def test_broken_stable_version_is_refused_with_its_file(make: Maker, tmp_path: Path) -> None:
    file = put(tmp_path / "models", "m", 1, make)
    put(tmp_path / "models", "other", 1, onnx_models.doubling)
    config = GatewayProcess(tmp_path, tmp_path / "models", {"models": {"m": {"stable": 1}}}).config
    refused(config, str(file))


def test_broken_candidate_is_unavailable_and_stable_serves(tmp_path: Path) -> None:
    models = tmp_path / "models"
    files = {f"m{number}": put(models, f"m{number}", 2, make) for number, make in enumerate(BROKEN)}
    files["narrow"] = put(models, "narrow", 2, onnx_models.centring)
    for name in files:
        put(models, name, 1, onnx_models.doubling)
    with GatewayProcess(tmp_path, models, {"models": dict.fromkeys(files, EVERYONE)}) as gateway:
        for name, file in files.items():
            answer = infer(gateway, name)
            assert (answer.status_code, answer.headers["x-variant"]) == (200, "stable")
            assert answer.json()["outputs"][0]["data"] == [2, 4]
            assert infer(gateway, f"{name}/versions/2").status_code == 404
            assert index(gateway)[name, "1"] == ("READY", "")
            state, reason = index(gateway)[name, "2"]
            assert (state, str(file) in reason or name == "narrow") == ("UNAVAILABLE", True)
            assert len(reason) > 20
        until(lambda: gateway.log.count("version 2 is not served") == len(files), "the table, which follows readiness")
        assert httpx.get(f"{gateway.url}/v2/health/ready").status_code == 200
        refused(gateway.config, *(f"models.{name}: version 2" for name in files), by=("check",))
    assert "Traceback" not in gateway.log


def test_fixed_candidate_is_served_once_loaded_and_a_broken_load_changes_nothing(tmp_path: Path) -> None:
    models = tmp_path / "models"
    put(models, "m", 1, onnx_models.doubling)
    put(models, "m", 2, zoo.garbage)
    with GatewayProcess(tmp_path, models, {"models": {"m": EVERYONE}}) as gateway:
        load = f"{gateway.url}/v2/repository/models/m/load"
        assert httpx.post(load).status_code == 200, "stable loads"
        assert infer(gateway).headers["x-variant"] == "stable"
        put(models, "m", 2, squaring)
        assert httpx.post(load).status_code == 200
        answer = infer(gateway)
        assert (answer.headers["x-variant"], answer.json()["outputs"][0]["data"]) == ("candidate", [1, 4])
        assert index(gateway)["m", "2"] == ("READY", "")
        file = put(models, "m", 1, zoo.garbage)
        refusal = httpx.post(load)
        assert (refusal.status_code, str(file) in refusal.json()["error"]) == (400, True)
        assert infer(gateway).json()["outputs"][0]["data"] == [1, 4], "what was served before still is"
        assert infer(gateway, "m/versions/1").json()["outputs"][0]["data"] == [2, 4]


def test_broken_model_without_an_entry_does_not_affect_others(tmp_path: Path) -> None:
    models = tmp_path / "models"
    put(models, "m", 1, onnx_models.doubling)
    file = put(models, "stray", 3, zoo.garbage)
    (models / "notes").mkdir()
    (models / ".hidden" / "1").mkdir(parents=True)
    with GatewayProcess(tmp_path, models) as gateway:
        assert infer(gateway).status_code == 200
        assert infer(gateway, "stray").status_code == 404
        assert index(gateway).keys() == {("m", "1"), ("stray", "3"), ("notes", "")}
        assert str(file) in index(gateway)["stray", "3"][1]


def test_model_that_fails_on_some_inputs_answers_the_others(tmp_path: Path) -> None:
    def of(count: int) -> Any:
        return {"inputs": [{"name": "x", "shape": [count], "datatype": "FP32", "data": [0.5] * count}]}

    put(tmp_path / "models", "m", 1, pairing)
    with GatewayProcess(tmp_path, tmp_path / "models") as gateway:
        for _ in range(3):
            failed = infer(gateway, "m", of(3))
            assert (failed.status_code, failed.json()["error"].startswith("the model failed")) == (500, True)
            assert infer(gateway, "m", of(4)).json()["outputs"][0]["shape"] == [2, 2]


# what is wrong: changes to gateway.yaml, routing.yaml and model.yaml as text, and what the reason must contain
MISTAKES: dict[str, tuple[dict[str, str], list[str]]] = {
    "syntax": ({"gateway.yaml": "server: {port: 1\nlimits: {}\n"}, ["gateway.yaml", "line 2"]),
    "unknown key": ({"gateway.yaml": "limits: {inflght: 5}\n"}, ["gateway.yaml: limits.inflght", "'inflight'"]),
    "value": ({"gateway.yaml": "limits: {timeout: 10}\n"}, ["gateway.yaml: limits.timeout", "10s"]),
    "routing key": ({"routing.yaml": "models: {m: {stabel: 1, stable: 1}}\n"}, ["models.m.stabel", "'stable'"]),
    "no such version": ({"routing.yaml": "models: {m: {stable: 7}}\n"}, ["'m'", "version 7", "it has 1"]),
    "no such model": ({"routing.yaml": "models: {nothing: {stable: 1}}\n"}, ["'nothing'"]),
    "model.yaml": ({"models/m/model.yaml": "thread: 1\n"}, ["models/m/model.yaml: thread", "'threads'"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistake_in_a_settings_file_is_named_by_its_path(mistake: str, tmp_path: Path) -> None:
    put(tmp_path / "models", "m", 1, onnx_models.doubling)
    config = GatewayProcess(tmp_path, tmp_path / "models", {"models": {"m": {"stable": 1}}}).config
    changes, parts = MISTAKES[mistake]
    for name, text in changes.items():
        (tmp_path / name).write_text(text)
    refused(config, *parts)


def test_missing_files_are_refused_by_name(tmp_path: Path) -> None:
    put(tmp_path / "models", "m", 1, onnx_models.doubling)
    config = GatewayProcess(tmp_path, tmp_path / "models").config
    refused(tmp_path / "other.yaml", "other.yaml", "no such file")
    (tmp_path / "routing.yaml").unlink()
    refused(config, "routing.yaml", "no such file")
    (tmp_path / "routing.yaml").touch()
    shutil.rmtree(tmp_path / "models")
    refused(config, str(tmp_path / "models"), "is no folder")
