"""A data set from the network is placed whole or not at all, whatever the server sends; a trace is one or an error."""

import hashlib
import io
import json
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import gateway.cli.records_client as records_client
from gateway.cli.control_client import ControlAddress
from gateway.cli.records_client import fetch_dataset, fetch_trace
from gateway.cli.refusal import AccessDenied, CommandError
from gateway.cli.trace_text import trace_tree
from gateway.errors import GatewayError

PART = "model=m/date=2026-11-18/part-00000.parquet"
ROWS = b"rows of the new export"
SUMMARY = {
    "rows": 1,
    "predictions": 1,
    "rows_with_feedback": 0,
    "skipped_records": 0,
    "skipped_feedback": 0,
    "content_sha256": "0" * 64,
    "last": "2026-11-18T12:00:00.000000+00:00",
}
OLD = {"_manifest.json": b'{"kind": "canary-gateway export", "model": "m", "files": []}'}


class Server(ThreadingHTTPServer):
    """Answers with `body`, cut off after `sent` bytes, and before that `busy` times with 503."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.body = b""
        self.sent: int | None = None
        self.busy = 0
        self.status = 200
        self.coding = ""
        self.paths: list[str] = []
        self.keys: list[str | None] = []

    @property
    def address(self) -> ControlAddress:
        return ControlAddress(Path("absent.yaml"), f"http://127.0.0.1:{self.server_port}")


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        server.paths.append(self.path)
        server.keys.append(self.headers.get("authorization"))
        body, status = server.body, server.status
        if server.busy:
            server.busy -= 1
            body, status = b'{"error": "busy"}', 503
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        if status == 503:
            self.send_header("retry-after", "0")
        if server.coding:
            self.send_header("content-encoding", server.coding)
        self.end_headers()
        self.wfile.write(body if status == 503 else body[: server.sent])

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as serving:
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,))
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of an earlier export."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name, content in OLD.items():
        (folder / name).write_bytes(content)
    return folder


def archive(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return made.getvalue()


def manifest(model: str = "m", rows: bytes = ROWS, path: str = PART, **more: Any) -> bytes:
    files = [{"path": path, "sha256": hashlib.sha256(rows).hexdigest()}]
    return json.dumps({"kind": "canary-gateway export", "model": model, "files": files, **SUMMARY, **more}).encode()


GOOD = {"_manifest.json": manifest(), PART: ROWS}


def files_in(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_export_replaces_the_earlier_one(server: Server, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", "cgk_example")
    server.body = archive(GOOD)
    fetch_dataset(server.address, "m", {"since": "2026-11-18T08:30:00+01:00", "until": None}, out)
    assert files_in(out) == GOOD
    assert server.paths == ["/api/datasets/m?since=2026-11-18T08%3A30%3A00%2B01%3A00"]
    assert server.keys == ["Bearer cgk_example"]


def test_busy_gateway_is_asked_again(server: Server, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_client, "MIN_RETRY_S", 0.0)
    server.body, server.busy = archive(GOOD), 2
    fetch_dataset(server.address, "m", {}, out)
    assert (files_in(out), len(server.paths)) == (GOOD, 3)


def test_gateway_that_stays_busy_is_given_up(server: Server, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_client, "BUSY_WITHIN_S", 0.0)
    server.busy = 2
    with pytest.raises(CommandError, match="busy"):
        fetch_dataset(server.address, "m", {}, out)
    assert files_in(out) == OLD


def test_gateway_that_says_at_once_is_not_asked_without_a_pause(
    server: Server, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records_client, "BUSY_WITHIN_S", 0.5)
    server.busy = 1
    with pytest.raises(CommandError, match="busy"):
        fetch_dataset(server.address, "m", {}, out)
    assert len(server.paths) == 1


@pytest.mark.parametrize("status", [200, 503])
def test_answer_in_a_coding_that_it_is_not_in_is_said(server: Server, out: Path, status: int) -> None:
    server.status, server.body, server.coding = status, b"no gzip", "gzip"
    with pytest.raises(CommandError, match=r"the connection broke|is not a gateway"):
        fetch_dataset(server.address, "m", {}, out)
    assert files_in(out) == OLD


@pytest.mark.parametrize("name", ["../m", "a/b", "ü", "a" * 300])
def test_name_that_no_model_has_is_refused(server: Server, out: Path, name: str) -> None:
    with pytest.raises(CommandError, match="is no model's name"):
        fetch_dataset(server.address, name, {}, out)
    assert server.paths == []


@pytest.mark.parametrize("sent", [0, 100, 512, 3000])
def test_broken_connection_leaves_what_was_there(server: Server, out: Path, sent: int) -> None:
    server.body, server.sent = archive(GOOD), sent
    with pytest.raises(CommandError, match=rf"the connection broke after {sent:,} of [0-9,]+ bytes"):
        fetch_dataset(server.address, "m", {}, out)
    assert files_in(out) == OLD


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"<html>a proxy's page</html>" * 30, "is no data set"),
        (archive({"_manifest.json": manifest()}), "no complete data set"),
        (archive({PART: ROWS}), "no complete data set"),
        (archive(GOOD)[:2048], "no complete data set"),
        (archive({**GOOD, PART: b"other rows"}), "has come damaged"),
        (archive({"_manifest.json": manifest("other"), PART: ROWS}), "no complete data set"),
        (archive({"_manifest.json": b"no JSON", PART: ROWS}), "no complete data set"),
        (archive({"_manifest.json": manifest(files=None), PART: ROWS}), "no complete data set"),
        (archive({"_manifest.json": manifest(files=[1]), PART: ROWS}), "no complete data set"),
        (
            archive({"_manifest.json": manifest(files=[{"path": ["a"], "sha256": 1}]), PART: ROWS}),
            "no complete data set",
        ),
        (archive({"_manifest.json": manifest(predictions=None), PART: ROWS}), "is none of this release"),
        (archive({"_manifest.json": manifest(content_sha256="\x1b[31m"), PART: ROWS}), "is none of this release"),
        (archive({"_manifest.json": manifest(last="\x1b[31m"), PART: ROWS}), "is none of this release"),
        (archive({**GOOD, "../outside": b"x"}), "it holds '../outside'"),
        (archive({**GOOD, "/tmp/outside": b"x"}), "it holds '/tmp/outside'"),
        (archive({**GOOD, "model=m/date=2026-11-18/../../../x.parquet": b"x"}), "it holds 'model=m/"),
        (archive({**GOOD, "model=other/date=2026-11-18/part-00000.parquet": b"x"}), "it holds 'model=other/"),
        (archive({**GOOD, "feedback.sqlite": b"x"}), "it holds 'feedback.sqlite'"),
    ],
)
def test_answer_that_is_no_data_set_leaves_what_was_there(server: Server, out: Path, body: bytes, says: str) -> None:
    server.body = body
    with pytest.raises(CommandError, match=says):
        fetch_dataset(server.address, "m", {}, out)
    assert files_in(out) == OLD
    assert not (out.parent / "x.parquet").exists() and not (out.parent / "outside").exists()


def test_file_that_comes_twice_is_refused(server: Server, out: Path) -> None:
    twice = io.BytesIO()
    with tarfile.open(fileobj=twice, mode="w") as tar:
        for name, content in [*GOOD.items(), (PART, ROWS)]:
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    server.body = twice.getvalue()
    with pytest.raises(CommandError, match=f"it holds {PART} twice"):
        fetch_dataset(server.address, "m", {}, out)
    assert files_in(out) == OLD


def test_folder_with_other_files_is_refused_before_anything_is_asked(server: Server, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(GatewayError, match="contains something other than an export"):
        fetch_dataset(server.address, "m", {}, tmp_path)
    assert server.paths == []


@pytest.mark.parametrize("name", ["file/out", "a" * 300])
def test_folder_that_cannot_be_made_is_said_before_anything_is_asked(server: Server, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        CommandError, match=r"out cannot be written: Not a directory|a{300} cannot be written: File name too long"
    ):
        fetch_dataset(server.address, "m", {}, tmp_path / name)
    assert server.paths == []


def test_new_folder_is_removed_again(server: Server, tmp_path: Path) -> None:
    server.body = b"x" * 600
    with pytest.raises(CommandError):
        fetch_dataset(server.address, "m", {}, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("status", "body", "error", "says"),
    [
        (404, b'{"error": "no recorded prediction"}', CommandError, "no recorded prediction"),
        (401, b'{"error": "no key"}', AccessDenied, r"no key \(the commands read the key from \$GATEWAY_API_KEY\)"),
        (403, b'{"error": "not yours"}', AccessDenied, "not yours"),
        (502, b"<html>", CommandError, "is not a gateway"),
        (500, b'["error"]', CommandError, "is not a gateway"),
    ],
)
def test_refusal_is_the_gateways(
    server: Server, out: Path, status: int, body: bytes, error: type[CommandError], says: str
) -> None:
    server.status, server.body = status, body
    with pytest.raises(error, match=says):
        fetch_dataset(server.address, "m", {}, out)


@pytest.mark.parametrize(
    "url",
    ["gateway:8002", "ftp://gateway", "https://", "http://user:secret@gateway", "http://gateway?x=1", "http://[::"],
)
def test_url_of_no_control_plane_is_refused(url: str, out: Path) -> None:
    with pytest.raises(CommandError, match=r"--url: .* is not the address of a control plane"):
        fetch_dataset(ControlAddress(Path("absent.yaml"), url), "m", {}, out)


TRACE = {
    "prediction_id": "A",
    "signature": "\x1b]0;title",
    "model": "\x1b[31m",
    "version": 1,
    "variant": "stable",
    "route": "r",
    "weight_percent": 5.0,
    "time": "t",
    "record": None,
    "missing": "gone",
    "feedback": [],
    "feedback_count": 0,
    "label_conflict": False,
    "mirror": None,
    "versions": [
        {
            "role": "of a later release",
            "version": 1,
            "model_sha256": None,
            "state": "of a later release",
            "folder": "\x1b[31m",
            "detail": None,
            "provenance": {"training": None, "origin": None, "problems": ["\x1b[31m"]},
            "dataset": None,
            "dataset_problem": None,
        }
    ],
}


@pytest.mark.parametrize("status", [200, 404])
def test_trace_is_shown_without_control_characters(server: Server, status: int) -> None:
    server.status, server.body = status, json.dumps({**TRACE, "error": "gone", "added later": 1}).encode()
    console = Console(file=io.StringIO(), width=200)
    console.print(trace_tree(fetch_trace(server.address, "A-b_9")))
    shown = console.file.getvalue()
    assert "\x1b" not in shown and shown.count("\\x1b[31m") == 3
    assert server.paths == ["/api/traces/A-b_9"]


@pytest.mark.parametrize(
    ("status", "document", "says"),
    [
        (404, {"error": "GET /api/traces/A is not served here"}, "is not served here"),
        (200, {**TRACE, "versions": [{}]}, "is no trace"),
        (200, {"error": 3}, "is no trace"),
        (200, [], "is no trace"),
        (400, {"error": "is truncated"}, "is truncated"),
    ],
)
def test_answer_that_is_no_trace_is_said(server: Server, status: int, document: Any, says: str) -> None:
    server.status, server.body = status, json.dumps(document).encode()
    with pytest.raises(CommandError, match=says):
        fetch_trace(server.address, "A")


def test_page_that_is_no_trace_is_said(server: Server) -> None:
    server.body = b"<html>"
    with pytest.raises(CommandError, match="is not a gateway"):
        fetch_trace(server.address, "A")
