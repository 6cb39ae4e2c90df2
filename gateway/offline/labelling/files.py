"""Writes rows to label to a file: tasks of Label Studio (.json), or a table (.csv) with an empty column `truth`."""

import csv
import io
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.errors import GatewayError
from gateway.offline.examples import Predicting
from gateway.offline.labelling.label_studio import facts_of, project_of
from gateway.offline.labelling.row import RowToLabel
from gateway.system.durable_files import replace_durably

_BEGINS_FORMULA: Final = ("=", "+", "-", "@")  # which spreadsheets would calculate


def check_name(file: Path) -> None:
    """Raise GatewayError unless the file's name says a format that rows to label are written in."""
    if file.suffix.lower() not in (".json", ".csv"):
        raise GatewayError(f"--to-label {file}: name a .json file for Label Studio, or a .csv file")


def write_rows(file: Path, model: str, rows: Sequence[RowToLabel], predicting: Predicting) -> list[Path]:
    """Write the rows in the format that the file's name says; returns the files written.

    Beside TASKS.json is TASKS.config.xml, the labelling configuration. Raises GatewayError, OSError.
    """
    check_name(file)
    if file.suffix.lower() == ".csv":
        replace_durably(file, table(rows, predicting).encode())
        return [file]
    project = project_of(model, rows, predicting)
    config = file.with_suffix(".config.xml")
    replace_durably(config, project.config.encode())
    replace_durably(file, orjson.dumps(project.tasks, option=orjson.OPT_INDENT_2) + b"\n")
    return [file, config]


def table(rows: Sequence[RowToLabel], predicting: Predicting) -> str:
    """The rows as CSV, in the columns that `gateway feedback` takes: fill in `truth`."""
    features = list(dict.fromkeys(f"input.{name}" for row in rows for name in row.shown.features))
    inputs = [name for name in ("image", "text") if any(getattr(row.shown, name) is not None for row in rows)]
    written = io.StringIO(newline="")
    facts = [{name: _cell(value) for name, value in facts_of(row, predicting).items()} for row in rows]
    names = ["prediction_id", "row", "truth", *(name for name in facts[0] if name not in ("prediction_id", "row"))]
    writer = csv.DictWriter(written, [*names, *inputs, *features], restval="", lineterminator="\n")
    writer.writeheader()
    for row, said in zip(rows, facts, strict=True):
        seen = {name: _cell(getattr(row.shown, name)) for name in inputs}
        values = {f"input.{name}": _cell(value) for name, value in row.shown.features.items()}
        known = {"prediction_id": row.prediction_id, "truth": ""}  # an id is no formula, and must come back as it is
        writer.writerow({**said, **known, **seen, **values})
    return written.getvalue()


def _cell(value: Any) -> Any:
    """The value, with a quote before a text that a spreadsheet would calculate: clients and models name what they like.

    Spreadsheets pass over white space, and take full-width signs for signs.
    """
    text = value if isinstance(value, str) else ""
    return f"'{value}" if unicodedata.normalize("NFKC", text).lstrip().startswith(_BEGINS_FORMULA) else value
