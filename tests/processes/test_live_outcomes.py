"""Live metrics of a regression: exact, through a kill; and what is known is said by status, promote and decisions."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean
from typing import Any

import httpx
import pytest

from tests.processes.flawed import metric, until
from tests.processes.test_commands import command
from tests.processes.test_kinds import ROUTING, predict, repository
from tests.processes.test_records import killed
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

ROUNDS = 4
Measures = dict[int, dict[str, tuple[float, int]]]


OTHERS = {f"other{number}": 1 for number in range(32)}  # as many business metrics as are counted beside declared ones


def measured(running: GatewayProcess) -> Measures:
    """Value and count of each measure but OTHERS, by version."""
    versions = httpx.get(f"{running.control_url}/api/releases/diabetes").json()["versions"]
    return {
        version["version"]: {
            one["metric"]: (one["value"], one["count"])
            for one in version["measures"]
            if one["metric"].removeprefix("metrics.") not in OTHERS
        }
        for version in versions
    }


def summed(running: GatewayProcess, name: str) -> float:
    """The sum of a measure that is a mean, over both versions."""
    return round(sum(value * count for value, count in (one[name] for one in measured(running).values())), 6)


def compared(folder: Path) -> int:
    """The outcomes behind what is kept of the difference in loss."""
    effects = json.loads((folder / "state" / "ramps.json").read_bytes())["diabetes"]["guards"]["effects"]
    return sum(effects.get("loss", {"sums": [0, 0]})["sums"][:2])


def expected(errors: dict[int, list[float]], visits: dict[int, list[float]]) -> Measures:
    return {
        version: {
            "mae": (pytest.approx(fmean(map(abs, of))), len(of)),
            "rmse": (pytest.approx(fmean(error**2 for error in of) ** 0.5), len(of)),
            "bias": (pytest.approx(fmean(of)), len(of)),
            "metrics.visits": (pytest.approx(fmean(visits[version])), len(visits[version])),
        }
        for version, of in errors.items()
    }  # type: ignore[return-value]


def test_outcomes_survive_a_kill_and_are_known_to_those_who_decide(tmp_path: Path) -> None:
    test_x, test_y, models = repository(tmp_path / "models")
    with (tmp_path / "models" / "diabetes" / "model.yaml").open("a") as declared:
        declared.write("feedback: {metrics: {visits: [0, 100]}}\n")
    folder = tmp_path / "gateway"
    running = GatewayProcess(folder, tmp_path / "models", ROUTING)
    errors: dict[int, list[float]] = defaultdict(list)
    visits: dict[int, list[float]] = defaultdict(list)
    said: list[dict[str, Any]] = []
    first: dict[int, str] = {}
    with running:
        with httpx.Client(base_url=running.url) as client:
            for number in range(ROUNDS * len(test_x)):
                row, truth = test_x[[number % len(test_x)]], float(test_y[number % len(test_x)])
                answer = predict(client, row)
                version = int(answer["model_version"])
                errors[version].append(float(models[version].predict(row)[0]) - truth)
                visits[version].append(number % 3)
                prediction = answer["parameters"]["prediction_id"]
                first.setdefault(version, prediction)
                said.append({"prediction_id": prediction, "truth": truth, "metrics": {"visits": number % 3}})
            others = [{"prediction_id": prediction, "metrics": OTHERS} for prediction in first.values()]
            assert client.post("/v2/feedback", json=others).json()["accepted"] == 2
            assert client.post("/v2/feedback", json=said).json()["accepted"] == len(said)
            until(lambda: measured(running) == expected(errors, visits), "all feedback is counted")
            assert metric(running, "gateway_outcomes_total", outcome="loss") == len(said)
            until(lambda: compared(folder) == len(said), "what is known is kept")
        killed(running)
        with running:  # the same settings and state again
            assert measured(running) == expected(errors, visits), "what was counted before the kill"
            corrected = {**said[1], "metrics": {"visits": 30}}
            assert httpx.post(f"{running.url}/v2/feedback", json=[said[0], corrected]).json()["accepted"] == 2
            total = sum(map(sum, visits.values())) - said[1]["metrics"]["visits"] + 30
            until(lambda: summed(running, "metrics.visits") == total, "only the correction counts")
            told = command(running.config, "status", "diabetes").stdout
            assert "version 2: MAE" in told and ": is the candidate better?" in told
            promoted = command(running.config, "promote", "diabetes", "--reason", "seen")
            assert promoted.returncode == 0, promoted.stderr
            assert "version 2 of diabetes is worse in MAE" in promoted.stdout
            (decision, *_) = httpx.get(f"{running.control_url}/api/decisions?model=diabetes").json()
            known = {one["metric"]: one for one in decision["evidence"]["effects"]}
            assert (decision["action"], known["mae"]["verdict"]) == ("promote", "worse")
            assert 0 < known["mae"]["low"] < known["mae"]["effect"] < known["mae"]["high"]
            assert known["mae"]["candidate_units"] == len(errors[2])
            assert known["metrics.visits"]["candidate_units"] == len(errors[2]), "model.yaml declares it"
