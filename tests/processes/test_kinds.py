"""A regression on scikit-learn's diabetes data, judged by its truths in a gateway that really serves."""

import json
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from skl2onnx import to_onnx
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import train_test_split

from tests.cli.test_main import gateway
from tests.processes.flawed import until
from tests.processes.recorded import feedback, records
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

MODEL_YAML = """\
prediction: {output: variable, kind: regression, unit: progression, range: [0, 350]}
features: [age, sex, bmi, bp, s1, s2, s3, s4, s5, s6]
"""
ROUTING = {
    "models": {
        "diabetes": {
            "stable": 1,
            "candidate": 2,
            "split": {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]},
        }
    }
}
BATCH = 5


def repository(folder: Path, bias: float = 0) -> tuple[Any, Any, dict[int, Any]]:
    """Write two versions: least squares, and a ridge far too strong and `bias` too high.

    Returns held-out rows, their truths, and the models.
    """
    x, y = load_diabetes(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(x.astype(np.float32), y, test_size=100, random_state=7)
    models = {1: LinearRegression().fit(train_x, train_y), 2: Ridge(alpha=30).fit(train_x, train_y)}
    models[2].intercept_ += bias
    for version, model in models.items():
        file = folder / "diabetes" / str(version) / "model.onnx"
        file.parent.mkdir(parents=True)
        file.write_bytes(to_onnx(model, train_x[:1], target_opset={"": 17, "ai.onnx.ml": 3}).SerializeToString())
    (folder / "diabetes" / "model.yaml").write_text(MODEL_YAML)
    return test_x, test_y, models


def predict(client: httpx.Client, rows: Any) -> dict[str, Any]:
    tensor = {"name": "X", "shape": list(rows.shape), "datatype": "FP32", "data": rows.ravel().tolist()}
    answer = client.post("/v2/models/diabetes/infer", json={"inputs": [tensor]})
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def test_errors_of_a_regression_reach_the_records(tmp_path: Path) -> None:
    test_x, test_y, models = repository(tmp_path / "models")
    running = GatewayProcess(tmp_path / "gateway", tmp_path / "models", ROUTING)
    given: dict[str, tuple[int, Any, list[float]]] = {}  # version, rows and truths by prediction id
    with running, httpx.Client(base_url=running.url) as client:
        for start in range(0, 100, BATCH):
            rows = test_x[start : start + BATCH] if start % 2 else test_x[start : start + 1]
            answer = predict(client, rows)
            truths = test_y[start : start + len(rows)].tolist()
            given[answer["parameters"]["prediction_id"]] = int(answer["model_version"]), rows, truths
        entries = [
            {"prediction_id": one, "truth": truths if len(truths) > 1 else truths[0], "metrics": {"visits": 2}}
            for one, (_, _, truths) in given.items()
        ]
        answer = client.post("/v2/feedback", json=[*entries, {**entries[0], "truth": "high"}]).json()
        assert answer["accepted"] == len(entries)
        (rejected,) = answer["rejected"]
        assert "truth 'high' is not a number" in rejected["error"]
        folder = running.config.parent
        until(lambda: len(feedback(folder)) == len(entries), "all feedback is written")
    assert {version for version, _, _ in given.values()} == {1, 2}, "both versions have answered"
    for record in feedback(folder):
        version, rows, truths = given[record["prediction_id"]]
        errors = models[version].predict(rows) - truths
        assert record["outcomes"] == pytest.approx(
            {
                "loss": np.abs(errors).mean(), "squared_error": (errors**2).mean(), "error": errors.mean(),
                "metrics.visits": 2,
            },
            rel=1e-3, abs=1e-2,
        )  # fmt: skip
    for record in records(folder):
        _, rows, _ = given[record["prediction_id"]]
        assert len(record["predictions"]["variable"]) == len(rows)


def checked(running: GatewayProcess, code: int) -> str:
    ended = gateway("check", "--config", str(running.config), code=code)
    return ended.stderr if code else ended.stdout


def test_check_says_what_each_version_predicts_and_refuses_what_cannot_be(tmp_path: Path) -> None:
    repository(tmp_path / "models")
    routing = json.loads(json.dumps(ROUTING))
    guards = {"comparisons": [{"name": "accuracy", "metric": "wrong_feedback"}]}
    running = GatewayProcess(tmp_path / "gateway", tmp_path / "models", routing)
    assert "regression on variable (progression, 0 to 350)" in checked(running, 0)
    routing["models"]["diabetes"]["guards"] = guards
    inert = GatewayProcess(tmp_path / "inert", tmp_path / "models", routing)
    assert "output 'variable' is of kind regression, and wrong_feedback needs" in checked(inert, 1)
    (tmp_path / "models" / "diabetes" / "model.yaml").write_text("features: [age, sex]\n")
    assert "features names 2 columns, but input 'X', FP32 [-1, 10], has 10 columns" in checked(running, 1)


def test_worse_regression_is_stopped_by_its_loss(tmp_path: Path) -> None:
    """The candidate's numbers are 120 too high; feedback comes for batches of five, which count once each."""
    test_x, test_y, _ = repository(tmp_path / "models", bias=120)
    routing = json.loads(json.dumps(ROUTING))
    routing["models"]["diabetes"]["guards"] = {
        "comparisons": [
            {"name": "error", "metric": "loss", "range": [0, 350]},
            {"name": "drift", "metric": "predicted_value"},
        ]
    }
    running = GatewayProcess(tmp_path / "gateway", tmp_path / "models", routing)
    with running, httpx.Client(base_url=running.url) as client:
        stopped = False
        for start in list(range(0, 100, BATCH)) * 25:
            answer = predict(client, test_x[start : start + BATCH])
            truths = test_y[start : start + BATCH].tolist()
            client.post("/v2/feedback", json={"prediction_id": answer["parameters"]["prediction_id"], "truth": truths})
            if start == 0:
                release = httpx.get(f"{running.control_url}/api/releases/diabetes").json()
                if stopped := release["stopped"]:
                    break
        assert stopped, "after 500 batches"
        decisions = httpx.get(f"{running.control_url}/api/decisions").json()
    (stop,) = [decision for decision in decisions if decision["action"] == "stop"]
    assert stop["by"] == "error", stop
