"""The whole loop: a short run of `python -m loadtests loop` with real parts; each link of the provenance chain."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from loadtests.loop import Closed, Plan, close
from loadtests.provenance import traced
from loadtests.versus import mcnemar
from tests.recording import data

PLAN = Plan(weights=(20, 100), interval_s=1, fail=False)

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("loop")


@pytest.fixture(scope="module")
def closed(folder: Path) -> Closed:
    return close(folder, PLAN)


def test_new_version_is_better_on_held_out_images(closed: Closed) -> None:
    held_out = closed.held_out
    assert held_out.rate.count == held_out.stable.rate.count == len(data("digits").test_y)
    assert held_out.rate.hits - held_out.stable.rate.hits == held_out.stable.fixed - held_out.stable.regressed > 0
    assert held_out.stable.p_value < 0.01
    assert held_out.rate.low > held_out.stable.rate.high


def test_training_data_does_not_overlap_held_out_data(closed: Closed, folder: Path) -> None:
    import pandas

    rows = pandas.read_parquet(folder / "dataset" / "model=digits")
    exported = {tuple(row) for row in rows["input_image"]}
    held_in = {tuple(row) for row in data("digits").train_x.astype("float32")}
    assert exported <= held_in
    assert not exported & {tuple(row) for row in data("digits").test_x.astype("float32")}
    assert len(exported) == PLAN.first
    training = json.loads((folder / "models" / "digits" / "2" / "training.json").read_text())
    labelled = rows[rows["truth_class"].notna()]
    assert training["dataset_rows"] == len({tuple(row) for row in labelled["input_image"]}) > 0.8 * PLAN.first
    assert training["train_rows"] == 300 + training["dataset_rows"]


def test_replay_shows_the_improvement_and_the_ramp_completes(closed: Closed) -> None:
    replayed = closed.replayed
    assert (replayed["version"], replayed["failed"], replayed["unfit"]) == (1, 0, 0)
    assert replayed["accuracy_now"]["low"] > replayed["accuracy_then"]["high"]
    actions = [decision["action"] for decision in closed.decisions if decision["action"] != "weight"]
    assert actions == ["edit", "advance", "complete"]  # the file's edit names the candidate


def test_no_request_fails_and_the_versions_change_in_order(closed: Closed) -> None:
    assert closed.failures == {}
    parts = [(answer.version, answer.variant) for answer in closed.answers]
    assert set(parts) == {(1, "stable"), (2, "candidate"), (2, "stable")}
    assert parts[0] == (1, "stable")
    assert parts[-1] == (2, "stable")


def test_provenance_leads_from_a_prediction_to_its_training_data(closed: Closed, folder: Path) -> None:
    found = closed.provenance
    assert found.version == 2
    assert list(found.answered_by) == [1]
    assert found.rows >= PLAN.first
    assert any(answer.prediction_id == found.prediction_id for answer in closed.answers)


@pytest.mark.parametrize(
    "link", ["model.onnx", "training.json", "manifest.json", "parquet", "records", "the old version"]
)
def test_broken_provenance_link_is_named(closed: Closed, folder: Path, tmp_path: Path, link: str) -> None:
    copy = tmp_path / "copy"
    for part in ("models", "dataset", "state/records"):
        shutil.copytree(folder / part, copy / part)
    model, records = copy / "models" / "digits", copy / "state" / "records"
    file, says = {
        "model.onnx": (model / "2" / "model.onnx", "is not what answered"),
        "training.json": (model / "2" / "training.json", "was not trained on"),
        "manifest.json": (copy / "dataset" / "_manifest.json", "was not trained on"),
        "parquet": (next((copy / "dataset").rglob("*.parquet")), "is not as exported"),
        "records": (min(records.glob("predictions-*")), "is not recorded"),
        "the old version": (model / "1" / "model.onnx", "version 1 is not what answered then"),
    }[link]
    _altered(file, closed.provenance)
    with pytest.raises(AssertionError, match=says):
        traced(closed.provenance.prediction_id, model, copy / "dataset", records)


def _altered(file: Path, provenance: Any) -> None:
    content = file.read_bytes()
    if file.name.startswith("predictions-"):
        content = content.partition(b"\n")[2]  # its first record, which the data set has
    elif file.suffix == ".json":
        content = content.replace(provenance.dataset_content_sha256.encode(), b"0" * 64)
    else:
        content += b" "
    file.write_bytes(content)


@pytest.mark.parametrize(
    ("fixed", "regressed", "p_value"),
    [(0, 0, 1.0), (5, 5, 1.0), (1, 0, 1.0), (6, 0, 0.03125), (10, 2, 0.03857421875), (2, 10, 0.03857421875)],
)
def test_mcnemar_p_value(fixed: int, regressed: int, p_value: float) -> None:
    assert mcnemar(fixed, regressed) == pytest.approx(p_value)
