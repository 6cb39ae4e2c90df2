"""The state folder contains client data and keys."""

import stat
from pathlib import Path

from tests.backends import onnx_models
from tests.running import GatewayProcess


def test_new_state_folder_is_accessible_by_its_owner_only(tmp_path: Path) -> None:
    onnx_models.doubling(tmp_path / "models" / "doubling" / "1" / "model.onnx")
    with GatewayProcess(tmp_path, tmp_path / "models"):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
