"""From recorded traffic to the next version: export, then the model's training script with --dataset."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.backends.loaded_version import load_version
from gateway.backends.provenance import read_provenance
from gateway.backends.repository import Repository
from gateway.offline.dataset.export import ExportSource, Meters, export
from gateway.offline.dataset.form import Form
from gateway.offline.reader import Query, records_in
from tests.recording import MODELS, Recording, data, json_request, loaded

pytestmark = pytest.mark.slow


def silent(size: int) -> None:
    """A progress callback that shows nothing."""


def exported(recording: Recording, folder: Path, kind: str = "parquet") -> Path:
    (spec,) = loaded(recording.model, 1).session.signature.inputs
    source = ExportSource(records_in(recording.save(folder / "records")), lambda version: spec)
    export(source, Query(recording.model), folder / "dataset", Form(kind), Meters(silent, silent, silent))
    return folder / "dataset"


def train(name: str, dataset: Path, out: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    script = [sys.executable, "-W", "ignore", str(MODELS / name / "train.py"), "--dataset", str(dataset)]
    return subprocess.run([*script, "--out", str(out), *more], capture_output=True, text=True, timeout=120, check=False)


def traffic() -> Recording:
    """30 new labelled images; and some to be left out: held-out, known, repeated, contradicting and unlabelled ones."""
    recording = Recording()
    generator = np.random.default_rng(5)
    shipped = data("digits")
    for number in range(30):
        image = np.clip(shipped.train_x[number] + generator.normal(0, 1, 64), 0, 16).astype(np.float32)
        for _ in range(2 if number < 4 else 1):
            recording.judge(recording.predict(json_request("digits", image[None])), int(shipped.train_y[number]))
    for number in range(20):
        held_out = recording.predict(json_request("digits", shipped.test_x[number : number + 1]))
        recording.judge(held_out, int(shipped.test_y[number]))
    known = shipped.train_x[:7].astype(np.float32)
    for number in range(7):
        recording.judge(recording.predict(json_request("digits", known[number : number + 1])), 1)
    blank = np.zeros((1, 64), np.float32)
    recording.judge(recording.predict(json_request("digits", blank)), 1)
    recording.judge(recording.predict(json_request("digits", blank)), 2)
    twice = recording.predict(json_request("digits", blank + 1))
    recording.judge(twice, 3)
    recording.judge(twice, 4)
    recording.predict(json_request("digits", blank + 2))
    two = recording.predict(json_request("digits", np.zeros((2, 64), np.float32)))
    by_row = {"truth": [3, None], "truth_class": [3, None], "correct": [False, None]}  # all truths become lists
    recording.feedback(two, **by_row, outcomes={})
    return recording


def test_train_from_traffic_adds_a_version_and_leaves_out_unfit_rows(tmp_path: Path) -> None:
    dataset = exported(traffic(), tmp_path)
    out = tmp_path / "digits"
    shutil.copytree(MODELS / "digits", out, ignore=shutil.ignore_patterns("*.py"))
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ended = train("digits", dataset, out)
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads((out / "3" / "training.json").read_text())
    described = json.loads((dataset / "_manifest.json").read_text())
    assert manifest["dataset_content_sha256"] == described["content_sha256"]
    assert manifest["dataset_query"] == described["query"]
    provenance = read_provenance(out / "3", with_dataset=True)
    assert provenance.training and provenance.dataset and provenance.dataset.is_of(provenance.training)
    assert len(manifest["revision"].removesuffix("-dirty")) == 40
    assert (manifest["dataset_rows"], manifest["train_rows"]) == (30, 1257 + 30)
    assert "30 rows of" in ended.stdout and "beside 1,257 of its own" in ended.stdout
    for reason in (
        "20 held out", "7 known already", "5 repeated", "2 contradicting labels", "1 not labelled", "1 not one row",
    ):  # fmt: skip
        assert reason in ended.stdout
    version = load_version(out / "3" / "model.onnx", Repository(tmp_path).settings("digits"), tmp_path / "none")
    loaded("digits", 1).session.signature.check_replaceable_by(version.session.signature, 3)
    answers = np.asarray(version.session.run({"image": data("digits").test_x})[0])
    assert round(float((answers == data("digits").test_y).mean()), 4) == manifest["held_out_accuracy"] > 0.95
    assert {path: path.read_bytes() for path in before} == before, "versions never change"

    again = train("digits", dataset, out, "--version", "3")
    assert again.returncode == 1
    assert "3 exists, and a version never changes" in again.stderr
    assert train("digits", dataset, out, "--version", "5").returncode == 0
    assert (out / "5" / "model.onnx").read_bytes() == (out / "3" / "model.onnx").read_bytes()


def test_train_with_fewer_own_rows_takes_the_rest_from_traffic(tmp_path: Path) -> None:
    """Rows of the script's data beyond these are new to it, as to a version that was trained on few."""
    dataset = exported(traffic(), tmp_path)
    ended = train("digits", dataset, tmp_path / "out", "--own-rows", "300")
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads((tmp_path / "out" / "1" / "training.json").read_text())
    assert manifest["train_rows"] == 300 + 30
    alone = [sys.executable, str(MODELS / "digits" / "train.py"), "--own-rows", "300", "--out", str(tmp_path / "out")]
    refused = subprocess.run(alone, capture_output=True, text=True, timeout=60, check=False)
    assert (refused.returncode, "--own-rows go with --dataset" in refused.stderr) == (2, True)


@pytest.mark.parametrize(("name", "truth_class", "truth"), [("tickets", 1, "billing"), ("tumor", 0, "malignant")])
def test_train_scripts_of_the_other_models_accept_traffic(
    tmp_path: Path, name: str, truth_class: int, truth: str
) -> None:
    recording = Recording(name)
    row: Any = np.array([["my card was charged two times"]], object)
    if name == "tumor":
        row = data("tumor").train_x[:1].astype(np.float32) + 1
    prediction = recording.predict(json_request(name, row))
    recording.feedback(prediction, truth=truth, truth_class=truth_class)
    ended = train(name, exported(recording, tmp_path), tmp_path / "out", "--version", "3")
    assert ended.returncode == 0, ended.stderr
    manifest = json.loads((tmp_path / "out" / "3" / "training.json").read_text())
    assert manifest["dataset_rows"] == 1
    assert manifest["train_rows"] == len(data(name).train_x) + 1


def test_train_refuses_an_unsuitable_dataset(tmp_path: Path) -> None:
    ended = train("digits", tmp_path, tmp_path / "out")
    assert (ended.returncode, "write it with `gateway export digits" in ended.stderr) == (1, True)
    dataset = exported(traffic(), tmp_path)
    ended = train("tumor", dataset, tmp_path / "out")
    assert "is a parquet export of digits; this needs parquet of tumor" in ended.stderr
    (part,) = dataset.rglob("*.parquet")
    part.write_bytes(part.read_bytes()[:-1] + b"x")
    ended = train("digits", dataset, tmp_path / "out")
    assert "is not as its manifest says: export it again" in ended.stderr
    assert not (tmp_path / "out").exists()


def git(folder: Path, *words: str) -> str:
    settings = ("-c", "user.name=t", "-c", "user.email=t@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(
        ["git", *settings, *words], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_revision_is_dirty_only_if_the_training_code_is_not_as_committed(tmp_path: Path) -> None:
    sys.path.insert(0, str(MODELS))
    try:
        from exported import revision
    finally:
        sys.path.remove(str(MODELS))
    code = [tmp_path / "train.py", tmp_path / "shared" / "training.py"]
    code[1].parent.mkdir()
    for file in code:
        file.write_text("1\n")
    assert revision(code, tmp_path) is None
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "x")
    commit = git(tmp_path, "rev-parse", "HEAD")
    (tmp_path / "dvc.yaml").write_text("stages: {}\n")
    (tmp_path / "data.csv").write_text("1\n")
    assert revision(code, tmp_path) == commit
    code[1].write_text("2\n")
    assert revision(code, tmp_path) == f"{commit}-dirty"
    git(tmp_path, "checkout", "-q", ".")
    added = tmp_path / "more.py"
    added.write_text("3\n")
    assert revision([*code, added], tmp_path) == f"{commit}-dirty"
    (tmp_path / ".gitignore").write_text("more.py\n")
    assert revision([*code, added], tmp_path) == f"{commit}-dirty"


def test_revision_outside_a_repository_is_what_the_image_says(tmp_path: Path) -> None:
    script = "import sys; from pathlib import Path; import exported; print(exported.revision([], Path(sys.argv[1])))"
    said = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, str(tmp_path)],
        env=os.environ | {"PYTHONPATH": str(MODELS), "TRAINING_REVISION": "f00d", "GIT_CEILING_DIRECTORIES": "/"},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert said.stdout == "f00d\n"
