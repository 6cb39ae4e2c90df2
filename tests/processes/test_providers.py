"""A provider that cannot be used is reported by check, the log, status, the index and the API."""

import json
from pathlib import Path

import httpx
import onnxruntime
import pytest

from tests.backends import onnx_models
from tests.processes.test_commands import command
from tests.running import GatewayProcess

ABSENT = next(name for name in onnxruntime.get_all_providers() if name not in onnxruntime.get_available_providers())
CPU = "CPUExecutionProvider"
WARNING = f"{ABSENT} cannot be used, it runs on {CPU}: this onnxruntime is built without it"


@pytest.mark.slow
def test_provider_in_use_is_reported_everywhere(tmp_path: Path) -> None:
    for name in ("asking", "plain"):
        onnx_models.doubling(tmp_path / "models" / name / "1" / "model.onnx")
    settings = tmp_path / "models" / "asking" / "model.yaml"
    settings.write_text(f"providers: [{ABSENT}: {{device_id: 0}}, {CPU}]\n")
    with GatewayProcess(tmp_path, tmp_path / "models") as gateway:
        releases = httpx.get(f"{gateway.control_url}/api/releases").json()
        told = {release["model"]: release["versions"][0] for release in releases}
        index = httpx.post(f"{gateway.url}/v2/repository/index").json()
        status = command(gateway.config, "status").stdout
        checked = command(gateway.config, "check")
        as_json = command(gateway.config, "check", "--json")
        settings.write_text(f"providers: [{ABSENT}]\n")
        refused = command(gateway.config, "check")
        reloaded = httpx.post(f"{gateway.url}/v2/repository/models/asking/load")
    assert (told["asking"]["runs_on"], told["asking"]["warning"]) == ([CPU], WARNING)
    assert (told["plain"]["runs_on"], told["plain"]["warning"]) == ([CPU], None)
    assert {entry["name"]: (entry["state"], entry["reason"]) for entry in index} == {
        "asking": ("READY", WARNING),
        "plain": ("READY", ""),
    }
    assert f"version 1: {WARNING}" in " ".join(status.split())
    assert gateway.log.count(f"version 1 of 'asking': {WARNING}") == 1
    assert (checked.returncode, f"models.asking: version 1: {WARNING}\n" in checked.stdout) == (0, True)
    first, second = json.loads(as_json.stdout)["versions"]
    assert (first["runs_on"], first["warning"], first["in_threads"]) == ([CPU], WARNING, None)
    assert (second["runs_on"], second["warning"]) == ([CPU], None)
    assert (refused.returncode, f"provider {ABSENT} is not in this onnxruntime" in refused.stderr) == (1, True)
    assert reloaded.status_code == 400
    assert ABSENT in reloaded.json()["error"]
