"""Many models, and versions replaced again and again beside them."""

import shutil
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.control.pool.housekeeping import INTERVAL_S
from gateway.shm.claim import memory_path
from gateway.shm.scoreboard import Scoreboard
from tests import running as running_module
from tests.backends import onnx_models
from tests.processes.flawed import metric, until
from tests.running import GatewayProcess

MODELS = 100
EXCHANGES = 16
WORKERS = 2
ROW = {"inputs": [{"name": "x", "shape": [1, 2], "datatype": "FP32", "data": [1, 2]}]}


def repository(folder: Path) -> Path:
    first = folder / "m0" / "1" / "model.onnx"
    onnx_models.doubling(first)
    for number in range(1, MODELS):
        shutil.copytree(folder / "m0", folder / f"m{number}")
    for version in range(2, EXCHANGES + 6):
        shutil.copytree(first.parent, folder / "m0" / str(version))
    return folder


def routing(stable: int, candidate: int) -> dict[str, Any]:
    return {
        "models": {"m0": {"stable": stable, "candidate": candidate, "split": {"routes": [{"name": "a", "weight": 50}]}}}
    }


def is_applied(found: Any, before: int) -> bool:
    return bool(found["generation"] > before and found["acknowledged"] == WORKERS)


@pytest.mark.slow
def test_many_models_with_many_version_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running_module, "READY_WITHIN_S", 300.0)
    models = repository(tmp_path / "models")
    server = {"workers": WORKERS}
    with GatewayProcess(tmp_path, models, routing(1, 2), server=server) as running, httpx.Client() as client:
        path = memory_path(tmp_path / "state").with_suffix(".scoreboard")
        board, asked = Scoreboard.attach(path, WORKERS), 0

        def ask(model: str) -> str:
            nonlocal asked
            answer = client.post(f"{running.url}/v2/models/{model}/infer", json=ROW)
            assert answer.status_code == 200, answer.text
            asked += 1
            return str(answer.json()["model_version"])

        def config() -> Any:
            return client.get(f"{running.control_url}/api/config").json()

        def exchange(stable: int) -> None:
            before = config()["generation"]
            (tmp_path / "routing.yaml").write_text(yaml.safe_dump(routing(stable, stable + 1)))
            until(lambda: is_applied(config(), before), "the edit is in force")
            assert config()["last_error"] is None
            assert int(ask("m0")) in (stable, stable + 1)
            assert metric(running, "gateway_predictions_total") == asked, "a total has fallen"

        def slots_held() -> int:
            return sum(board.held(slot) for slot in range(MODELS + 2 * EXCHANGES))

        for number in range(MODELS):
            assert ask(f"m{number}") in ("1", "2")
        for stable in range(2, EXCHANGES + 1):
            exchange(stable)
        until(lambda: slots_held() == MODELS + 1, "the versions that have gone are released")
        time.sleep(5 * INTERVAL_S)  # until their slots are free
        memory = path.stat().st_blocks
        for stable in (EXCHANGES + 2, EXCHANGES + 4):
            exchange(stable)
        assert path.stat().st_blocks == memory, "slots of versions that have gone are used again"
