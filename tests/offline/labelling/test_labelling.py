"""Which rows are chosen for labelling, and how they are written for Label Studio and as CSV."""

import csv
import io
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.errors import GatewayError
from gateway.offline.analysis.analyzer import Subject, analyse
from gateway.offline.analysis.features import FeatureNames
from gateway.offline.examples import Predicting
from gateway.offline.labelling.files import write_rows
from gateway.offline.labelling.label_studio import project_of
from gateway.offline.labelling.row import RowToLabel, Shown, Why, shown_of
from gateway.offline.labelling.selection import MAX_SHOWN_BYTES, Selection
from gateway.offline.reader import Query, records_in
from gateway.protocol.tensors import Tensor
from gateway.settings.model import Kind
from tests.recording import MODELS, Recording, data, json_request, loaded

LIMIT = 20


def predicting_of(model: str) -> Predicting:
    said = loaded(model, 1).settings.main_prediction
    assert said is not None
    return Predicting(said.output, None, said.labels)


def chosen(recording: Recording, folder: Path, limit: int = LIMIT) -> tuple[list[RowToLabel], Selection]:
    (spec,) = loaded(recording.model, 1).session.signature.inputs
    selection = Selection(limit, FeatureNames())
    records = records_in(recording.save(folder / "records"))
    subject = Subject(
        records, Query(recording.model), predicting_of(recording.model), lambda version: spec, to_label=selection.offer
    )
    analyse(subject, lambda size: None, lambda size: None)
    return selection.rows(), selection


def recorded(model: str, rows: int = 60) -> Recording:
    """Every tenth row has a mirrored answer that disagrees; every other one has a truth."""
    recording = Recording(model)
    for number, row in enumerate(data(model).test_x[:rows]):
        prediction = recording.predict(json_request(model, np.array([row]).reshape(1, -1)))
        if number % 10 == 5:
            recording.mirror(
                prediction, agreement=False, distance=number / 100, predicted=1 - (prediction["predicted"] == 1)
            )
        if number % 2 == 0:
            recording.judge(prediction, 0)
    return recording


def test_rows_without_a_truth_are_chosen_the_hardest_first(tmp_path: Path) -> None:
    recording = recorded("digits")
    rows, selection = chosen(recording, tmp_path)
    assert (len(rows), len({row.prediction_id for row in rows}), selection.unseen) == (LIMIT, LIMIT, 0)
    judged = {json.loads(line)["prediction_id"] for line in recording.lines["feedback"]}
    assert not judged & {row.prediction_id for row in rows}
    by = {why: [row for row in rows if row.why is why] for why in Why}
    assert [len(by[why]) for why in Why] == [6, 12, 2]
    assert [row.prediction_id for row in by[Why.DISAGREEMENT]] == [
        f"p{number + 1}" for number in (55, 45, 35, 25, 15, 5)
    ]
    assert all(row.other_version == 2 and row.other != row.predicted for row in by[Why.DISAGREEMENT])
    margins = [row.margin or 0.0 for row in by[Why.LOW_CONFIDENCE]]
    assert margins == sorted(margins)
    assert max(margins) <= min(row.margin or 0.0 for row in by[Why.SAMPLE])
    assert chosen(recorded("digits"), tmp_path / "again")[0] == rows


def test_equal_inputs_failures_and_unrecorded_inputs_are_not_chosen(tmp_path: Path) -> None:
    recording = Recording()
    blank = np.zeros((1, 64), np.float32)
    for _ in range(3):
        recording.predict(json_request("digits", blank))
    recording.predict(json_request("digits", blank + 1), outcome="model_error")
    recording.predict(json_request("digits", blank + 2), request=None, request_sha256="00")
    rows, selection = chosen(recording, tmp_path)
    assert [row.prediction_id for row in rows] == ["p1"]
    assert selection.unseen == 1


def test_each_row_of_a_request_is_a_task(tmp_path: Path) -> None:
    recording = Recording()
    two = recording.predict(json_request("digits", np.stack([data("digits").test_x[0], data("digits").test_x[1]])))
    recording.feedback(two, truth=[3, None], truth_class=[3, None], correct=[True, None])
    recording.judge(recording.predict(json_request("digits", data("digits").test_x[2:3])), 4)
    rows, _ = chosen(recording, tmp_path)
    assert [(row.prediction_id, row.row) for row in rows] == [("p1", 1)]


def test_digits_become_pictures_with_choices(tmp_path: Path) -> None:
    rows, _ = chosen(recorded("digits"), tmp_path)
    tasks, config = written(tmp_path, "digits", rows)
    assert len(tasks) == LIMIT
    first = tasks[0]
    assert first["data"]["image"].startswith("data:image/png;base64,")
    assert (first["data"]["prediction_id"], first["data"]["row"], first["data"]["why"]) == ("p56", None, "disagreement")
    stable, candidate = first["predictions"]
    assert stable["model_version"] == "digits 1" and 0 < stable["score"] < 1
    assert candidate["model_version"] == "digits 2 (candidate)"
    assert stable["result"][0]["value"]["choices"] == [first["data"]["predicted"]]
    choices = config.find("Choices")
    assert choices is not None and choices.get("choice") == "single-radio"
    assert [one.get("value") for one in choices] == [str(digit) for digit in range(10)]
    assert [(one.tag, one.get("value")) for one in config if one.get("name") == "input"] == [("Image", "$image")]


def test_texts_and_features_are_shown_as_such(tmp_path: Path) -> None:
    tasks, config = written(tmp_path, "tickets", chosen(recorded("tickets"), tmp_path / "t")[0])
    assert config.find("Text") is not None and "?" in "".join(one["data"]["text"] for one in tasks)
    tasks, config = written(tmp_path, "tumor", chosen(recorded("tumor"), tmp_path / "f")[0])
    assert config.find("Table") is not None and len(tasks[0]["data"]["features"]) == 30


def test_csv_has_a_row_for_each_with_an_empty_truth(tmp_path: Path) -> None:
    rows, _ = chosen(recorded("tumor"), tmp_path)
    (file,) = write_rows(tmp_path / "tasks.CSV", "tumor", rows, predicting_of("tumor"))
    read = list(csv.DictReader(file.read_text().splitlines()))
    assert [row["prediction_id"] for row in read] == [row.prediction_id for row in rows]
    assert {row["truth"] for row in read} == {""}
    assert float(read[0]["input.features[3]"]) == pytest.approx(rows[0].shown.features["features[3]"])


def written(folder: Path, model: str, rows: list[RowToLabel], predicting: Predicting | None = None) -> Any:
    file, config = write_rows(folder / "tasks.json", model, rows, predicting or predicting_of(model))
    assert config == folder / "tasks.config.xml"
    return json.loads(file.read_text()), ElementTree.parse(config).getroot()


def row(**fields: Any) -> RowToLabel:
    known = {
        "prediction_id": "-p", "row": 0, "why": Why.SAMPLE, "time_ns": 0, "model": "m", "version": 1,
        "kind": Kind.CLASSIFICATION, "predicted": 0, "shown": Shown(text="=1+1"),
    }  # fmt: skip
    return RowToLabel(**{**known, **fields})


def test_numbers_and_label_sets_have_their_controls(tmp_path: Path) -> None:
    tasks, config = written(tmp_path, "m", [row(kind=Kind.REGRESSION, predicted=2.5)], Predicting())
    assert config.find("Number") is not None
    assert tasks[0]["predictions"][0]["result"][0]["value"] == {"number": 2.5}
    several = Predicting(None, Kind.MULTILABEL, ["a", "b"])
    tasks, config = written(tmp_path, "m", [row(predicted=[1]), row(predicted=[])], several)
    choices = config.find("Choices")
    assert choices is not None and (choices.get("choice"), choices.get("required")) == ("multiple", "false")
    assert [len(one["predictions"]) for one in tasks] == [1, 0]
    assert tasks[0]["data"]["kind"] == "multilabel"


def test_names_that_are_markup_stay_names(tmp_path: Path) -> None:
    labels = ['"<b>&', "'"]
    _, config = written(tmp_path, 'm"<', [row()], Predicting(None, Kind.CLASSIFICATION, labels))
    assert [one.get("value") for one in config.iter("Choice")] == labels


def test_many_classes_without_names_are_a_list_to_open(tmp_path: Path) -> None:
    _, config = written(tmp_path, "m", [row(classes=300)], Predicting())
    choices = config.find("Choices")
    assert choices is not None and (len(choices), choices.get("layout")) == (300, "select")


def test_every_task_has_what_the_configuration_shows(tmp_path: Path) -> None:
    rows = [row(), row(shown=Shown(features={"x": 1.0}))]
    tasks, config = written(tmp_path, "m", rows, Predicting())
    assert [(one["data"]["text"], one["data"]["features"]) for one in tasks] == [("=1+1", {}), ("", {"x": 1.0})]
    assert [one.get("name") for one in config if one.get("value", "").startswith("$")] == ["input", "features"]


def test_a_spreadsheet_calculates_nothing_that_a_client_has_sent(tmp_path: Path) -> None:
    rows = [row(), row(shown=Shown(features={"f": "@x", "n": -1.5}))]
    (file,) = write_rows(tmp_path / "t.csv", "m", rows, Predicting())
    first, second = csv.DictReader(file.read_text().splitlines())
    assert (first["prediction_id"], first["text"]) == ("-p", "'=1+1")
    assert (second["input.f"], second["input.n"]) == ("'@x", "-1.5")


@pytest.mark.parametrize("name", ["=1+1", "-2", "@x", "\t+1", "\n=4", " =4", "\uff1d1+1", "\ufe63 1"])
def test_a_spreadsheet_calculates_no_name_and_no_text(tmp_path: Path, name: str) -> None:
    rows = [row(prediction_id="-A1", model=name, other=1, shown=Shown(text=name))]
    (file,) = write_rows(tmp_path / "t.csv", "m", rows, Predicting(None, Kind.CLASSIFICATION, [name, f"{name}2"]))
    (read,) = csv.DictReader(io.StringIO(file.read_text(), newline=""))
    quoted = {column for column, value in read.items() if value.startswith(f"'{name}")}
    assert quoted == {"predicted", "candidate_predicted", "model", "text"}
    assert read["prediction_id"] == "-A1"


def test_images_and_texts_are_shown_as_far_as_they_fit() -> None:
    noise = np.random.default_rng(1).integers(0, 256, (1, 64, 64), np.uint8)
    inputs = [Tensor("i", "UINT8", noise), Tensor("t", "BYTES", np.array([[b"x" * 9000]], object))]
    whole = shown_of("image", inputs, FeatureNames())
    assert whole.image is not None and whole.text is not None and not whole.image_left_out
    small = shown_of("image", inputs, FeatureNames(), 1000)
    assert (small.image, small.image_left_out, small.features) == (None, True, {"i": "(4,096 values)"})
    assert small.text == "x" * 999 + "…"
    part = shown_of("image", inputs, FeatureNames(), len(whole.image) + 100)
    assert (part.image, part.text) == (whole.image, "x" * 99 + "…")
    texts = Tensor("b", "BYTES", np.array([["y" * 90, "z" * 90]], object))
    assert list(shown_of("tabular", [texts], FeatureNames(), 100).features.values()) == ["y" * 90, "z" * 9 + "…"]


def test_all_rows_that_are_considered_fit_in_memory() -> None:
    for limit in (1, 100, 10_000):
        assert Selection(limit, FeatureNames()).row_bytes * limit * len(Why) <= MAX_SHOWN_BYTES


@pytest.mark.parametrize("kind", [Kind.RANKING, Kind.EMBEDDING, Kind.NONE, None])
def test_what_has_no_labels_is_refused(kind: Kind | None) -> None:
    with pytest.raises(GatewayError, match=r"say prediction\.kind in model\.yaml"):
        project_of("m", [row(kind=kind)], Predicting())


def test_values_of_every_kind_can_be_shown() -> None:
    inputs = [
        Tensor("a", "FP32", np.array([[0.1, np.nan]], np.float32)),
        Tensor("b", "BYTES", np.array([[b"\xff\xfe", "x"]], object)),
        Tensor("c", "BOOL", np.array([[True]])),
        Tensor("d", "FP32", np.zeros((1, 1000), np.float32)),
        Tensor("e", "INT64", np.array([[2**60]])),
    ]
    shown = shown_of("tabular", inputs, FeatureNames())
    assert shown.features == {
        "a[0]": 0.1, "a[1]": "nan", "b[0]": "(2 bytes)", "b[1]": "x", "c": True, "d": "(1,000 values)", "e": 2**60,
    }  # fmt: skip
    assert shown_of("text", inputs[2:3], FeatureNames()) == Shown(None, None, {"c": True})
    assert (
        shown_of(None, [Tensor("t", "BYTES", np.array([["x" * 30_000]], object))], FeatureNames()).text
        == "x" * 19_999 + "…"
    )


def test_the_command_says_what_it_has_written_or_why_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = recorded("digits", 10)
    recording.save(tmp_path / "state" / "records")
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump({"state": str(tmp_path / "state"), "models": {"path": str(MODELS)}}))

    def run(file: str, *options: str) -> tuple[int, str]:
        words = ["analyze", "digits", "--config", str(config), "--to-label", str(tmp_path / file), *options]
        ended = CliRunner(env={"COLUMNS": "400"}).invoke(main, words)
        return ended.exit_code, ended.stderr or ended.stdout

    code, said = run("tasks.json", "--limit", "3")
    assert (code, said.splitlines()[-1]) == (
        0,
        "3 rows to label (1 disagreement, 1 low confidence, 1 sample) are in"
        f" {tmp_path / 'tasks.json'} and {tmp_path / 'tasks.config.xml'}",
    )
    monkeypatch.setattr("gateway.offline.labelling.selection.MAX_SHOWN_BYTES", 2700)
    assert run("tasks.json", "--limit", "3")[1].endswith(
        "; 3 without their images, which are larger than 0 KiB: a smaller --limit leaves more to each\n"
    )
    assert run("t.txt") == (1, f"--to-label {tmp_path / 't.txt'}: name a .json file for Label Studio, or a .csv file\n")
    missing = f"{tmp_path / 'no/t.csv'} cannot be written: No such file or directory ({tmp_path / 'no'})\n"
    assert run("no/t.csv") == (1, missing)
    code, said = run("t.csv", "--url", "http://127.0.0.1:1")
    assert code == 2 and "--to-label reads the records themselves" in said
    for line in recording.lines["predictions"]:
        recording.judge(json.loads(line), 0)
    recording.save(tmp_path / "state" / "records")
    code, said = run("t.csv")
    assert (code, said) == (1, "there is no row to label: every one has a truth\n")
