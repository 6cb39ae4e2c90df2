"""`gateway export`, `analyze` and `replay` on what a running gateway has recorded."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import polars as pl
import pytest
from rich.progress import Progress

from gateway.cli.record_options import meter
from gateway.offline.reader import records_in
from gateway.protocol.elements import to_bytes
from gateway.records.segments import FEEDBACK, read, segment_path
from tests.recording import MODELS, Recording, data, json_request
from tests.running import GatewayProcess

ROWS = 60


def command(config: Path, *words: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    line = [sys.executable, "-m", "gateway", *words, "--config", str(config)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == code, (ended.stdout, ended.stderr)
    assert "Traceback" not in ended.stderr
    return ended


def ask(client: httpx.Client, number: int) -> httpx.Response:
    """Send a request as JSON, every third one as binary."""
    row = data("digits").test_x[number : number + 1]
    headers = {"x-customer-id": ("acme", "globex")[number % 2]}
    if number % 3:
        return client.post("/v2/models/digits/infer", content=json_request("digits", row), headers=headers)
    raw = to_bytes(row, "FP32")
    size = {"binary_data_size": len(raw)}
    tensor = {"name": "image", "shape": [1, 64], "datatype": "FP32", "parameters": size}
    text = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers["inference-header-content-length"] = str(len(text))
    return client.post("/v2/models/digits/infer", content=text + raw, headers=headers)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The configuration of a gateway that has served, received feedback, and ended."""
    routing = {
        "models": {"digits": {"stable": 1, "candidate": 2, "split": {"routes": [{"name": "all", "weight": 50}]}}}
    }
    gateway = GatewayProcess(tmp_path_factory.mktemp("gateway"), MODELS, routing)
    with gateway, httpx.Client(base_url=gateway.url) as client:
        answers = [ask(client, number) for number in range(ROWS)]
        assert {answer.status_code for answer in answers} == {200}
        text = {"content-type": "text/plain"}
        client.post("/v2/models/tickets/infer", content=b"I was charged twice", headers=text).raise_for_status()
        feedback = [
            {"prediction_id": answer.headers["x-prediction-id"], "truth": int(data("digits").test_y[number])}
            for number, answer in enumerate(answers)
        ]
        told = client.post("/v2/feedback", json=feedback)
        assert told.json()["accepted"] == ROWS
    yield gateway.config


def exported(config: Path, out: Path, *more: str) -> Any:
    return json.loads(command(config, "export", "digits", "--out", str(out), "--json", *more).stdout)


def test_export_writes_every_prediction_with_its_truth(recorded: Path, tmp_path: Path) -> None:
    told = exported(recorded, tmp_path / "out")
    assert (told["rows"], told["rows_with_truth"], told["unreadable_rows"]) == (ROWS, ROWS, 0)
    frame = pl.read_parquet(tmp_path / "out" / "model=digits")
    assert np.array_equal(np.array(frame["input_image"].to_list(), np.float32), data("digits").test_x[:ROWS])
    assert frame["truth"].to_list() == data("digits").test_y[:ROWS].tolist()
    assert frame["correct"].to_list() == (frame["predicted"] == frame["truth_class"]).to_list()
    assert set(frame["variant"]) == {"stable", "candidate"}


def test_manifest_of_an_export_without_an_end_names_the_time_at_which_it_was_made(
    recorded: Path, tmp_path: Path
) -> None:
    query = exported(recorded, tmp_path / "out")["query"]
    assert query["until"] == query["feedback_until"] is not None
    first = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    exported(recorded, tmp_path / "out", "--until", query["until"], "--feedback-until", query["feedback_until"])
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == first


def test_export_of_a_variant_and_a_period(recorded: Path, tmp_path: Path) -> None:
    chosen = exported(recorded, tmp_path / "a", "--variant", "candidate", "--since", "1h", "--format", "jsonl")
    assert chosen["variants"] == {"candidate": chosen["rows"]}
    ended = command(recorded, "export", "digits", "--out", str(tmp_path / "b"), "--until", "2020-01-01", code=1)
    assert ended.stderr.startswith("no recorded prediction of 'digits' matches the options")
    ended = command(recorded, "export", "digits", "--out", str(tmp_path / "b"), "--since", "noon", code=1)
    assert ended.stderr.startswith("'noon' is neither a time nor a duration; write for example 24h")


def test_records_of_several_hosts_are_read_as_one(recorded: Path, tmp_path: Path) -> None:
    """Host a made the predictions of this gateway, b one more; feedback on it was given to a."""
    here, other = tmp_path / "a", Recording()
    shutil.copytree(recorded.parent / "state" / "records", here)
    prediction = other.record(prediction_id="of b")
    there, elsewhere = other.save(tmp_path / "b"), Recording()
    elsewhere.feedback(prediction, truth=3, truth_class=3, correct=False)
    segment_path(here, FEEDBACK, 999, open=False).write_bytes(b"".join(elsewhere.lines[FEEDBACK]))
    both = ("--records", str(there), "--records", str(here))
    told = exported(recorded, tmp_path / "out", *both)
    assert (told["rows"], told["rows_with_truth"]) == (ROWS + 1, ROWS + 1)
    told = json.loads(command(recorded, "analyze", "digits", "--json", *both).stdout)
    assert told["rows"] == ROWS + 1
    told = json.loads(command(recorded, "replay", "digits", "--version", "1", "--json", *both).stdout)
    assert told["replayed"] == ROWS


def test_folders_of_records_that_cannot_be_read_as_one_are_refused(recorded: Path, tmp_path: Path) -> None:
    folder = str(recorded.parent / "state" / "records")
    (tmp_path / "empty").mkdir()
    out = ("--out", str(tmp_path / "out"))
    for words, code, says in (
        (("--records", folder, "--records", f"{folder}/../records"), 2, "names a folder twice"),
        (("--records", folder, "--url", "http://127.0.0.1:9"), 2, "has records of its own"),
        (("--records", folder, "--records", str(tmp_path / "empty")), 1, "there are no predictions in"),
    ):
        assert says in command(recorded, "export", "digits", *out, *words, code=code).stderr


def test_export_prints_a_summary(recorded: Path, tmp_path: Path) -> None:
    ended = command(recorded, "export", "tickets", "--out", str(tmp_path / "out"))
    assert ended.stdout.startswith("1 prediction, 0 with feedback\n")
    assert "which pandas and polars read as one table" in ended.stdout
    manifest = json.loads((tmp_path / "out" / "_manifest.json").read_text())
    assert f"the last one is from {manifest['last']}; evaluate version N" in ended.stdout
    assert f"gateway replay tickets --since {manifest['query']['until']} --version N\n" in ended.stdout
    assert pl.read_parquet(tmp_path / "out" / "model=tickets")["input_text"].to_list() == [["I was charged twice"]]
    lines = command(recorded, "export", "tickets", "--out", str(tmp_path / "lines"), "--format", "jsonl")
    assert f"written to {tmp_path / 'lines' / 'model=tickets'}; details" in lines.stdout


def test_export_without_pyarrow_says_what_to_install(recorded: Path, tmp_path: Path) -> None:
    code = (
        "import sys, importlib.util as util; find = util.find_spec;"
        "util.find_spec = lambda name, *rest: None if name == 'pyarrow' else find(name, *rest);"
        "from gateway.cli.main import main; main()"
    )
    line = [sys.executable, "-c", code, "export", "digits", "--out", str(tmp_path / "out"), "--config", str(recorded)]
    ended = subprocess.run(line, capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stderr) == (
        1,
        "`gateway export` needs pyarrow: pip install pyarrow, or the extra [data] of canary-gateway\n",
    )


def test_analyze_writes_json_and_html(recorded: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    told = json.loads(command(recorded, "analyze", "digits", "--json", "--html", str(page)).stdout)
    assert (told["rows"], told["wrong"]["count"]) == (ROWS, ROWS)
    assert page.read_text().startswith("<!doctype html>")
    assert "digits: error analysis" in command(recorded, "analyze", "digits").stdout


def test_replay_compares_versions(recorded: Path) -> None:
    told = json.loads(command(recorded, "replay", "digits", "--version", "1", "--unbatched", "--json").stdout)
    first, second = told["answered_by"]
    assert (told["replayed"], first["same_version"], second["same_version"]) == (ROWS, True, False)
    assert first["predictions"] == first["exact"] + first["close"] == first["class_agreement"]["hits"]
    assert second["accuracy_then"]["count"] == second["predictions"]
    assert "same bit for bit" in command(recorded, "replay", "digits", "--version", "2").stdout
    ended = command(recorded, "replay", "digits", "--version", "9", code=1)
    assert ended.stderr == "model 'digits' has no version 9; it has 1, 2\n"


def test_progress_bar_ends_full(tmp_path: Path) -> None:
    """Progress is reported by the megabyte only."""
    recording = Recording("digits")
    recording.predict(json_request("digits", data("digits").test_x[:1]))
    records = records_in(recording.save(tmp_path))
    with Progress(disable=True) as progress:
        advance = meter(progress, "reading", records.predictions)
        for _ in read(records.predictions, "digits", on_progress=advance):
            pass
        assert progress.finished


def test_commands_without_records_end_with_one_line(tmp_path: Path) -> None:
    absent = GatewayProcess(tmp_path, MODELS)
    for words in (("analyze", "digits"), ("replay", "digits", "--version", "1"), ("export", "digits", "--out", "x")):
        ended = command(absent.config, *words, code=1)
        assert "there are no predictions in" in ended.stderr
        assert ended.stderr.count("\n") == 1


def test_model_removed_from_disk_can_still_be_exported(tmp_path: Path) -> None:
    """Its records outlive it; only the input name of a raw body is lost."""
    (tmp_path / "models").mkdir()
    absent = GatewayProcess(tmp_path, tmp_path / "models")
    recording = Recording("tickets")
    recording.predict(b"where is my parcel?", media="text")
    recording.save(tmp_path / "state" / "records")
    command(absent.config, "export", "tickets", "--out", str(tmp_path / "out"))
    frame = pl.read_parquet(tmp_path / "out" / "model=tickets")
    assert frame["input_raw"].to_list() == [["where is my parcel?"]]
