"""cleanlab finds planted label errors in an export, with the lines that config/LIFECYCLE.md shows."""

import csv
import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from gateway.cli.main import main
from tests.recording import MODELS, Recording, data, json_request
from tests.tools import tool

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[3] / "config" / "LIFECYCLE.md"
ROWS = 300
PLANTED = range(7, ROWS, 20)


def test_cleanlab_finds_planted_label_errors_in_an_export(tmp_path: Path) -> None:
    python = tool("cleanlab") / "python"
    recording, digits = Recording(), data("digits")
    wrong = set()
    for number in range(ROWS):
        prediction = recording.predict(json_request("digits", digits.test_x[number : number + 1]), version=2)
        truth = int(digits.test_y[number])
        if number in PLANTED:
            wrong.add(prediction["prediction_id"])
            truth = (truth + 1) % 10
        recording.judge(prediction, truth)
    two = recording.predict(json_request("digits", np.zeros((2, 64), np.float32)))
    recording.feedback(two, truth=[1, 2], truth_class=[1, 2], correct=[True, True], outcomes={})
    recording.save(tmp_path / "state" / "records")
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump({"state": str(tmp_path / "state"), "models": {"path": str(MODELS)}}))
    words = ["export", "digits", "--out", str(tmp_path / "labelled"), "--with-feedback", "--config", str(config)]
    exported = CliRunner().invoke(main, words)
    assert exported.exit_code == 0, exported.output
    (snippet,) = [one for one in re.findall(r"(?ms)^```python\n(.*?)^```$", PAGE.read_text()) if "cleanlab" in one]
    ended = subprocess.run([python, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    with (tmp_path / "suspects.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    suspects = [row["prediction_id"] for row in rows]
    assert {row["predicted"] for row in rows} <= set("0123456789")
    assert all([len(line) for line in row["input"].split("\n")] == [16] * 8 and row["input"].strip() for row in rows)
    found = wrong & set(suspects)
    assert len(found) >= 0.9 * len(wrong)
    assert len(found) >= 0.6 * len(suspects)  # others are digits that the model takes for another one
