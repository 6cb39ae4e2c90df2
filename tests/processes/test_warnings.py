"""Warnings about the routing file and skipped repository files, in each place where they are reported."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import tritonclient.http

from tests.backends.onnx_models import doubling
from tests.cli.test_main import gateway
from tests.processes.flawed import until
from tests.running import GatewayProcess

LATE = "models.m.split.routes[0]: 'any' matches every request, so those after it never do: 'pilot'; put 'any' last"
ODD = {
    ("flat", ""): "model.onnx lies in no version's folder; move it to 1/model.onnx, with its weights",
    ("triton", "1"): "model.onnx is a folder; put the file model.onnx itself, with its weights, into 1/",
    ("two words", ""): "its name holds more than letters, digits, '_', '-' and '.'; rename it, such as to two_words",
    ("vee", "0"): "is no version; a version's folder is a whole number from 1, such as 1",
    ("vee", "v1"): "is no version; a version's folder is a whole number from 1, such as 1",
}


def routing() -> Any:
    pilot = {"name": "pilot", "match": [{"customer": "x"}], "weight": 100}
    split = {"routes": [{"name": "any", "weight": 5}, pilot]}
    return {"models": {"m": {"stable": 1, "candidate": 2, "split": split}}}


def repository(models: Path) -> Path:
    for version in ("1", "2"):
        doubling(models / "m" / version / "model.onnx")
    for folder in ("flat", "triton/1/model.onnx", "two words/1", "vee/0", "vee/v1"):
        doubling(models / folder / "model.onnx")
    return models


def lines() -> list[str]:
    """The warning for each skipped file."""
    return [f"{'/'.join(filter(None, key))}: {why}" for key, why in ODD.items()]


@pytest.mark.slow
def test_check_lists_warnings_and_exits_with_0(tmp_path: Path) -> None:
    running = GatewayProcess(tmp_path, repository(tmp_path / "models"), routing())
    text = gateway("check", "--config", str(running.config)).stdout
    assert f"warning: {LATE}\n" in text
    assert all(line in text for line in lines())
    document = json.loads(gateway("check", "--json", "--config", str(running.config)).stdout)
    assert document["ok"]
    assert document["warnings"] == [LATE, *(f"{tmp_path}/models/{line}" for line in lines())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "says"), [("flat", "flat: model.onnx lies in no version's"), ("triton", "is a folder")]
)
def test_check_refuses_skipped_versions_that_the_routing_file_names(tmp_path: Path, model: str, says: str) -> None:
    document = {"models": {model: {"stable": 1}}}
    running = GatewayProcess(tmp_path, repository(tmp_path / "models"), document)
    ended = gateway("check", "--config", str(running.config), code=1)
    assert f"models.{model}: version 1: " in ended.stderr
    assert says in ended.stderr


@pytest.mark.slow
def test_running_gateway_reports_the_warnings(tmp_path: Path) -> None:
    with GatewayProcess(tmp_path, repository(tmp_path / "models"), routing()) as running:
        configured = httpx.get(f"{running.control_url}/api/config").json()
        assert (configured["last_error"], configured["warnings"]) == (None, [LATE])
        assert f"warning: {LATE}" in gateway("status", "--config", str(running.config)).stdout
        with tritonclient.http.InferenceServerClient(running.address) as client:
            index = client.get_model_repository_index()
            ready = httpx.post(f"{running.url}/v2/repository/index", json={"ready": True}).json()
        found = {(entry["name"], entry["version"]): entry for entry in index}
        assert len(found) == len(index) == len(ODD) + 2
        for key, why in ODD.items():
            assert found[key]["state"] == "UNAVAILABLE"
            assert why in found[key]["reason"]
        assert [(entry["name"], entry["version"]) for entry in ready] == [("m", "1"), ("m", "2")]
        assert all(running.log.count(line) == 1 for line in (LATE, *lines()))
        (tmp_path / "routing.yaml").write_text("models: {m: {stable: 1, candidate: 2, mirror: {weight: 5}}}")
        until(lambda: httpx.get(f"{running.control_url}/api/config").json()["warnings"] == [], "the mended file")
        assert all(running.log.count(line) == 1 for line in (LATE, *lines()))
