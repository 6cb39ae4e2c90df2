"""From the id of a prediction to its record, its version on disk, and what that was trained on."""

import hashlib
import json
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.backends.digest import digest_of
from gateway.cli.main import main
from gateway.offline.trace.trace import MAX_FEEDBACK
from gateway.records.token import Signer, encoded_names
from gateway.records.token_keys import keys_file, token_keys
from gateway.routing.release import Decision, Variant
from tests.recording import MODELS, Recording, json_request

HOUR_NS = 3600 * 1_000_000_000
BLANK = np.zeros((1, 64), np.float32)


class Traced:
    """A state folder, a copy of the model digits, and predictions whose ids are genuine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.state.mkdir()
        self.models = folder / "models"
        shutil.copytree(MODELS / "digits", self.models / "digits", ignore=shutil.ignore_patterns("*.py"))
        self.config = folder / "gateway.yaml"
        self.configure()
        self.signer = token_keys(self.state).signer()
        self.recording = Recording()
        self.recording.clock_ns = time.time_ns()

    def configure(self, **settings: Any) -> None:
        document = {"state": str(self.state), "models": {"path": str(self.models)}, **settings}
        self.config.write_text(yaml.safe_dump(document))

    def version(self, number: int) -> Path:
        return self.models / "digits" / str(number)

    def id(self, version: int = 1, signer: Signer | None = None, nonce: int = 1) -> str:
        decision = Decision(version, Variant.STABLE, "everyone", 7, 50_000, 0.95, False)
        return (signer or self.signer).token(encoded_names("digits", "everyone"), decision, nonce, 3, False).decode()

    def predict(self, version: int = 1, **fields: Any) -> dict[str, Any]:
        fields.setdefault("prediction_id", self.id(version))
        return self.recording.predict(json_request("digits", BLANK), version, **fields)

    def run(self, prediction_id: str, *options: str) -> Result:
        self.recording.save(self.state / "records", lines_per_segment=3)
        words = ["trace", prediction_id, "--config", str(self.config), *options]
        return CliRunner(env={"COLUMNS": "400"}).invoke(main, words)

    def trace(self, prediction_id: str, *options: str, code: int = 0) -> Any:
        ended = self.run(prediction_id, "--json", *options)
        assert ended.exit_code == code, ended.output
        return json.loads(ended.stdout)

    def refused(self, prediction_id: str, *options: str) -> str:
        ended = self.run(prediction_id, *options)
        assert ended.exit_code == 1 and ended.stdout == "", ended.output
        return ended.stderr

    def missing(self, prediction_id: str) -> str:
        found = self.trace(prediction_id, code=1)
        assert found["record"] is None
        return str(found["missing"])


@pytest.fixture
def traced(tmp_path: Path) -> Traced:
    return Traced(tmp_path)


def test_an_id_leads_to_record_feedback_version_and_training(traced: Traced) -> None:
    for _ in range(5):
        traced.predict()
    mine = traced.predict(customer="acme \x1b[2J", variant="candidate", version=2)
    for _ in range(5):
        traced.predict()
    traced.recording.judge(mine, 3, comment="<b>\x1b[31m")
    traced.recording.judge(mine, 4)
    found = traced.trace(mine["prediction_id"])
    assert (found["signature"], found["missing"], found["record"]["customer"]) == ("valid", None, "acme \x1b[2J")
    assert found["record"]["model_sha256"] == mine["model_sha256"]
    assert [one["truth"] for one in found["feedback"]] == [3, 4]
    assert (found["feedback_count"], found["label_conflict"], found["mirror"]) == (2, True, None)
    (version,) = found["versions"]
    assert (version["role"], version["state"], version["version"]) == ("answered", "intact", 2)
    training = json.loads((traced.version(2) / "training.json").read_text())
    assert version["provenance"]["training"]["data_sha256"] == training["data_sha256"]
    text = traced.run(mine["prediction_id"]).stdout
    for shown in (
        "class 4, 4",
        "acme \\x1b[2J",
        "97.41% of 540",
        training["data_sha256"][:12],
        "contradict",
        str(traced.version(2)),
    ):
        assert shown in text, text
    assert "\x1b" not in text


def test_a_mirrored_and_a_rescued_prediction_show_both_versions(traced: Traced) -> None:
    mirrored = traced.predict()
    traced.recording.mirror(
        mirrored, version=2, model_sha256=digest_of(traced.version(2) / "model.onnx"), agreement=False, predicted=4.25
    )
    found = traced.trace(mirrored["prediction_id"])
    assert [(one["role"], one["version"], one["state"]) for one in found["versions"]] == [
        ("answered", 1, "intact"),
        ("mirrored", 2, "intact"),
    ]
    assert (found["mirror"]["agreement"], found["mirror"]["predicted"]) == (False, 4.25)
    rescued = traced.predict(rescued_from=2, rescue_reason="error", prediction_id=traced.id(nonce=2))
    found = traced.trace(rescued["prediction_id"])
    assert [(one["role"], one["version"], one["state"]) for one in found["versions"]] == [
        ("answered", 1, "intact"),
        ("failed", 2, "unproven"),
    ]
    assert "version 2 failed (error); stable answered" in traced.run(rescued["prediction_id"]).stdout


def test_an_overwritten_version_is_not_taken_for_the_one_that_answered(traced: Traced) -> None:
    mine = traced.predict(version=2)
    shutil.copy(traced.version(1) / "model.onnx", traced.version(2) / "model.onnx")
    (version,) = traced.trace(mine["prediction_id"])["versions"]
    assert (version["state"], version["provenance"]["training"]) == ("overwritten", None)
    assert digest_of(traced.version(1) / "model.onnx") in version["detail"]
    assert "overwritten" in traced.run(mine["prediction_id"]).stdout


def test_a_version_is_found_under_another_number(traced: Traced) -> None:
    mine = traced.predict(version=2)
    traced.version(2).rename(traced.version(7))
    (version,) = traced.trace(mine["prediction_id"])["versions"]
    assert (version["state"], version["folder"]) == ("moved", str(traced.version(7)))
    assert version["provenance"]["training"]["held_out_accuracy"] == 0.9741


def test_a_removed_version_is_said(traced: Traced) -> None:
    mine = traced.predict(version=2)
    shutil.rmtree(traced.version(2))
    (version,) = traced.trace(mine["prediction_id"])["versions"]
    assert (version["state"], version["folder"]) == ("removed", None)
    assert "has versions 1 now" in version["detail"]
    shutil.rmtree(traced.models / "digits")
    (version,) = traced.trace(mine["prediction_id"])["versions"]
    assert "has no versions now" in version["detail"]


def test_a_version_of_another_server_proves_nothing(traced: Traced) -> None:
    (traced.version(3)).mkdir()
    (traced.version(3) / "remote.yaml").write_text("url: http://127.0.0.1:1")
    mine = traced.recording.record(prediction_id=traced.id(3), version=3, model_sha256=None)
    (version,) = traced.trace(mine["prediction_id"])["versions"]
    assert (version["state"], version["model_sha256"]) == ("remote", None)


def test_the_export_that_it_was_trained_on_is_shown(traced: Traced, tmp_path: Path) -> None:
    mine = traced.predict(version=2)
    manifest = {"kind": "canary-gateway export", "model": "digits", "rows": 12, "rows_with_truth": 9}
    manifest |= {"content_sha256": "ef" * 32, "versions": [{"version": 1, "sha256": "cd" * 32, "rows": 12}]}
    training = json.loads((traced.version(2) / "training.json").read_text())
    query = {"since": "2026-11-01", "until": "$(reboot)", "variant": "stable", "with_feedback": True}
    training |= {"dataset_content_sha256": "ef" * 32, "dataset_rows": 9, "dataset_query": query, "revision": "abc"}
    (traced.version(2) / "training.json").write_text(json.dumps(training))
    (version,) = traced.trace(mine["prediction_id"])["versions"]
    assert version["dataset"] is None and "--dataset" in version["dataset_problem"]
    other, own = tmp_path / "other", tmp_path / "own"
    for folder, content in ((other, manifest | {"content_sha256": "00" * 32}), (own, manifest)):
        folder.mkdir()
        (folder / "_manifest.json").write_text(json.dumps(content))
    given = ("--dataset", str(other), "--dataset", str(own))
    (version,) = traced.trace(mine["prediction_id"], *given)["versions"]
    assert (version["dataset"]["rows"], version["dataset_problem"]) == (12, None)
    assert version["dataset"]["sha256"] == hashlib.sha256((own / "_manifest.json").read_bytes()).hexdigest()
    text = traced.run(mine["prediction_id"], *given).stdout
    command = "gateway export digits --since 2026-11-01 --until '$(reboot)' --variant stable --with-feedback"
    assert command in text
    assert "its query has no end" in text  # no --feedback-until, as of an export by an earlier release
    assert "12 answered by version 1" in text
    shutil.copy(own / "_manifest.json", traced.version(2) / "dataset.json")
    (version,) = traced.trace(mine["prediction_id"])["versions"]
    assert version["dataset"]["rows_with_truth"] == 9
    (traced.version(2) / "dataset.json").write_text(json.dumps({"rows": 12, "content_sha256": "ef" * 32}))
    text = traced.run(mine["prediction_id"]).stdout
    assert "12 predictions, without a time" in text and "None" not in text
    assert "holds no _manifest.json" in traced.refused(mine["prediction_id"], "--dataset", str(tmp_path))


def test_a_deleted_record_leaves_what_the_id_says(traced: Traced) -> None:
    gone = traced.id(2)
    traced.recording.clock_ns += HOUR_NS
    traced.predict()
    found = traced.trace(gone, code=1)
    assert (found["model"], found["version"], found["route"], found["record"]) == ("digits", 2, "everyone", None)
    assert "its record has been deleted" in found["missing"] and "records.retain is 10 GiB" in found["missing"]
    assert [one["state"] for one in found["versions"]] == ["unproven"]
    ended = traced.run(gone)
    assert ended.exit_code == 1 and "says of itself" in ended.stdout and "deleted" in ended.stderr


def test_a_missing_record_is_explained(traced: Traced) -> None:
    mine = traced.id()
    assert "not on disk yet" in traced.missing(mine)
    traced.configure(records={"sample": "0.0001%"})
    assert "records.sample is" in traced.missing(mine)
    traced.configure(fleet={"name": "f", "host": "a", "store": "redis://127.0.0.1:1"})
    traced.recording.clock_ns += HOUR_NS
    traced.predict()
    assert "another host of the fleet may have it" in traced.missing(mine)


def test_a_forged_id_is_refused(traced: Traced) -> None:
    traced.predict()
    forged = traced.id(signer=Signer([(0, b"x" * 32)]))
    refused = traced.refused(forged)
    assert "has been changed, or is of a gateway that does not share its keys" in refused
    assert f"looked for in {traced.state}: is --config the one that `gateway serve` has?" in refused
    assert "was not created by this gateway" in traced.refused(traced.id(signer=Signer([(9, b"x" * 32)])))


def test_of_much_feedback_the_first_is_kept_and_all_is_compared(traced: Traced) -> None:
    mine = traced.predict()
    for _ in range(MAX_FEEDBACK):
        traced.recording.judge(mine, 4)
    traced.recording.judge(mine, 5)
    found = traced.trace(mine["prediction_id"])
    assert (len(found["feedback"]), found["feedback_count"]) == (MAX_FEEDBACK, MAX_FEEDBACK + 1)
    assert found["label_conflict"]


@pytest.mark.parametrize("begin", ["-x", "-h", "--"])
def test_an_id_that_begins_with_a_dash_is_no_option(traced: Traced, begin: str) -> None:
    mine = traced.predict(prediction_id=begin + traced.id()[2:])
    assert traced.trace(mine["prediction_id"])["record"]["outcome"] == "ok"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must be the text in the prediction's response"),
        ("p1", "is truncated"),
        ("AAAA", "is not one of a gateway"),
        ("../../etc/passwd", "must be the text"),
        ("A" * 2000, "must be the text"),
        ("A" * 61, "is truncated"),
        ("A" * 80, "has been changed"),
        ("_" * 80, "is not one of a gateway"),
        ("é" * 80, "must be the text"),
    ],
)
def test_what_is_no_id_is_refused(traced: Traced, text: str, problem: str) -> None:
    traced.predict()
    assert problem in traced.refused(text)


def test_a_record_is_found_without_the_keys_and_said_to_be_unverified(traced: Traced) -> None:
    mine = traced.predict()
    keys_file(traced.state).unlink()
    without = f"there is no {keys_file(traced.state)}"
    assert without in traced.trace(mine["prediction_id"])["signature"]
    assert not keys_file(traced.state).exists()  # nothing is written
    assert without in traced.refused(traced.id(nonce=5))


def test_a_record_of_hostile_names_opens_no_other_folder(traced: Traced) -> None:
    decision = Decision(1, Variant.STABLE, "../..", 7, 50_000, 0.95, False)
    prediction_id = traced.signer.token(encoded_names("../digits", "../.."), decision, 1, 3, False).decode()
    traced.recording.record(prediction_id=prediction_id, model="../digits", route="../..")
    (version,) = traced.trace(prediction_id)["versions"]
    assert (version["state"], version["folder"]) == ("removed", None)
