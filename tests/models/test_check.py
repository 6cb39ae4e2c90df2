"""`models/check.py`: what a pipeline does not propose."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.recording import MODELS

pytestmark = pytest.mark.slow


def check(model: str, version: Path) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(MODELS / "check.py"), model, str(version), "--at-least", "0.65"]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_version_that_does_not_load_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"not a model")
    ended = check("digits", tmp_path)
    assert ended.returncode == 1
    assert "is not to be proposed" in ended.stderr
    assert "ONNX Runtime cannot load it" in ended.stderr


def test_version_that_is_worse_than_its_manifest_claims_is_refused(tmp_path: Path) -> None:
    version = tmp_path / "version"
    shutil.copytree(MODELS / "tickets" / "1", version)
    manifest = json.loads((version / "training.json").read_text())
    (version / "training.json").write_text(json.dumps(manifest | {"held_out_accuracy": 0.99}))
    ended = check("tickets", version)
    assert (ended.returncode, "0.5797 of 69 held-out rows are right" in ended.stderr) == (1, True)
