"""Every command of the README, in its order, as a newcomer would run it.

The README's indented blocks are commands of a shell; a fenced `json` or `text` block behind one is what it prints. The
commands run in a copy of `models/` and `config/` against a gateway on free ports; `REWRITTEN` is all that is changed in
them, and `NOT_RUN` all that is left out.
"""

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest

from gateway.cli import COMMANDS
from tests.running import free_port

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[1]
README: Final = (ROOT / "README.md").read_text()
SERVE: Final = ".venv/bin/gateway serve"
WITHIN_S: Final = 60.0

NOT_RUN: Final = {
    "python3 -m venv .venv": "installs from the network; what it serves is served, and CI runs its tests",
    ".venv/bin/pip install": "installs from the network; the packages are those of this environment",
    ".venv/bin/pytest": "is what runs this",
    ".venv/bin/ruff": "CI runs it on the whole checkout",
    "prometheus ": "tests/monitoring runs it, with this file",
    "podman ": "tests/installation checks the file; an image takes minutes and the network",
    "kubectl ": "tests/installation validates the manifests; there is no cluster",
}
MADE: Final = ("loadtests/results", "models/tickets/3")


class Command(NamedTuple):
    """`shown`: what the README says that it prints, and as what; None: nothing."""

    text: str
    shown: tuple[str, str] | None


def commands(readme: str) -> list[Command]:
    """The commands of all indented blocks. A line whose quotes are open goes on in the next."""
    found: list[Command] = []
    begun: list[str] = []
    for part in re.split(r"(?ms)^(```.*?^```)$", readme):
        kind, _, text = part.removeprefix("```").removesuffix("```").partition("\n")
        if part.startswith("```"):
            found[-1] = found[-1]._replace(shown=(kind, text))
            continue
        for line in part.splitlines():
            if begun or line.startswith("    "):
                begun.append(line.removeprefix("    "))
            if begun and _closed("\n".join(begun)):
                found.append(Command("\n".join(begun), None))
                begun = []
    assert begun == [], "the README's last command is not closed"
    return found


def _closed(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True


ALL: Final = commands(README)


class Newcomer:
    """A folder with the shipped files, a shell whose variables last, and a gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("models", "config"):
            shutil.copytree(ROOT / name, folder / name)
        self.ports = free_port(), free_port()
        self.rewritten = {
            ".venv/bin/gateway": f"{shlex.quote(sys.executable)} -m gateway",
            ".venv/bin/python": shlex.quote(sys.executable),
            "localhost:8000": f"localhost:{self.ports[0]}",
            "localhost:8002": f"localhost:{self.ports[1]}",
        }
        settings = folder / "config" / "gateway.yaml"
        text = settings.read_text()
        for port, free in zip(("8000", "8002"), self.ports, strict=True):
            assert f"port: {port}\n" in text
            text = text.replace(f"port: {port}\n", f"port: {free}\n")
        settings.write_text(text)
        self._variables = folder / "variables"
        self._variables.touch()
        self._serving: subprocess.Popen[bytes] | None = None

    def serve(self) -> None:
        """`gateway serve`, again where it serves already, until it answers predictions and questions."""
        self.leave()
        log = self.folder / "log"
        with log.open("wb") as file:
            command = [sys.executable, "-m", "gateway", "serve"]
            self._serving = subprocess.Popen(command, cwd=self.folder, stdout=file, stderr=file)
        deadline = time.monotonic() + WITHIN_S
        while not ("Console at" in log.read_text() and all(map(_open, self.ports))):
            assert self._serving.poll() is None and time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)

    def leave(self) -> None:
        """Ctrl-C."""
        if self._serving is not None:
            self._serving.terminate()
            assert self._serving.wait(WITHIN_S) == 0, (self.folder / "log").read_text()
        self._serving = None

    def run(self, command: str) -> str:
        """What the command prints; it must end with 0. Its variables are there for the next one."""
        command = re.sub("|".join(map(re.escape, self.rewritten)), lambda found: self.rewritten[found[0]], command)
        script = f". {self._variables}; set -a\n{command}\nexport -p > {self._variables}"
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.folder,
            env=os.environ | {"COLUMNS": "200", "PYTHONWARNINGS": "ignore"},
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
        )
        assert ended.returncode == 0, (command, ended.stdout, ended.stderr)
        return ended.stdout


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _left_out(command: str) -> bool:
    return any(command.startswith(prefix) for prefix in NOT_RUN)


def _same_shape(shown: Any, printed: Any) -> bool:
    """Whether `printed` has the keys and kinds of `shown`, and lists as long."""
    if type(shown) is not type(printed):
        return False
    if isinstance(shown, dict):
        return list(shown) == list(printed) and _all_alike(shown.values(), printed.values())
    return not isinstance(shown, list) or (len(shown) == len(printed) and _all_alike(shown, printed))


def _all_alike(shown: Any, printed: Any) -> bool:
    return all(_same_shape(one, other) for one, other in zip(shown, printed, strict=True))


def assert_as_shown(shown: tuple[str, str], printed: str) -> None:
    kind, text = shown
    if kind == "json":
        assert _same_shape(json.loads(text), json.loads(printed)), (text, printed)
    else:
        assert printed.splitlines()[: len(text.splitlines())] == text.splitlines()


@pytest.fixture
def newcomer(tmp_path: Path) -> Iterator[Newcomer]:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    newcomer = Newcomer(tmp_path)
    try:
        yield newcomer
    finally:
        newcomer.leave()


def test_every_command_does_what_the_page_says(newcomer: Newcomer) -> None:
    newcomer.serve()  # the first command of the page, but for the installation
    for command, shown in ALL:
        if command == SERVE:
            newcomer.serve()
        elif not _left_out(command):
            printed = newcomer.run(command)
            if command.startswith("curl"):
                assert "error" not in json.loads(printed), printed
            if shown is not None:
                assert_as_shown(shown, printed)
    routing = (newcomer.folder / "config" / "routing.yaml").read_text()
    assert re.search(r"digits:\n    stable: 2\n    mirror", routing), "the tour ends with version 2 for everyone"
    assert (newcomer.folder / "models" / "tickets" / "3" / "model.onnx").exists()
    assert (newcomer.folder / "report.html").exists()


def test_each_reason_to_leave_a_command_out_is_needed() -> None:
    texts = [command.text for command in ALL]
    assert [prefix for prefix in NOT_RUN if not any(text.startswith(prefix) for text in texts)] == []


def test_the_outputs_shown_are_found() -> None:
    assert sum(command.shown is not None for command in ALL) == len(re.findall(r"(?m)^```(?:json|text)$", README))


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_names_every_command(command: str) -> None:
    assert f"gateway {command}" in README


def links() -> list[str]:
    """What the page links to: headings of its own, and files."""
    return [target for target in re.findall(r"\]\(([^)]+)\)", README) if not target.startswith("http")]


@pytest.mark.parametrize("target", links())
def test_a_link_leads_somewhere(target: str) -> None:
    if not target.startswith("#"):
        assert (ROOT / target).exists()
        return
    headings = re.findall(r"(?m)^#+ (.*)$", README)
    assert target[1:] in {heading.lower().replace(" ", "-") for heading in headings}


def files() -> list[str]:
    """The paths that the page names, but for patterns and what commands make."""
    named = set(re.findall(r"`((?:gateway|config|tests|models|loadtests)/[\w./-]*)`", README))
    return sorted(path for path in named if "NAME" not in path and path not in MADE)


@pytest.mark.parametrize("path", files())
def test_a_file_that_the_page_names_is_there(path: str) -> None:
    assert (ROOT / path).exists()
