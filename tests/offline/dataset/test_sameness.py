"""The same query with absolute times gives the same data set for ever, and its content has one name."""

import json
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

import gateway.offline.dataset.partitions as partitions
from gateway.offline.dataset.content_hash import ContentHash, parquet_content, type_name
from gateway.offline.dataset.export import ExportSource, Meters, export
from gateway.offline.dataset.form import Form
from gateway.offline.dataset.manifest_file import MANIFEST, read_manifest
from gateway.offline.reader import Query, records_in
from gateway.records.segments import FEEDBACK, PREDICTIONS
from gateway.records.time_range import TimeRange
from tests.offline.dataset.test_export import DAY_NS, digits, exported, manifest, silent, table
from tests.recording import NOON_NS, STEP_NS, Recording, loaded

PERIOD = {"time_range": TimeRange(NOON_NS, NOON_NS + 3600 * STEP_NS), "feedback_until_ns": NOON_NS + 7200 * STEP_NS}
TIGHT = {
    "time_range": TimeRange(NOON_NS + STEP_NS, NOON_NS + 30 * STEP_NS),
    "feedback_until_ns": NOON_NS + 60 * STEP_NS,
}


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def content(folder: Path) -> str:
    sha256: str = manifest(folder)["content_sha256"]
    return sha256


def grown(recording: Recording) -> Recording:
    """Days later: more predictions, more segments, and feedback of another form on the old predictions."""
    old = [json.loads(line) for line in recording.lines[PREDICTIONS] if line.endswith(b"}\n")]
    recording.clock_ns = NOON_NS + 3 * DAY_NS
    for _ in range(300):
        recording.record(predictions={"probabilities": [1]}, generation=7)
    for prediction in old:
        recording.feedback(prediction, truth="nine", truth_class=9, correct=False, reward=0.5, outcomes={"wrong": 1.0})
    return recording


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
@pytest.mark.parametrize("period", [PERIOD, TIGHT], ids=["whole", "cut"])
def test_what_comes_later_changes_no_byte(tmp_path: Path, kind: str, period: Any) -> None:
    recording = digits()
    first = files(exported(recording, tmp_path, kind, **period))
    assert files(exported(grown(recording), tmp_path / "later", kind, **period)) == first


def test_feedback_counts_until_its_time_and_not_from_it_on(tmp_path: Path) -> None:
    recording = Recording()
    one = recording.record(predicted=3)
    recording.judge(one, 3)  # at NOON + 2 s
    recording.judge(one, 4)  # at NOON + 3 s
    found = [
        table(exported(recording, tmp_path, out=f"{after}", feedback_until_ns=NOON_NS + after * STEP_NS))["truth_class"]
        for after in (2, 3, 4)
    ]
    assert [column.to_list() for column in found] == [[None], [3], [4]]


def test_with_feedback_leaves_out_what_was_judged_too_late(tmp_path: Path) -> None:
    until = {"feedback_until_ns": NOON_NS + 20 * STEP_NS, "with_feedback": True}
    told = manifest(exported(digits(), tmp_path, **until))
    assert told["rows"] == told["rows_with_truth"] == 6
    assert told["query"]["feedback_until"] == "2026-11-18T12:00:20.000000+00:00"


def test_malformed_lines_of_later_days_are_not_counted(tmp_path: Path) -> None:
    recording = digits()
    recording.lines[PREDICTIONS].insert(20, b'{"model":"digits", "cut\n')
    before = files(exported(recording, tmp_path, **PERIOD))
    assert json.loads(before[MANIFEST])["skipped_records"] == 1
    grown(recording).lines[PREDICTIONS].append(b'{"model":"digits", "cut\n')
    recording.lines[FEEDBACK].append(b'{"model":"digits", "cut\n')
    assert files(exported(recording, tmp_path / "later", **PERIOD)) == before


def test_content_does_not_depend_on_format_files_or_compression(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = digits()
    first = exported(recording, tmp_path)
    lines = exported(recording, tmp_path, "jsonl", out="lines")
    monkeypatch.setattr(partitions, "GROUP_ROWS", 3)
    monkeypatch.setattr(partitions, "PART_ROWS", 7)
    many = exported(recording, tmp_path, out="many")
    assert len(manifest(many)["files"]) == 6
    assert content(first) == content(lines) == content(many)


def test_content_can_be_computed_again_from_the_files(tmp_path: Path) -> None:
    recording = digits()
    recording.clock_ns += DAY_NS
    one = recording.record(predictions={"probabilities": [1]})
    recording.feedback(one, truth=[1], truth_class=[1], metrics={"cost": [0.5]}, outcomes={"wrong": 1.0})
    folder = exported(recording, tmp_path)
    assert parquet_content(folder, manifest(folder)) == content(folder)


def changed_truth(recording: Recording) -> None:
    recording.lines[FEEDBACK][3] = recording.lines[FEEDBACK][3].replace(b'"correct":true', b'"correct":false')


def changed_input(recording: Recording) -> None:
    lines = recording.lines[PREDICTIONS]
    lines[5] = lines[5].replace(b'"data":[0.0,', b'"data":[1.0,', 1)


def swapped(recording: Recording) -> None:
    lines = recording.lines[PREDICTIONS]
    lines[3], lines[4] = lines[4], lines[3]


def another_model(recording: Recording) -> None:
    for lines in recording.lines.values():
        lines[:] = [line.replace(b'"model":"digits"', b'"model":"numbers"') for line in lines]
    recording.model = "numbers"


@pytest.mark.parametrize("change", [changed_truth, changed_input, swapped, another_model])
def test_content_depends_on_every_value_and_their_order(tmp_path: Path, change: Any) -> None:
    recording = digits()
    before = content(exported(recording, tmp_path))
    stored = {stream: list(lines) for stream, lines in recording.lines.items()}
    change(recording)
    assert recording.lines != stored
    (spec,) = loaded("digits", 1).session.signature.inputs
    source = ExportSource(records_in(recording.save(tmp_path / "changed")), lambda version: spec)
    export(source, Query(recording.model), tmp_path / "after", Form(), Meters(silent, silent, silent))
    assert content(tmp_path / "after") != before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([["a", "b"]], [["ab"]]),
        ([["a"], ["b"]], [["a", "b"], []]),
        ([[], None], [None, []]),
        ([[None], ["a"]], [["a"], [None]]),
        ([["a", ""]], [["", "a"]]),
    ],
)
def test_rows_with_other_bounds_have_another_hash(one: Any, other: Any) -> None:
    assert _hash(one) != _hash(other)
    assert _hash(one) == _hash(one[:1], one[1:])


def _hash(*batches: Any) -> str:
    schema = pa.schema([("x", pa.list_(pa.string()))])
    found = ContentHash("m", schema)
    for rows in batches:
        found.add("2026-11-18", pa.record_batch([pa.array(rows, schema.field("x").type)], schema=schema))
    return found.hexdigest()


def test_sliced_batches_are_hashed_as_they_are() -> None:
    kind = pa.map_(pa.string(), pa.list_(pa.float64()))
    rows = [[("a", [1.0])], None, [("b", [2.0, 3.0]), ("c", [])], []]
    schema = pa.schema([("m", kind), ("s", pa.string()), ("b", pa.bool_())])
    whole = pa.record_batch(
        [pa.array(rows, kind), pa.array(["x", None, "", "yz"]), pa.array([True, None, False, True])], schema=schema
    )
    at_once, in_parts = ContentHash("m", schema), ContentHash("m", schema)
    at_once.add("d", whole)
    for start, length in ((0, 1), (1, 2), (3, 1)):
        in_parts.add("d", whole.slice(start, length))
    assert at_once.hexdigest() == in_parts.hexdigest()


def test_type_names_are_our_own() -> None:
    kinds = {
        "list<float32>": pa.list_(pa.field("item", pa.float32())),
        "map<string, list<float64>>": pa.map_(pa.string(), pa.list_(pa.float64())),
        "timestamp<us, UTC>": pa.timestamp("us", "UTC"),
        "bool": pa.bool_(),
        "binary": pa.binary(),
        "uint8": pa.uint8(),
    }
    assert {name: type_name(kind) for name, kind in kinds.items()} == {name: name for name in kinds}
    assert type_name(pa.list_(pa.field("element", pa.float32()))) == "list<float32>"


def test_manifest_names_no_release_and_lies_where_readers_of_the_folder_pass_over_it(tmp_path: Path) -> None:
    folder = exported(digits(), tmp_path)
    text = (folder / MANIFEST).read_text()
    assert pa.__version__ not in text and 'gateway":' not in text
    assert len(pd.read_parquet(folder)) == 40
    assert ds.dataset(folder, format="parquet", partitioning="hive").count_rows() == 40
    assert pl.read_parquet(folder / "model=digits").height == 40
    assert pl.scan_parquet(folder, hidden_file_prefix="_").collect().height == 40


def test_export_of_an_earlier_release_is_known_and_replaced(tmp_path: Path) -> None:
    folder = exported(digits(), tmp_path)
    (folder / MANIFEST).rename(folder / "manifest.json")
    assert read_manifest(folder) is not None
    assert exported(digits(), tmp_path) == folder
    assert sorted(path.name for path in folder.iterdir()) == [MANIFEST, "model=digits"]
