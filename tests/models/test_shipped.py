"""The shipped models: re-running their scripts gives the same files, and their accuracy is as stated."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[2] / "models"
NAMES = ("digits", "tumor", "tickets")


def module_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(MODELS))
    spec = importlib.util.spec_from_file_location(f"train_{name}", MODELS / name / "train.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def answers(file: Path, rows: Any) -> list[Any]:
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    results: list[Any] = session.run(["label", "probabilities"], {session.get_inputs()[0].name: rows})
    return results


@pytest.mark.parametrize("name", NAMES)
def test_training_again_gives_the_same_predictions(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On one machine, the same bytes too; another processor's arithmetic may differ in the last bit."""
    script = MODELS / name / "train.py"
    subprocess.run(
        [sys.executable, "-W", "ignore", str(script), "--out", str(tmp_path)], check=True, capture_output=True
    )
    rows = module_of(name, monkeypatch).load().test_x
    for version in ("1", "2"):
        labels, scores = answers(MODELS / name / version / "model.onnx", rows)
        again, scores_again = answers(tmp_path / version / "model.onnx", rows)
        assert np.array_equal(labels, again)
        assert np.allclose(scores, scores_again, atol=1e-4)
        assert (MODELS / name / version / "training.json").read_text() == (
            tmp_path / version / "training.json"
        ).read_text()


@pytest.mark.parametrize("name", ["digits", "tickets"])
def test_first_version_states_the_rows_that_it_has_learned_from(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = json.loads((MODELS / name / "1" / "training.json").read_text())
    assert stated["train_rows"] == module_of(name, monkeypatch).FEW
    assert stated["estimator"].endswith(f"on {stated['train_rows']} rows")


@pytest.mark.parametrize("name", NAMES)
def test_accuracy_on_held_out_rows_is_as_stated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = module_of(name, monkeypatch).load()
    stated = []
    for version in ("1", "2"):
        manifest = json.loads((MODELS / name / version / "training.json").read_text())
        labels, _ = answers(MODELS / name / version / "model.onnx", data.test_x)
        assert manifest["data_sha256"] == data.sha256
        assert round(float(np.mean(labels == data.test_y)), 4) == manifest["held_out_accuracy"]
        assert f"{manifest['held_out_accuracy']:.3f}" in (MODELS / name / "model.yaml").read_text()
        stated.append(manifest["held_out_accuracy"])
    assert stated[1] > stated[0] + 0.04, "version 2 must be worth a candidate"
