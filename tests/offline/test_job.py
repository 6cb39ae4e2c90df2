"""The process of a job: what it sends, and how little it holds while a client takes its time."""

import io
import itertools
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pytest

from gateway.records.job import RecordsJob, parse_head
from tests.processes.flawed import until
from tests.recording import MODELS, Recording, data, json_request

SENDER_KIB = 40_000  # making it takes 130,000 and more


@contextmanager
def job(folder: Path, **given: Any) -> Iterator[tuple["subprocess.Popen[bytes]", IO[bytes], IO[bytes]]]:
    """The process, and its pipes."""
    recording = Recording()
    for number in range(100):  # more than fits in the pipe
        recording.predict(json_request("digits", data("digits").test_x[number : number + 1]))
    recording.save(folder / "records")
    asked = RecordsJob(model="digits", state=str(folder), models=str(MODELS), scratch=str(folder / "scratch"), **given)
    command = [sys.executable, "-m", "gateway.offline.job"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as process:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(asked.line())
        try:
            yield process, process.stdin, process.stdout
        finally:
            process.kill()


def resident_kib(pid: int) -> int:
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])


def line(stream: IO[bytes]) -> bytes:
    return b"".join(itertools.takewhile(lambda byte: byte not in (b"", b"\n"), iter(lambda: stream.read(1), None)))


def test_what_waits_for_a_slow_client_is_small(tmp_path: Path) -> None:
    with job(tmp_path, kind="dataset", format="jsonl") as (process, _, answer):
        head = parse_head(line(answer))
        assert head.status == 200
        assert resident_kib(process.pid) < SENDER_KIB
        content = io.BytesIO()
        while chunk := answer.read(1 << 16):
            content.write(chunk)
        assert content.tell() == head.size
        content.seek(0)
        with tarfile.open(fileobj=content) as tar:
            assert tar.getnames() == ["_manifest.json", "model=digits/date=2026-11-18/part-00000.jsonl"]
        assert process.wait() == 0
    assert not (tmp_path / "scratch").exists()


def test_analysis_is_sent_as_it_is(tmp_path: Path) -> None:
    with job(tmp_path, kind="analysis", format="html") as (process, _, answer):
        head = parse_head(line(answer))
        content = b"".join(iter(lambda: answer.read(1 << 16), b""))
        assert (head.status, head.size) == (200, len(content))
        assert content.startswith(b"<!doctype html>")
        assert process.wait() == 0


def test_process_that_sends_ends_when_nobody_wants_it(tmp_path: Path) -> None:
    with job(tmp_path, kind="dataset", format="jsonl") as (process, given, answer):
        line(answer)
        given.close()
        until(lambda: process.poll() is not None, "the end of the process")


@pytest.mark.parametrize(("format", "status"), [("csv", 400), ("jsonl", 404)])
def test_failure_is_a_head(tmp_path: Path, format: str, status: int) -> None:
    with job(tmp_path, kind="dataset", format=format, since_ns=2**62) as (process, _, answer):
        assert parse_head(line(answer)).status == status
        assert answer.read(1) == b""
        assert process.wait() == 0
    assert not (tmp_path / "scratch").exists()
