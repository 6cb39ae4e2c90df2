"""Exports of Label Studio, JSON and JSON-MIN, as feedback."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from gateway.cli.main import main
from gateway.errors import GatewayError
from gateway.offline.feedback.fields import Columns, Entry, parse_map
from gateway.offline.feedback.files import FeedbackFile, format_of
from gateway.offline.feedback.label_studio import CANCELLED, NO_ANNOTATION, NOT_GOLDEN

CONFIG = Path(__file__).parents[3] / "config" / "gateway.yaml"


def result(kind: str, value: Any, name: str = "truth") -> dict[str, Any]:
    return {"id": "x", "from_name": name, "to_name": "input", "type": kind, "origin": "manual", "value": {kind: value}}


def annotation(*results: Any, **fields: Any) -> dict[str, Any]:
    return {"id": 1, "result": list(results), "was_cancelled": False, "ground_truth": False, **fields}


def task(*annotations: Any, **data: Any) -> dict[str, Any]:
    return {
        "id": 9,
        "data": {"prediction_id": "p", "row": 2, "text": "hello", "predicted": "a", **data},
        "annotations": list(annotations),
        "drafts": [{"result": [result("choices", ["draft"])]}],
        "predictions": [{"result": [result("choices", ["guess"])]}],
    }


def read(folder: Path, document: Any, *mapped: str) -> tuple[list[Entry], Counter[str]]:
    path = folder / "export.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with FeedbackFile(path, format_of(path), Columns(parse_map(mapped))) as file:
        return list(file.entries()), +file.left_out


def only(folder: Path, document: Any, *mapped: str) -> Any:
    (entry,), left_out = read(folder, document, *mapped)
    assert (entry.error, left_out) == ("", {})
    return entry.fields


@pytest.mark.parametrize(
    ("results", "data", "truth"),
    [
        ([result("choices", ["a"])], {}, "a"),
        ([result("choices", ["a", "b"])], {}, ["a", "b"]),
        ([result("choices", ["a"])], {"kind": "multilabel"}, ["a"]),
        ([], {"kind": "multilabel"}, []),
        ([result("taxonomy", [["animal", "cat"]])], {}, "cat"),
        ([result("taxonomy", [["animal", "cat"], ["plant"]])], {}, ["cat", "plant"]),
        ([result("number", 3.5)], {}, 3.5),
        ([result("number", 0)], {}, 0),
        ([result("rating", 4)], {}, 4),
        ([result("textarea", ["free", "text"])], {}, "free\ntext"),
        ([result("choices", ["a"]), {"type": "relation", "from_id": "x", "to_id": "y"}], {}, "a"),
    ],
)
def test_a_label_is_a_truth_of_its_row(tmp_path: Path, results: Any, data: Any, truth: Any) -> None:
    said = only(tmp_path, [task(annotation(*results), **data)])
    assert said == {"prediction_id": "p", "row": 2, "truth": truth}


def test_other_controls_may_hold_other_fields(tmp_path: Path) -> None:
    results = [
        result("choices", ["a"]),
        result("textarea", ["odd"], "comment"),
        result("rating", 5, "metrics.quality"),
        result("choices", ["yes"], "blurred"),
    ]
    said = only(tmp_path, [task(annotation(*results))])
    assert said == {"prediction_id": "p", "row": 2, "truth": "a", "comment": "odd", "metrics": {"quality": 5}}


def test_names_may_be_mapped(tmp_path: Path) -> None:
    one = {"data": {"pid": "q"}, "annotations": [annotation(result("choices", ["a"], "sentiment"))]}
    said = only(tmp_path, [one], "truth=sentiment", "prediction_id=pid")
    assert said == {"prediction_id": "q", "truth": "a"}
    (entry,), _ = read(tmp_path, [one])
    assert "called 'sentiment'" in entry.error and "--map truth=NAME" in entry.error


def test_of_several_annotations_the_latest_comes_last(tmp_path: Path) -> None:
    late = annotation(result("choices", ["late"]), created_at="2026-11-02T10:00:00Z")
    early = annotation(result("choices", ["early"]), created_at="2026-11-01T10:00:00Z")
    entries, _ = read(tmp_path, [task(late, early)])
    assert [one.fields["truth"] for one in entries] == ["early", "late"]


def test_a_ground_truth_stands_alone(tmp_path: Path) -> None:
    golden = annotation(result("choices", ["golden"]), ground_truth=True)
    entries, left_out = read(tmp_path, [task(annotation(result("choices", ["other"])), golden)])
    assert [one.fields["truth"] for one in entries] == ["golden"]
    assert left_out == {NOT_GOLDEN: 1}


def test_a_ground_truth_without_a_label_leaves_the_others(tmp_path: Path) -> None:
    golden, other = annotation(ground_truth=True), annotation(result("choices", ["other"]))
    entries, left_out = read(tmp_path, [task(other, golden)])
    assert [one.fields["truth"] for one in entries] == ["other"]
    assert left_out == {NO_ANNOTATION: 1}
    entries, _ = read(tmp_path, [task(other, golden, kind="multilabel")])
    assert [one.fields["truth"] for one in entries] == [[]]  # none of the labels


@pytest.mark.parametrize(("name", "value"), [("prediction_id", "other"), ("row", "7")])
def test_no_control_says_which_row_a_label_is_of(tmp_path: Path, name: str, value: str) -> None:
    said = only(tmp_path, [task(annotation(result("choices", ["a"]), result("choices", [value], name)))])
    assert said == {"prediction_id": "p", "row": 2, "truth": "a"}
    (entry,), _ = read(tmp_path, [task(annotation(result("choices", [value], name)))])
    assert f"called '{name}'" in entry.error


@pytest.mark.parametrize(
    "results",
    [
        [result("choices", ["a"], "\x1b[2J")],
        [result("choices", ["a"], "\x1b[2J")] * 2,
        [result("x", ["a"], "\x1b[2J")],
        [result("\x1b[2J", ["a"])],
    ],
)
def test_names_in_messages_steer_no_terminal(tmp_path: Path, results: Any) -> None:
    (entry,), _ = read(tmp_path, [task(annotation(*results))])
    assert "\\x1b[2J" in entry.error and "\x1b" not in entry.error


def test_skipped_and_unlabelled_tasks_are_left_out_and_counted(tmp_path: Path) -> None:
    skipped = annotation(result("choices", ["a"]), was_cancelled=True)
    entries, left_out = read(tmp_path, [task(skipped), task(), task(annotation()), task(skipped, ground_truth=True)])
    assert entries == []
    assert left_out == {CANCELLED: 2, NO_ANNOTATION: 2}


@pytest.mark.parametrize(
    ("one", "error"),
    [
        ("text", "must be a task"),
        (None, "must be a task"),
        ({"annotations": {}}, "must have a list of annotations"),
        ({"annotations": [], "data": []}, "must have a list of annotations"),
        ({"data": {}, "annotations": [annotation(result("choices", ["a"]))]}, "has no prediction_id"),
        (task(annotation(result("rectanglelabels", ["cat"]))), "is of type rectanglelabels, which says no truth"),
        (task(annotation({"from_name": "truth", "type": "choices", "value": []})), "is of type choices"),
        (task(annotation({"from_name": "truth", "type": ["x"], "value": {}})), "which says no truth"),
        (task(annotation(result("choices", ["a"]), result("choices", ["b"]))), "says several things under 'truth'"),
    ],
)
def test_what_is_no_label_is_rejected(tmp_path: Path, one: Any, error: str) -> None:
    entries, _ = read(tmp_path, [task(annotation(result("choices", ["a"]))), one])
    assert [entry.line for entry in entries] == [1, 2]
    assert error in entries[1].error


def test_odd_annotations_are_passed_over(tmp_path: Path) -> None:
    entries, left_out = read(tmp_path, [task(1, None, annotation(7, {"from_name": 3}), {"result": {}})])
    assert entries == []
    assert left_out == {CANCELLED: 2, NO_ANNOTATION: 2}


def test_json_min_says_the_same(tmp_path: Path) -> None:
    base = {"id": 1, "prediction_id": "p", "row": 2, "text": "hello", "annotator": 1, "annotation_id": 5}
    late, early = "2026-11-02T10:00:00Z", "2026-11-01T10:00:00Z"
    rows = [
        {**base, "truth": "late", "created_at": late},
        {**base, "truth": "early", "created_at": early},
        {**base, "truth": {"choices": ["a", "b"]}, "comment": "odd", "created_at": "3"},
        {**base, "truth": "a", "kind": "multilabel", "created_at": "4"},
        {**base, "kind": "multilabel", "created_at": "5"},
        {**base, "truth": [["animal", "cat"]], "created_at": "6"},
        {**base, "truth": 2.5, "metrics": {"revenue": 1}, "created_at": "7"},
        {"prediction_id": "p", "row": 0, "created_at": "8"},
        {**base, "sentiment": "a", "created_at": "9"},
    ]
    entries, left_out = read(tmp_path, rows)
    assert [one.line for one in entries] == [2, 1, 3, 4, 5, 6, 7, 9]
    assert [one.fields.get("truth") for one in entries[:7]] == ["early", "late", ["a", "b"], ["a"], [], "cat", 2.5]
    assert entries[2].fields["comment"] == "odd"
    assert entries[6].fields["metrics"] == {"revenue": 1}
    assert all(set(one.fields) <= {"prediction_id", "row", "truth", "comment", "metrics"} for one in entries)
    assert "--map truth=NAME" in entries[7].error
    assert left_out == {NO_ANNOTATION: 1}


def test_a_file_that_is_no_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"is not valid JSON.*--format jsonl"):
        read(tmp_path, '{"a": 1}\n{"a": 2}')
    assert read(tmp_path, [])[0] == []
    assert read(tmp_path, task(annotation(result("choices", ["a"]))))[0][0].fields["truth"] == "a"


def test_the_command_prints_names_of_an_export_without_what_steers_a_terminal(tmp_path: Path) -> None:
    odd = result("choices", ["b"], "\x1b[2Jodd")
    one, other = annotation(result("choices", ["a"]), odd), annotation(result("\x1b[2Jkind", ["a"]))
    (tmp_path / "export.json").write_text(json.dumps([task(one), task(other)]))
    words = ["feedback", str(tmp_path / "export.json"), "--config", str(CONFIG), "--dry-run"]
    ended = CliRunner().invoke(main, words)
    assert ended.exit_code == 1 and "\\x1b[2Jodd" in ended.stderr and "\\x1b[2Jkind" in ended.stderr
    assert "\x1b" not in ended.output
