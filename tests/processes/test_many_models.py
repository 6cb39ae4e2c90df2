"""Many models, and versions replaced again and again beside them."""

import shutil
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.shm.claim import memory_path
from gateway.shm.segment import WORD
from gateway.shm.tally import BLOCK
from tests import running as running_module
from tests.backends import onnx_models
from tests.processes.flawed import metric, until
from tests.running import GatewayProcess

MODELS = 100
EXCHANGES = 16
ROW = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


def repository(folder: Path) -> Path:
    first = folder / "m0" / "1" / "model.onnx"
    onnx_models.doubling(first)
    for number in range(1, MODELS):
        shutil.copytree(folder / "m0", folder / f"m{number}")
    for version in range(2, EXCHANGES + 2):
        shutil.copytree(first.parent, folder / "m0" / str(version))
    return folder


def routing(stable: int, candidate: int) -> dict[str, Any]:
    return {
        "models": {"m0": {"stable": stable, "candidate": candidate, "split": {"routes": [{"name": "a", "weight": 50}]}}}
    }


def is_applied(found: Any, before: int) -> bool:
    return bool(found["generation"] > before and found["acknowledged"] == 2)


@pytest.mark.slow
def test_many_models_with_many_version_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "READY_WITHIN_S", 300.0)
    models = repository(tmp_path / "models")
    with GatewayProcess(tmp_path, models, routing(1, 2), server={"workers": 2}) as running, httpx.Client() as client:

        def ask(model: str) -> str:
            answer = client.post(f"{running.url}/v2/models/{model}/infer", json=ROW)
            assert answer.status_code == 200, answer.text
            return str(answer.json()["model_version"])

        def config() -> Any:
            return client.get(f"{running.control_url}/api/config").json()

        for number in range(MODELS):
            assert ask(f"m{number}") in ("1", "2")
        asked, generation = MODELS, config()["generation"]
        board = memory_path(tmp_path / "state").with_suffix(".scoreboard")
        for stable in range(2, EXCHANGES + 1):
            (tmp_path / "routing.yaml").write_text(yaml.safe_dump(routing(stable, stable + 1)))
            until(lambda: is_applied(config(), generation), "the edit is in force")  # noqa: B023
            found = config()
            assert found["last_error"] is None
            generation = found["generation"]
            assert int(ask("m0")) in (stable, stable + 1)
            asked += 1
            assert metric(running, "gateway_predictions_total") == asked, "a total has fallen"
        used = board.stat().st_blocks * 512
        assert used < (MODELS + 12) * 2 * BLOCK * WORD, "slots of versions that have gone are used again"
