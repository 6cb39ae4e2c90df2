"""A regression on real data, served, fed back from a file, analysed, exported and replayed, all by the commands.

Version 2 was trained on truths that are too high where `sex` is 2. Half of the requests have two rows.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import pytest
import yaml
from onnxruntime import InferenceSession
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.linear_model import Ridge

from tests.offline.analysis.planted import diabetes
from tests.offline.dataset.test_commands import command
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

REQUESTS = 500
SHIFT = 90.0
TOLERANCE = 4.0  # a hundredth of the range
ROUTES = [{"name": "everyone", "weight": 50}]
ROUTING = {
    "models": {"diabetes": {"stable": 1, "candidate": 2, "split": {"stickiness": "prediction", "routes": ROUTES}}}
}


class Served(NamedTuple):
    """What became of a gateway's run: its configuration, and what `gateway feedback` said the first and second time."""

    config: Path
    first: dict[str, Any]
    second: dict[str, Any]
    rejected: list[dict[str, Any]]
    rows: int


def save(folder: Path) -> None:
    rows, truths, names, _ = diabetes()
    for version, shift in ((1, 0.0), (2, SHIFT)):
        model = Ridge(1.0).fit(rows[::2], truths[::2] + shift * (rows[::2, names.index("sex")] == 2))
        exported = to_onnx(model, initial_types=[("x", FloatTensorType([None, 10]))], target_opset=17)
        file = folder / "diabetes" / str(version) / "model.onnx"
        file.parent.mkdir(parents=True)
        file.write_bytes(exported.SerializeToString())
    settings = {
        "modality": "tabular",
        "prediction": {"output": "variable", "kind": "regression", "range": [0, 400]},
        "features": names,
        "feedback": {"metrics": {"visits": [0, 10]}},
    }
    (folder / "diabetes" / "model.yaml").write_text(yaml.safe_dump(settings))


def feed(gateway: GatewayProcess, file: Path, rejected: Path) -> dict[str, Any]:
    line = [sys.executable, "-m", "gateway", "feedback", str(file), "--config", str(gateway.config), "--json",
            "--map", "truth=progression", "--rejected", str(rejected)]  # fmt: skip
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1, ended.stderr
    return json.loads(ended.stdout)  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("kinds")
    save(folder / "models")
    rows, truths, _, _ = diabetes()
    generator = np.random.default_rng(9)
    file, rejected, total = folder / "truths.csv", folder / "rejected.jsonl", 0
    with GatewayProcess(folder, folder / "models", ROUTING) as gateway, httpx.Client(base_url=gateway.url) as client:
        with file.open("w", newline="") as out:
            writer = csv.writer(out)
            writer.writerow(["prediction_id", "progression", "metrics.visits", "ward"])
            for number in range(REQUESTS):
                chosen = generator.integers(len(rows) // 2, size=1 + number % 2) * 2 + 1  # not those trained on
                data = rows[chosen]
                tensor = {"name": "x", "shape": data.shape, "datatype": "FP32", "data": data.ravel().tolist()}
                answer = client.post("/v2/models/diabetes/infer", json={"inputs": [tensor]}).raise_for_status()
                truth = [round(float(one), 1) for one in truths[chosen]]
                said = truth[0] if len(truth) == 1 else json.dumps(truth)
                writer.writerow([answer.headers["x-prediction-id"], said, int(generator.integers(10)), "west"])
                total += len(truth)
            writer.writerow(["forged", 1, "", ""])
            writer.writerow([answer.headers["x-prediction-id"], "", 11, ""])
        first, second = (feed(gateway, file, rejected) for _ in range(2))
    lines = [json.loads(line) for line in rejected.read_text().splitlines()]
    yield Served(gateway.config, first, second, lines, total)


def test_feedback_reports_the_rejected_lines(served: Served) -> None:
    for told in (served.first, served.second):
        assert (told["accepted"], told["rejected"], told["ignored_columns"]) == (REQUESTS, 2, ["ward"])
    assert [one["line"] for one in served.rejected] == [REQUESTS + 2, REQUESTS + 3]
    assert "prediction_id" in served.rejected[0]["error"]
    assert "metrics.visits must be from 0 to 10" in served.rejected[1]["error"]
    assert served.rejected[1]["metrics"] == {"visits": 11}


def test_analyze_finds_where_the_candidate_is_worse(served: Served) -> None:
    told = json.loads(command(served.config, "analyze", "diabetes", "--json").stdout)
    assert (told["kind"], told["rows"]) == ("regression", REQUESTS)
    found = {(one["version"], one["metric"]): one for one in told["versions"]}
    assert found[1, "mae"]["count"] + found[2, "mae"]["count"] == served.rows, "each row counts once"
    assert found[1, "mae"]["high"] < found[2, "mae"]["low"]
    effects = {one["metric"]: one for one in told["comparison"]["effects"]}
    assert (effects["mae"]["verdict"], effects["metrics.visits"]["verdict"]) == ("worse", "not known yet")
    assert not effects["metrics.visits"]["asymptotic"]
    slices = {(one["metric"], one["dimension"], one["value"]): one for one in told["comparison"]["slices"]}
    assert slices["mae", "sex", "2"]["verdict"] == "worse"
    assert ("mae", "sex", "1") not in slices


def test_analyze_writes_a_report_with_the_errors(served: Served, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    shown = command(served.config, "analyze", "diabetes", "--html", str(report)).stdout
    assert "Is version 2 better than 1?" in shown
    assert "sex: 2" in report.read_text()


def test_export_keeps_one_row_per_prediction_with_lists(served: Served, tmp_path: Path) -> None:
    import pandas

    command(served.config, "export", "diabetes", "--out", str(tmp_path / "set"))
    rows = pandas.read_parquet(tmp_path / "set" / "model=diabetes")
    assert len(rows) == REQUESTS
    assert sorted({len(truth) for truth in rows["truth"]}) == [1, 2]
    assert set(rows["feedback_count"]) == {1}, "the second time is a repetition"
    one = rows[rows["truth"].map(len) == 2].iloc[0]
    errors = np.array(json.loads(one["predictions"])["variable"]) - one["truth"]
    assert dict(one["outcomes"])["loss"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)


def agreeing_rows(served: Served, folder: Path) -> Any:
    """Of each row that version 2 answered: whether the models' numbers differ by a hundredth of the range at most."""
    import pandas

    command(served.config, "export", "diabetes", "--out", str(folder / "set"))
    table = pandas.read_parquet(folder / "set" / "model=diabetes")
    rows = np.concatenate(table[table["version"] == 2]["input_x"].to_list()).reshape(-1, 10)
    files = [served.config.parent / "models" / "diabetes" / version / "model.onnx" for version in "12"]
    first, second = (InferenceSession(file).run(None, {"x": rows})[0].ravel() for file in files)
    return abs(first - second) <= TOLERANCE


def test_replay_compares_numbers_and_their_losses(served: Served, tmp_path: Path) -> None:
    told = json.loads(command(served.config, "replay", "diabetes", "--version", "1", "--json").stdout)
    by_version = {one["version"]: one for one in told["answered_by"]}
    assert by_version[1]["class_agreement"]["rate"] == 1.0
    agreement = by_version[2]["class_agreement"]
    near = agreeing_rows(served, tmp_path)
    assert (agreement["hits"], agreement["count"]) == (near.sum(), len(near)) and 0 < near.sum() < len(near)
    assert by_version[2]["loss_now"] < by_version[2]["loss_then"] - 10
    assert by_version[2]["fixed"] > by_version[2]["regressed"] > 0
    assert "within the tolerance" in command(served.config, "replay", "diabetes", "--version", "1").stdout
