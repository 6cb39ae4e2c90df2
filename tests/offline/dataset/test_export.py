"""A data set exported from real predictions: its content, and that data science tools read it as it is."""

import errno
import hashlib
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pandas as pd
import polars as pl
import pyarrow.parquet as pq
import pytest
from sklearn.linear_model import LogisticRegression

import gateway.offline.dataset.partitions as partitions
from gateway.errors import GatewayError
from gateway.offline.dataset.export import ExportSource, Meters, export
from gateway.offline.dataset.form import Form
from gateway.offline.reader import Query, records_in
from gateway.protocol.elements import to_bytes
from gateway.protocol.tensors import TensorSpec
from tests.recording import NOON_NS, Recording, data, json_request, loaded

DAY_NS = 86_400 * 1_000_000_000


def silent(size: int) -> None:
    """A progress callback that shows nothing."""


def exported(recording: Recording, folder: Path, kind: str = "parquet", out: str = "out", **query: Any) -> Path:
    records = records_in(recording.save(folder / "records"))
    (spec,) = loaded(recording.model, 1).session.signature.inputs
    source = ExportSource(records, lambda version: spec)
    export(source, Query(recording.model, **query), folder / out, Form(kind), Meters(silent, silent, silent))
    return folder / out


def manifest(folder: Path) -> Any:
    return json.loads((folder / "_manifest.json").read_text())


def table(folder: Path) -> pl.DataFrame:
    (model,) = folder.glob("model=*")
    return pl.read_parquet(model)


def digits(count: int = 40) -> Recording:
    """`count` one-row predictions, every second one with feedback."""
    recording = Recording()
    for number in range(count):
        row, truth = data("digits").test_x[number], int(data("digits").test_y[number])
        prediction = recording.predict(json_request("digits", row[None]), version=1 + number % 2)
        if number % 2:
            recording.judge(prediction, truth)
    return recording


def test_exported_row_holds_request_and_answer(tmp_path: Path) -> None:
    frame = table(exported(digits(), tmp_path))
    assert frame.height == 40
    rows = np.array(frame["input_image"].to_list(), np.float32)
    assert np.array_equal(rows, data("digits").test_x[:40])
    for version in (1, 2):
        chosen = frame["version"].to_numpy() == version
        _, probabilities = loaded("digits", version).session.run({"image": rows[chosen][:1]})
        assert probabilities is not None
        answered = np.array(frame["output_probabilities"].to_list(), np.float32)[chosen][:1]
        assert np.array_equal(answered, probabilities)
    assert frame["input_image_shape"].to_list() == [[1, 64]] * 40
    assert frame.schema["input_image"] == pl.List(pl.Float32)
    assert frame.schema["output_label"] == pl.List(pl.Int64)
    assert frame["truth"].to_list()[1::2] == data("digits").test_y[1:40:2].tolist()
    assert frame["truth"].null_count() == frame["correct"].null_count() == 20
    assert frame["customer"].unique().to_list() == ["acme"]
    assert str(frame["date"][0]) == "2026-11-18"


def test_pandas_and_scikit_learn_read_the_export_without_unpacking(tmp_path: Path) -> None:
    frame = pd.read_parquet(exported(digits(200), tmp_path, with_feedback=True) / "model=digits")
    assert len(frame) == 100
    model = LogisticRegression(max_iter=2000).fit(frame["input_image"].tolist(), frame["truth"])
    assert model.score(data("digits").test_x[200:], data("digits").test_y[200:]) > 0.7


def test_same_records_give_the_same_bytes(tmp_path: Path) -> None:
    recording = digits()
    first = exported(recording, tmp_path)
    before = {path: path.read_bytes() for path in first.rglob("*") if path.is_file()}
    again = exported(recording, tmp_path)
    assert {path: path.read_bytes() for path in again.rglob("*") if path.is_file()} == before
    other = exported(recording, tmp_path, out="other")
    assert {path.relative_to(other): path.read_bytes() for path in other.rglob("*") if path.is_file()} == {
        path.relative_to(first): content for path, content in before.items()
    }


def test_manifest_describes_the_export(tmp_path: Path) -> None:
    folder = exported(digits(), tmp_path)
    document = manifest(folder)
    assert (document["rows"], document["rows_with_truth"], document["label_conflicts"]) == (40, 20, 0)
    assert (document["first"], document["last"]) == (
        "2026-11-18T12:00:01.000000+00:00",
        "2026-11-18T12:00:59.000000+00:00",
    )
    assert [(one["version"], one["rows"]) for one in document["versions"]] == [(1, 20), (2, 20)]
    assert document["versions"][0]["sha256"] == loaded("digits", 1).sha256
    assert document["generations"] == {"1": 40}
    assert document["query"] == {
        "since": None,
        "until": None,
        "feedback_until": None,
        "variant": None,
        "with_feedback": False,
    }
    assert sum(part["rows"] for part in document["files"]) == 40
    for part in document["files"]:
        content = (folder / part["path"]).read_bytes()
        assert (len(content), hashlib.sha256(content).hexdigest()) == (part["bytes"], part["sha256"])
        schema = pq.read_schema(folder / part["path"])
        assert schema.names == list(document["columns"])


def test_each_day_is_a_partition(tmp_path: Path) -> None:
    recording = Recording()
    for day in (0, 1, 0, 2, 1):
        recording.record(time_ns=NOON_NS + day * DAY_NS)
    folder = exported(recording, tmp_path)
    paths = [part["path"] for part in manifest(folder)["files"]]
    assert paths == [f"model=digits/date=2026-11-{day}/part-00000.parquet" for day in (18, 19)] + [
        "model=digits/date=2026-11-19/part-00001.parquet",
        "model=digits/date=2026-11-20/part-00000.parquet",
    ]
    assert table(folder).height == 5


def test_trace_id_and_request_id_are_exported_where_recorded(tmp_path: Path) -> None:
    recording = Recording()
    recording.record()
    recording.record(trace_id="0af7651916cd43dd8448eb211c80319c", request_id="a-1")
    frame = table(exported(recording, tmp_path))
    assert frame.select(["trace_id", "request_id"]).rows() == [
        (None, None),
        ("0af7651916cd43dd8448eb211c80319c", "a-1"),
    ]


def test_later_truth_wins_and_the_conflict_is_flagged(tmp_path: Path) -> None:
    recording = Recording()
    one, two = recording.record(predicted=3), recording.record(predicted=4)
    recording.judge(one, 3)
    recording.judge(one, 5)
    recording.judge(two, 4)
    recording.judge(two, 4, metrics={"cost": 0.5})
    frame = table(exported(recording, tmp_path))
    columns = ["truth", "truth_class", "correct", "label_conflict", "feedback_count"]
    assert frame.select(columns).rows() == [(5, 5, False, True, 2), (4, 4, True, False, 2)]
    (file,) = (tmp_path / "out").rglob("*.parquet")
    assert pq.read_table(file)["feedback_metrics"].to_pylist() == [[], [("cost", 0.5)]]
    assert manifest(tmp_path / "out")["label_conflicts"] == 1


@pytest.mark.parametrize(
    ("truths", "expected"),
    [
        ([1, 2], [1, 2]),
        ([1, 2.5], [1.0, 2.5]),
        (["a", "b"], ["a", "b"]),
        ([True, False], [True, False]),
        ([1, "b", [1, 2]], ["1", '"b"', "[1,2]"]),
        ([1, 2**64 - 1], ["1", "18446744073709551615"]),
        ([1.5, 2**53 + 1], ["1.5", "9007199254740993"]),
    ],
)
def test_truths_of_one_type_have_a_typed_column(tmp_path: Path, truths: list[Any], expected: list[Any]) -> None:
    recording = Recording()
    for truth in truths:
        recording.feedback(recording.record(), truth=truth)
    frame = table(exported(recording, tmp_path))
    assert frame["truth"].to_list() == expected
    assert [type(truth) for truth in frame["truth"].to_list()] == [type(truth) for truth in expected]


def binary_request(rows: Any) -> tuple[bytes, int]:
    raw = to_bytes(rows, "FP32")
    text = orjson.dumps(
        {
            "inputs": [
                {"name": "image", "shape": rows.shape, "datatype": "FP32", "parameters": {"binary_data_size": len(raw)}}
            ],
            "parameters": {"binary_data_output": True},
        }
    )
    return text + raw, len(text)


def test_export_of_binary_tensors_classes_several_rows_and_unrecorded_fields(tmp_path: Path) -> None:
    recording = Recording()
    rows = data("digits").test_x[:3]
    body, length = binary_request(rows)
    recording.predict(body, 2, json_length=length)
    wanted = [{"name": "probabilities", "parameters": {"classification": 2}}]
    recording.predict(json_request("digits", rows[:1], outputs=wanted))
    recording.predict(json_request("digits", rows[1:2]))
    recording.predict(json_request("digits", rows[2:]))
    recording.record(outcome="model_error", error="it broke", request=None, request_sha256="ab" * 32)
    folder = exported(recording, tmp_path)
    frame = table(folder)
    assert np.array_equal(np.array(frame["input_image"][0]).reshape(3, 64), rows)
    assert frame["input_image_shape"].to_list() == [[3, 64], [1, 64], [1, 64], [1, 64], None]
    _, scores = loaded("digits", 2).session.run({"image": rows})
    assert scores is not None
    assert np.array_equal(np.array(frame["output_probabilities"][0], np.float32).reshape(3, 10), scores)
    assert frame["output_probabilities"][1] is None
    assert frame["output_probabilities_bytes"][1].to_list()[0].split(":")[1] == str(frame["predicted"][1])
    assert (frame["outcome"][4], frame["error"][4], frame["request_sha256"][4]) == (
        "model_error",
        "it broke",
        "ab" * 32,
    )
    assert json.loads(frame["request_parameters"][0]) == {"binary_data_output": True}
    assert manifest(folder)["unreadable_rows"] == 0


def test_export_of_text_and_raw_bodies(tmp_path: Path) -> None:
    recording = Recording("tickets")
    recording.predict(b"I was charged twice", media="text")
    recording.predict(json_request("tickets", np.array([["where is my parcel?"]], object)))
    frame = table(exported(recording, tmp_path))
    assert frame["input_text"].to_list() == [["I was charged twice"], ["where is my parcel?"]]
    assert frame["request_media"].to_list() == ["text", None]


def test_raw_bytes_that_are_not_utf8_are_exported_as_binary(tmp_path: Path) -> None:
    recording = Recording()
    recording.record(request_binary="/9j/4A==", request_media="image")
    source = ExportSource(records_in(recording.save(tmp_path / "r")), lambda version: TensorSpec("jpeg", "BYTES", (1,)))
    export(source, Query("digits"), tmp_path / "out", Form(), Meters(silent, silent, silent))
    frame = table(tmp_path / "out")
    assert frame["input_jpeg"].to_list() == [[b"\xff\xd8\xff\xe0"]]


def test_export_as_json_lines(tmp_path: Path) -> None:
    recording = digits(3)
    prediction = recording.record(
        response={"outputs": [{"name": "probabilities", "datatype": "FP32", "shape": [1, 2], "data": ["NaN", 1.0]}]}
    )
    recording.feedback(prediction, metrics={"cost": 2.0})
    folder = exported(recording, tmp_path, "jsonl")
    lines = (folder / manifest(folder)["files"][0]["path"]).read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert rows[0]["input_image"] == data("digits").test_x[0].tolist()
    assert rows[3]["output_probabilities"] == ["NaN", 1.0]
    assert rows[3]["feedback_metrics"] == {"cost": 2.0}


def test_damaged_record_is_counted_as_unreadable(tmp_path: Path) -> None:
    recording = digits(2)
    recording.record(request={"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [1.0]}]})
    folder = exported(recording, tmp_path)
    assert manifest(folder)["unreadable_rows"] == 1
    assert table(folder)["input_image"].null_count() == 1


def test_export_replaces_only_an_earlier_export(tmp_path: Path) -> None:
    recording = digits(4)
    folder = exported(recording, tmp_path)
    recording.record()
    assert table(exported(recording, tmp_path)).height == 5
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(GatewayError, match=r"holds notes\.txt, which the export there does not list; move it away"):
        exported(recording, tmp_path)
    (folder / "notes.txt").unlink()
    with pytest.raises(GatewayError, match="holds an export of 'digits'; name another folder for 'tickets'"):
        exported(Recording("tickets"), tmp_path)
    assert table(folder).height == 5
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(GatewayError, match="contains something other than an export; name a new or empty folder"):
        exported(recording, tmp_path, out="mine")


@pytest.mark.parametrize(("kind", "limit"), [("parquet", 100_000), ("jsonl", 40_000)])
def test_full_disk_is_said_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, limit: int) -> None:
    monkeypatch.setattr(partitions, "GROUP_ROWS", 1)  # so the files are larger than the store of feedback
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limits[1]))
    try:
        with pytest.raises(OSError, match="File too large") as full:
            exported(digits(60), tmp_path, kind)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert full.value.errno == errno.EFBIG
    assert not (tmp_path / "out").exists()


def test_empty_export_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="no recorded prediction of 'digits' matches the options"):
        exported(digits(2), tmp_path, variant="candidate")
    assert not (tmp_path / "out").exists()
