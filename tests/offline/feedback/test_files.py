"""Feedback read from CSV, JSON Lines and Parquet: the same entries, with the lines that they stand on."""

from pathlib import Path

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gateway.errors import GatewayError
from gateway.offline.feedback.fields import Columns, Entry, parse_map
from gateway.offline.feedback.files import FeedbackFile, Format, format_of

CSV = """prediction_id,truth,reward,comment,metrics.revenue,basket
a,billing,0.5,"two
lines",12,x
b,3,,,,
c,"[1, null, 2]",,7,1e3,
d,,,,,
e,,,so so,,
"""
ENTRIES = [
    (2, {"prediction_id": "a", "truth": "billing", "reward": 0.5, "comment": "two\nlines", "metrics": {"revenue": 12}}),
    (4, {"prediction_id": "b", "truth": 3}),
    (5, {"prediction_id": "c", "truth": [1, None, 2], "comment": "7", "metrics": {"revenue": 1e3}}),
]


def read(path: Path, kind: Format | None = None, **mapped: str) -> tuple[list[Entry], Columns]:
    columns = Columns(mapped)
    with FeedbackFile(path, kind or format_of(path), columns) as file:
        entries = list(file.entries())
        assert file.position() == file.total
    return entries, columns


def saved(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_csv_values_are_numbers_lists_or_text(tmp_path: Path) -> None:
    entries, columns = read(saved(tmp_path / "f.csv", "\N{ZERO WIDTH NO-BREAK SPACE}" + CSV))
    assert [(one.line, one.fields) for one in entries[:3]] == ENTRIES
    empty = "is empty: give at least one of truth, reward, metrics"
    assert entries[3:] == [Entry(7, {"prediction_id": "e", "comment": "so so"}, empty)]
    assert columns.ignored == {"basket"}


def test_csv_rows_that_are_left_empty_are_counted_and_not_rejected(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.csv", "prediction_id,row,text,truth\np,0,a,x\np,1,b,\nq,,c,\n,,d,\n")
    with FeedbackFile(path, Format.CSV, Columns({})) as file:
        assert [(one.line, one.error) for one in file.entries()] == [(2, ""), (5, "has no prediction_id")]
    assert file.left_out == {"left empty": 2}


def test_jsonl_and_parquet_say_the_same_as_csv(tmp_path: Path) -> None:
    rows = [fields for _, fields in ENTRIES]
    lines = b"\n".join(map(orjson.dumps, rows)) + b"\n"
    entries, _ = read(saved(tmp_path / "f.jsonl", lines))
    assert [(one.line, one.fields, one.error) for one in entries] == [(n, row, "") for n, row in enumerate(rows, 1)]
    table = pa.table(
        {
            "prediction_id": ["a", "b"],
            "truth": [[1.5, None], None],
            "metrics": pa.array([[("revenue", 2.0)], None], pa.map_(pa.string(), pa.float64())),
            "reward": [float("nan"), 1.0],
        }
    )
    pq.write_table(table, tmp_path / "f.parquet")
    entries, _ = read(tmp_path / "f.parquet")
    assert [one.fields for one in entries] == [
        {"prediction_id": "a", "truth": [1.5, None], "metrics": {"revenue": 2.0}},
        {"prediction_id": "b", "reward": 1.0},
    ]


def test_columns_of_other_names_are_mapped(tmp_path: Path) -> None:
    path = saved(tmp_path / "f.txt", "id,label,truth,paid\np,x,not this,3\n")
    mapped = parse_map(["prediction_id=id", "truth=label", "metrics.revenue=paid"])
    entries, columns = read(path, Format.CSV, **mapped)
    assert entries[0].fields == {"prediction_id": "p", "truth": "x", "metrics": {"revenue": 3}}
    assert columns.ignored == {"truth"}


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "is not valid JSON"),
        ("[]", "must be a JSON object"),
        ('{"truth": 1}', "has no prediction_id"),
        ('{"prediction_id": 7, "truth": 1}', "must be the text"),
        ('{"prediction_id": "p", "reward": "much"}', "reward must be a number"),
        ('{"prediction_id": "p", "reward": [1, "much"]}', "reward must be a number"),
        ('{"prediction_id": "p", "metrics.a": true}', "metrics.a must be a number"),
        ('{"prediction_id": "p", "metrics": 3}', "metrics must be an object"),
        ('{"prediction_id": "p", "truth": 1, "comment": 3}', "comment must be a text"),
    ],
)
def test_line_of_a_wrong_form_has_its_error(tmp_path: Path, line: str, error: str) -> None:
    entries, _ = read(saved(tmp_path / "f.jsonl", f'\n{line}\n{{"prediction_id": "p", "reward": [1, null]}}\n'))
    assert (entries[0].line, entries[1].line, entries[1].error) == (2, 3, "")
    assert error in entries[0].error


@pytest.mark.parametrize(
    ("name", "text", "error"),
    [
        ("f.csv", "", "is empty"),
        ("f.csv", "id,truth\n", "no column is called prediction_id: the columns are id, truth"),
        ("f.csv", "prediction_id,label\n", "no column is called truth, reward"),
        ("f.csv", "prediction_id;truth\n", "prediction_id;truth; the cells seem to be separated by semicolons"),
        ("f.csv", "prediction_id\ttruth\n", "separated by tabs"),
        ("f.csv", 'prediction_id,truth\na,"b\n', "line 2: unexpected end of data"),
        ("f.csv", b"prediction_id,truth\na,\xff\n", "is not UTF-8"),
        ("f.parquet", "nothing", "is not a Parquet file"),
        ("f.dat", "", "give --format"),
    ],
)
def test_unreadable_file_is_refused(tmp_path: Path, name: str, text: str | bytes, error: str) -> None:
    with pytest.raises(GatewayError, match=error):
        read(saved(tmp_path / name, text))


def test_map_of_no_field_or_column_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match="--map label=truth: give FIELD=COLUMN"):
        parse_map(["label=truth"])
    with pytest.raises(GatewayError, match="there is no column 'label'"):
        read(saved(tmp_path / "f.csv", "prediction_id,truth\n"), truth="label")


def test_csv_row_with_other_cells_than_columns_is_an_error(tmp_path: Path) -> None:
    entries, _ = read(saved(tmp_path / "f.csv", "prediction_id,truth\na,1,2\n\nb,1\n"))
    assert [(one.line, one.error[:11]) for one in entries] == [(2, "has 3 cells"), (4, "")]
