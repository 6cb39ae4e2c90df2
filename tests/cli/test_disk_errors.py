"""Commands whose files the disk does not take: which file, in a sentence, and the rest of the report all the same."""

import errno
import json
import os
import resource
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner, Result

from gateway.cli.disk_errors import told_of_disk, told_of_temporary_files
from gateway.cli.main import main
from gateway.cli.refusal import CommandError
from tests.recording import MODELS, Recording, data, json_request

ROOT = Path(__file__).parents[2]
FULL = "/dev/full cannot be written: No space left on device\n"


def run(*words: str) -> Result:
    return CliRunner(env={"COLUMNS": "400"}).invoke(main, words)


@pytest.fixture
def config(tmp_path: Path) -> str:
    """A gateway.yaml with five recorded predictions of digits."""
    recording = Recording("digits")
    for row in data("digits").test_x[:5]:
        recording.predict(json_request("digits", np.array([row]).reshape(1, -1)))
    recording.save(tmp_path / "state" / "records")
    file = tmp_path / "gateway.yaml"
    file.write_text(yaml.safe_dump({"state": str(tmp_path / "state"), "models": {"path": str(MODELS)}}))
    return str(file)


@pytest.fixture
def truths(tmp_path: Path) -> Path:
    """A file of feedback with one line that can be sent, and more that cannot than a buffer holds."""
    file = tmp_path / "truths.jsonl"
    file.write_text('{"prediction_id": "a", "truth": 1}\n' + "{}\n" * 1000)
    return file


@pytest.mark.parametrize("lines", [2, 1001], ids=["at its end", "in the midst"])
def test_rejected_lines_on_a_full_disk_leave_the_report(truths: Path, lines: int) -> None:
    truths.write_text("".join(truths.read_text().splitlines(keepends=True)[:lines]))
    words = ("feedback", str(truths), "--dry-run", "--rejected", "/dev/full")
    ended = run(*words)
    assert ended.exit_code == 1
    assert ended.stdout.startswith("1 lines have the right form")
    assert f", {lines - 1:,} rejected\n" in ended.stdout
    assert ended.stderr.endswith(FULL)
    as_json = run(*words, "--json")
    assert json.loads(as_json.stdout)["rejected"] == lines - 1
    assert (as_json.exit_code, as_json.stderr) == (1, FULL)


def test_full_disk_is_said_beside_the_reason_why_nothing_more_was_sent(truths: Path) -> None:
    lines = truths.read_text().splitlines(keepends=True)
    truths.write_text("".join(lines[1:] + lines[:1]))
    ended = run("feedback", str(truths), "--url", "http://127.0.0.1:1", "--rejected", "/dev/full")
    assert ended.exit_code == 1
    assert ended.stderr.startswith(f"{FULL}no gateway answers at http://127.0.0.1:1")


def test_rejected_lines_in_a_missing_folder_are_refused_before_anything_is_sent(truths: Path, tmp_path: Path) -> None:
    out = tmp_path / "no" / "rejected.jsonl"
    ended = run("feedback", str(truths), "--url", "http://127.0.0.1:1", "--rejected", str(out))
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr == f"{out} cannot be written: No such file or directory\n"


def test_rejected_lines_do_not_replace_the_file_that_is_sent(truths: Path, tmp_path: Path) -> None:
    before = truths.read_text()
    (tmp_path / "link").symlink_to(truths)
    ended = run("feedback", str(truths), "--dry-run", "--rejected", str(tmp_path / "link"))
    assert (ended.exit_code, truths.read_text()) == (1, before)
    assert ended.stderr == f"--rejected {tmp_path / 'link'}: it is the file that is sent; name another one\n"


def test_analysis_is_printed_although_its_files_cannot_be_written(config: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv.new").mkdir()
    files = ("--html", "/dev/full", "--to-label", str(tmp_path / "t.csv"))
    ended = run("analyze", "digits", "--config", config, *files)
    assert "predictions" in ended.stdout
    assert "report is in" not in ended.stdout and "rows to label" not in ended.stdout
    assert (ended.exit_code, ended.stderr) == (
        1,
        f"{FULL}{tmp_path / 't.csv'} cannot be written: Is a directory ({tmp_path / 't.csv.new'})\n",
    )
    as_json = run("analyze", "digits", "--config", config, *files, "--json")
    assert json.loads(as_json.stdout)["model"] == "digits"
    assert as_json.exit_code == 1


@pytest.mark.parametrize("option", ["--html", "--to-label"])
def test_missing_folder_is_said_before_the_records_are_read(tmp_path: Path, option: str) -> None:
    out = tmp_path / "no" / "t.csv"
    ended = run("analyze", "digits", "--config", str(tmp_path / "no.yaml"), option, str(out))
    assert (ended.exit_code, ended.stdout) == (1, "")
    assert ended.stderr == f"{out} cannot be written: No such file or directory ({out.parent})\n"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "out cannot be written: No space left on device"),
        (OSError(errno.EACCES, "Permission denied", "out"), "out cannot be written: Permission denied"),
        (OSError(errno.EACCES, "Permission denied", "out/x"), "out cannot be written: Permission denied (out/x)"),
        (sqlite3.OperationalError("database or disk is full"), "out cannot be written: database or disk is full"),
        (OSError("no number"), "out cannot be written: no number"),
    ],
)
def test_error_names_the_output_and_the_file_in_it(error: Exception, said: str) -> None:
    with pytest.raises(CommandError) as told, told_of_disk(Path("out")):
        raise error
    assert told.value.message == said


def test_full_disk_of_the_temporary_folder_is_told() -> None:
    database = sqlite3.connect(":memory:")
    database.execute("PRAGMA max_page_count = 2")
    with pytest.raises(CommandError) as told, told_of_temporary_files():
        database.executescript("CREATE TABLE a (b); INSERT INTO a VALUES (zeroblob(100000))")
    database.close()
    folder = tempfile.gettempdir()
    assert told.value.message == (
        f"{folder} cannot be written: database or disk is full; set $TMPDIR to a folder with more room"
    )


def test_no_temporary_folder_is_told(config: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "gateway", "analyze", "digits", "--config", config],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0)),
    )
    assert ended.returncode == 1
    assert ended.stderr.startswith("No usable temporary directory found in [")
    assert ended.stderr.endswith("]; set $TMPDIR to a folder that can be written\n")
