"""Exporting the oddest requests that are answered, and lines that no gateway wrote."""

from pathlib import Path
from typing import Any

import numpy as np
import orjson
import polars as pl
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.cli.main import main
from gateway.errors import InvalidRequest
from gateway.protocol.decode import decode_request
from gateway.protocol.depth import MAX_DEPTH
from gateway.records.line import one_line
from gateway.records.segments import FEEDBACK, PREDICTIONS
from tests.offline.dataset.test_export import digits, exported, manifest, table
from tests.recording import Recording, data, json_request

ROW = np.zeros((1, 64), np.float32)
TEXT = st.text(max_size=8) | st.sampled_from(["\0", "\u2028", "é", "😀", "x" * 5000, "parameters", "data"])
NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.sampled_from([2**63, -(2**63), 2**64])
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
BODIES = st.fixed_dictionaries(
    {}, optional={"id": TEXT, "parameters": st.dictionaries(TEXT, VALUES, max_size=3), "strange": VALUES}
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def spliced(recording: Recording, body: bytes) -> None:
    """Record it as a worker does: the body as received, spliced into the line."""
    record = recording.predict(json_request("digits", ROW))
    recording.lines[PREDICTIONS].pop()
    del record["request"]
    line = orjson.dumps(record)[:-1] + b',"request":' + one_line(body) + b"}\n"
    recording.lines[PREDICTIONS].append(line)


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_every_answered_request_can_be_exported(tmp_path: Path, kind: str) -> None:
    recording = Recording()
    spliced(recording, json_request("digits", ROW, parameters={"p": nested(MAX_DEPTH)}))

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True)
    @given(BODIES, st.sampled_from(["inputs", "request"]), VALUES)
    def ask(more: dict[str, Any], place: str, value: Any) -> None:
        document = {**orjson.loads(json_request("digits", ROW)), **more}
        if place == "inputs":
            document["inputs"][0]["parameters"] = {"p": value}
        try:
            body = _json(document)
            decode_request(body)
        except InvalidRequest:
            return
        spliced(recording, body)

    ask()
    out = exported(recording, tmp_path, kind)
    found = manifest(out)
    assert found["rows"] == len(recording.lines[PREDICTIONS]) > 30
    assert (found["skipped_records"], found["unreadable_rows"]) == (0, 0)


def _json(document: Any) -> bytes:
    """Integers of any size: orjson reads them but does not write them."""
    import json

    return json.dumps(document, ensure_ascii=False, indent=1).encode()


ODD: list[bytes] = [
    b'{"model":"digits"}',
    b'{"model":"digits","time_ns":7}',
    b'{"model":"digits","time_ns":',
    b'"digits"',
    b'{"model":"digits","time_ns":1,"prediction_id":"a","version":1,"variant":"stable","outcome":"ok","request":%b}'
    % (b"[" * 1030 + b"]" * 1030),
]
FIELDS: list[dict[str, Any]] = [
    {"version": "one"},
    {"latency_us": 1.5},
    {"customer": 7},
    {"propensity": "high"},
    {"request": [1]},
    {"bucket": 2**63},
    {"prediction_id": None},
    {"time_ns": 2**64 - 1},
    {"request": {"inputs": [], "parameters": {"p": "DEEP"}}},
]
ODD_FEEDBACK: list[dict[str, Any]] = [
    {"reward": "good"},
    {"metrics": {"a": "b"}},
    {"metrics": [1]},
    {"comment": 7},
    {"truth_class": 2**63},
    {"prediction_id": 7},
    {"correct": "yes"},
    {"truth": "DEEP"},
]


@pytest.mark.parametrize("kind", ["parquet", "jsonl"])
def test_malformed_record_is_skipped_and_counted(tmp_path: Path, kind: str) -> None:
    recording = digits()
    for line in ODD:
        recording.lines[PREDICTIONS].insert(3, line + b"\n")
    for fields in FIELDS:
        recording.record(**fields)
    for said in ODD_FEEDBACK:
        recording.feedback({"prediction_id": "p3", "version": 1, "variant": "stable", "customer": None}, **said)
    for lines in recording.lines.values():
        lines[:] = [line.replace(b'"DEEP"', b"[" * 300 + b"]" * 300) for line in lines]
    recording.lines[FEEDBACK].append(b'{"model":"digits","time_ns":1}\n')
    digit = data("digits").test_x[:1]
    recording.predict(json_request("digits", digit))
    out = exported(recording, tmp_path, kind)
    found = manifest(out)
    assert found["rows"] == 41
    assert found["skipped_records"] == len(ODD) + len(FIELDS)
    assert found["skipped_feedback"] == len(ODD_FEEDBACK) + 1
    if kind == "parquet":
        frame: pl.DataFrame = table(out)
        assert (frame.height, frame["truth"].null_count()) == (41, 21)


def test_export_says_how_many_lines_were_skipped(tmp_path: Path) -> None:
    recording = digits(4)
    recording.record(version="one")
    recording.save(tmp_path / "state" / "records")
    (tmp_path / "routing.yaml").write_text("models: {}\n")
    models = Path(__file__).parents[3] / "models"
    (tmp_path / "gateway.yaml").write_text(
        f"models: {{path: {models}}}\nrouting: {tmp_path / 'routing.yaml'}\nstate: {tmp_path / 'state'}\n"
    )
    arguments = ["export", "digits", "--config", str(tmp_path / "gateway.yaml"), "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(main, arguments)
    assert ended.exit_code == 0, ended.output
    assert "1 lines of the records are not valid records and were skipped" in ended.output
