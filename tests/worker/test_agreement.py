"""Whether a mirrored answer agrees with stable's: the same class, a number within the tolerance, a similar vector."""

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from gateway.backends.in_worker import in_worker
from gateway.backends.loaded_version import load_version
from gateway.backends.version import ModelVersion
from gateway.settings.model import ModelSettings
from gateway.shm.tally import Tally
from gateway.worker.agreement import agreement
from tests.backends.onnx_models import FLOAT, save


def version(folder: Path, prediction: dict[str, Any], width: int) -> ModelVersion:
    file = folder / "m" / "1" / "model.onnx"
    node = helper.make_node("Identity", ["x"], ["y"])
    save(file, [node], {"x": (FLOAT, ["n", width])}, {"y": (FLOAT, ["n", width])})
    settings = ModelSettings.model_validate({"prediction": {"output": "y", **prediction}})
    loaded = load_version(file, settings, folder / "m" / "warmup.json")

    async def on_a_loop() -> ModelVersion:
        return in_worker("m", 1, loaded, Tally())

    return asyncio.run(on_a_loop())


NAN = float("nan")
REGRESSION = {"kind": "regression"}


@pytest.mark.parametrize(
    ("prediction", "stable", "candidate", "agrees"),
    [
        ({"labels": ["a", "b"]}, [[0.1, 0.9]], [[0.4, 0.6]], True),
        ({"labels": ["a", "b"]}, [[0.1, 0.9], [1, 0]], [[0.4, 0.6], [0, 1]], False),
        (REGRESSION, [[100.0]], [[101.0]], True),
        (REGRESSION, [[100.0]], [[101.1]], False),
        (REGRESSION, [[-100.0], [2]], [[-99.5], [2.1]], False),
        (REGRESSION, [[0.0]], [[0.0]], True),
        (REGRESSION, [[0.0]], [[1e-9]], False),
        ({**REGRESSION, "range": [0, 50]}, [[0.0]], [[0.5]], True),
        ({**REGRESSION, "range": [0, 50]}, [[0.0]], [[0.51]], False),
        ({**REGRESSION, "range": [0, 50], "tolerance": 3}, [[1.0]], [[4.0]], True),
        ({**REGRESSION, "tolerance": 0}, [[1.0]], [[1.0000001]], False),
        (REGRESSION, [[NAN]], [[NAN]], True),
        (REGRESSION, [[NAN]], [[1.0]], False),
        ({"kind": "multilabel"}, [[0.6, 0.4]], [[0.9, 0.1]], True),
        ({"kind": "multilabel"}, [[0.6, 0.4]], [[0.6, 0.5]], False),
        ({"kind": "embedding"}, [[1, 0], [3, 4]], [[5, 0], [3, 4.5]], True),
        ({"kind": "embedding"}, [[1, 0], [3, 4]], [[5, 0], [4, 3]], False),
        ({"kind": "embedding", "cosine": 0.95}, [[3, 4]], [[4, 3]], True),
        ({"kind": "embedding"}, [[0, 0]], [[0, 0]], True),
        ({"kind": "embedding"}, [[0, 0]], [[1, 0]], False),
        ({"kind": "embedding"}, [[NAN, 0]], [[1, 0]], False),
        ({"kind": "ranking"}, [[3, 2, 1]], [[9, 5, 1]], True),
        ({"kind": "ranking"}, [[3, 2, 1]], [[3, 1, 2]], False),
        ({"kind": "ranking"}, [[0.3], [0.2]], [[0.1], [0.2]], False),
        ({"kind": "none"}, [[100.0]], [[100.5]], True),
        ({"kind": "none"}, [[100.0]], [[102.0]], False),
    ],
)
def test_answers_agree_by_kind(
    tmp_path: Path, prediction: dict[str, Any], stable: list[Any], candidate: list[Any], agrees: bool
) -> None:
    ours, theirs = np.array(stable, np.float32), np.array(candidate, np.float32)
    served = version(tmp_path, prediction, ours.shape[1])
    distance = float(np.abs(ours - theirs).sum() / max(np.abs(ours).sum(), 1e-9))
    assert agreement(served, [ours], served, [theirs], distance) is agrees
