"""`gateway promote` asks on the terminal, and promotes nothing unseen unless the key may not look."""

import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import orjson
import pytest

KNOWN = {"model": "m", "candidate": 2, "versions": [], "effects": []}
PROMOTED = {"difference": "", "decision": {"candidate": 2, "model": "m"}}
COLORLESS = {**os.environ, "NO_COLOR": "1"}


class Control(ThreadingHTTPServer):
    """A control plane that answers look-ups with `status`, and keeps the edits that are asked for."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.edits: list[Any] = []


class Handler(BaseHTTPRequestHandler):
    server: Control

    def do_GET(self) -> None:
        self._answer(self.server.status, KNOWN if self.server.status == 200 else {"error": "no look-ups"})

    def do_POST(self) -> None:
        self.server.edits.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(200, PROMOTED)

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def _answer(self, status: int, document: Any) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(orjson.dumps(document))


@pytest.fixture
def control(request: pytest.FixtureRequest) -> Iterator[Control]:
    with Control(request.param) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield serving
        serving.shutdown()
        thread.join()


def promote(control: Control, folder: Path, *, asked: bool) -> tuple[int, str]:
    """The exit code, and what stderr says. The answer on the terminal is no; `asked`: stderr is a terminal, too."""
    (folder / "gateway.yaml").write_text(f"control: {{host: 127.0.0.1, port: {control.server_port}}}\n")
    terminal, end = pty.openpty()
    os.write(terminal, b"n\n")
    promote = [sys.executable, "-m", "gateway", "promote", "m", "--config", str(folder / "gateway.yaml")]
    error = end if asked else subprocess.PIPE
    done = subprocess.run(promote, stdin=end, stdout=subprocess.PIPE, stderr=error, timeout=60, env=COLORLESS)
    os.close(end)
    said = os.read(terminal, 10_000) if asked else done.stderr
    os.close(terminal)
    return done.returncode, said.decode()


@pytest.mark.parametrize(
    ("control", "question"), [(200, "version 2 of m?"), (403, "the candidate of m?")], indirect=["control"]
)
def test_it_asks_where_the_question_is_seen(control: Control, question: str, tmp_path: Path) -> None:
    code, said = promote(control, tmp_path, asked=True)
    assert (code, control.edits) == (1, []) and f"Promote {question}" in said


@pytest.mark.parametrize("control", [200], indirect=True)
def test_it_does_not_ask_where_nobody_sees_the_question(control: Control, tmp_path: Path) -> None:
    code, said = promote(control, tmp_path, asked=False)
    assert (code, control.edits[0]["candidate"], said) == (0, 2, "")


@pytest.mark.parametrize("control", [404, 503], indirect=True)
def test_nothing_is_promoted_if_the_look_up_fails(control: Control, tmp_path: Path) -> None:
    assert promote(control, tmp_path, asked=False) == (1, "no look-ups\n")
    assert control.edits == []
