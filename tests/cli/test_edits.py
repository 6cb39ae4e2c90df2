"""`gateway promote` asks on the terminal, and promotes nothing unseen unless the key may not look; `gateway weight`
asks there before it ends a ramp.
"""

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
EDITED: dict[str, Any] = {"difference": "", "decision": {"candidate": 2, "model": "m"}}
ENDS_THE_RAMP = "this ends the ramp of m"
PROMOTE = ("promote", "m")
WEIGHT = ("weight", "m", "everyone", "25")
COLORLESS = {**os.environ, "NO_COLOR": "1"}


class Control(ThreadingHTTPServer):
    """A control plane that answers look-ups with `status`, and keeps the edits that are asked for."""

    def __init__(self, status: int) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.status = status
        self.edits: list[Any] = []
        self.more: dict[str, Any] = {}  # that an edit is answered with


class Handler(BaseHTTPRequestHandler):
    server: Control

    def do_GET(self) -> None:
        self._answer(self.server.status, KNOWN if self.server.status == 200 else {"error": "no look-ups"})

    def do_POST(self) -> None:
        self.server.edits.append(orjson.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(200, EDITED | self.server.more)

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


def run(control: Control, folder: Path, *words: str, asked: bool) -> tuple[int, str]:
    """The exit code, and what stderr says. The answer on the terminal is no; `asked`: stderr is a terminal, too."""
    (folder / "gateway.yaml").write_text(f"control: {{host: 127.0.0.1, port: {control.server_port}}}\n")
    terminal, end = pty.openpty()
    os.write(terminal, b"n\n")
    command = [sys.executable, "-m", "gateway", *words, "--config", str(folder / "gateway.yaml")]
    error = end if asked else subprocess.PIPE
    done = subprocess.run(command, stdin=end, stdout=subprocess.PIPE, stderr=error, timeout=60, env=COLORLESS)
    os.close(end)
    said = os.read(terminal, 10_000) if asked else done.stderr
    os.close(terminal)
    return done.returncode, said.decode()


@pytest.mark.parametrize(
    ("control", "question"), [(200, "version 2 of m?"), (403, "the candidate of m?")], indirect=["control"]
)
def test_it_asks_where_the_question_is_seen(control: Control, question: str, tmp_path: Path) -> None:
    code, said = run(control, tmp_path, *PROMOTE, asked=True)
    assert (code, control.edits) == (1, []) and f"Promote {question}" in said


@pytest.mark.parametrize("control", [200], indirect=True)
def test_it_does_not_ask_where_nobody_sees_the_question(control: Control, tmp_path: Path) -> None:
    code, said = run(control, tmp_path, *PROMOTE, asked=False)
    assert (code, control.edits[0]["candidate"], said) == (0, 2, "")


@pytest.mark.parametrize("control", [404, 503], indirect=True)
def test_nothing_is_promoted_if_the_look_up_fails(control: Control, tmp_path: Path) -> None:
    assert run(control, tmp_path, *PROMOTE, asked=False) == (1, "no look-ups\n")
    assert control.edits == []


@pytest.mark.parametrize("control", [200], indirect=True)
def test_weight_that_ends_a_ramp_is_set_once_that_was_agreed_to(control: Control, tmp_path: Path) -> None:
    control.more = {"notes": [ENDS_THE_RAMP]}
    code, said = run(control, tmp_path, *WEIGHT, asked=True)
    assert (code, [edit["dry_run"] for edit in control.edits]) == (1, [True])
    assert ENDS_THE_RAMP in said and "Set the weight of route everyone of m?" in said
    code, said = run(control, tmp_path, *WEIGHT, "--yes", asked=True)
    assert (code, [edit["dry_run"] for edit in control.edits]) == (0, [True, True, False])
    assert ENDS_THE_RAMP in said and "?" not in said


@pytest.mark.parametrize("control", [200], indirect=True)
def test_weight_that_ends_a_ramp_is_set_without_a_terminal_and_says_so(control: Control, tmp_path: Path) -> None:
    control.more = {"notes": [ENDS_THE_RAMP]}
    code, said = run(control, tmp_path, *WEIGHT, asked=False)
    assert (code, control.edits[-1]["dry_run"], said) == (0, False, f"{ENDS_THE_RAMP}\n")
    code, said = run(control, tmp_path, *WEIGHT, "--dry-run", asked=False)
    assert (code, control.edits[-1]["dry_run"], said) == (0, True, f"{ENDS_THE_RAMP}\n")


@pytest.mark.parametrize("control", [200], indirect=True)
@pytest.mark.parametrize("more", [{}, {"notes": []}], ids=["by the release before", "that ends nothing"])
def test_weight_is_set_unasked(control: Control, tmp_path: Path, more: dict[str, Any]) -> None:
    control.more = more
    ended = run(control, tmp_path, *WEIGHT, asked=True)
    assert (ended, control.edits[-1]["dry_run"]) == ((0, "n\r\n"), False), "the terminal shows what was typed"
