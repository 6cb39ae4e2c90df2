"""The state folder holds what customers have sent, and keys."""

import stat
from pathlib import Path

from tests.backends import onnx_models
from tests.running import GatewayProcess


def test_a_state_folder_that_the_gateway_makes_is_its_users_alone(tmp_path: Path) -> None:
    onnx_models.doubling(tmp_path / "models" / "doubling" / "1" / "model.onnx")
    with GatewayProcess(tmp_path, tmp_path / "models"):
        assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
