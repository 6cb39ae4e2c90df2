"""Every command of the README and of the documents it lists, in their order, as a newcomer would run them.

An indented block is shell commands; a fenced `json` or `text` block after one is what it prints. A fenced `python` or
`yaml` block whose first line is `# PATH` is a file that is written there; other `python` blocks are compiled only. The
commands run in a copy of `models/` and `config/` against one gateway on free ports: `Newcomer.rewritten` is all that is
changed in them, `NOT_RUN` and `SNIPPETS_NOT_RUN` all that is left out.
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

import httpx
import pytest

from gateway.cli.main import COMMANDS
from loadtests.free_port import free_port
from tests.processes.flawed import until

pytestmark = pytest.mark.slow

ROOT: Final = Path(__file__).parents[1]
# In the order in which they are run: OPERATING.md ends with API keys, without which all others would be refused.
PAGES: Final = (
    "README.md",
    "config/CLIENTS.md",
    "models/README.md",
    "loadtests/README.md",
    "config/LIFECYCLE.md",
    "config/OPERATING.md",
)
TEXTS: Final = {page: (ROOT / page).read_text() for page in PAGES}
README_BYTES: Final = 12_000
SERVE: Final = ".venv/bin/gateway serve"
WITHIN_S: Final = 60.0

NOT_RUN: Final = {
    "python3 -m venv .venv": "installs from the network; what it serves is served, and CI runs its tests",
    ".venv/bin/pip install": "installs from the network; the packages are those of this environment",
    ".venv/bin/pytest": "is what runs this",
    ".venv/bin/ruff": "CI runs it on the whole checkout",
    "prometheus ": "tests/monitoring runs it, with this file",
    "podman ": "tests/installation checks the file; an image takes minutes and the network",
    ".venv/bin/gateway propose": "tests/processes/test_propose.py runs it, with versions of its own",
    ".venv/bin/python config/pipelines/traffic.py": "tests/pipelines runs it",
    ".venv/bin/python models/automl.py": "tests/models/test_automl.py runs it; FLAML is not in the extra [test]",
    "kubectl ": "tests/installation validates the manifests; there is no cluster",
    ".venv/bin/python -m loadtests overhead": "takes minutes and all cores; CI runs it, shortened",
}
SNIPPETS_NOT_RUN: Final = {
    "from mlflow import MlflowClient": "a server of MLflow sends it, in tests/processes/test_registry.py",
    "import torch": "PyTorch is not in the extra [test]: it takes gigabytes",
    "from mlflow.deployments": "tests/cli/mlflow makes these calls, in an environment with MLflow",
    "import pandas as pd\nfrom cleanlab": "tests/offline/dataset/test_cleanlab.py runs it",
    "from lightgbm": "LightGBM and onnxmltools are not in the extra [test]: nothing else needs them",
}
MADE: Final = (
    "loadtests/results",
    "models/digits/3",
    "models/tickets/3",
    "models/wine/train.py",
    "models/wine/model.yaml",
)


class Command(NamedTuple):
    """`shown`: the output on the page and its kind; None where none is shown."""

    text: str
    shown: tuple[str, str] | None


class File(NamedTuple):
    """A fenced block to be saved at `path`."""

    path: str
    text: str


def steps(page: str) -> list[Command | File]:
    """The commands and files of a page, in order. A line with an open quote continues on the next."""
    found: list[Command | File] = []
    begun: list[str] = []
    for part in re.split(r"(?ms)^(```.*?^```)$", page):
        kind, _, text = part.removeprefix("```").removesuffix("```").partition("\n")
        if part.startswith("```"):
            if kind in ("json", "text"):
                assert isinstance(found[-1], Command), f"no command prints this: {text}"
                found[-1] = found[-1]._replace(shown=(kind, text))
            elif path := _path_of(text):
                found.append(File(path, text))
            continue
        for line in part.splitlines():
            if begun or line.startswith("    "):
                begun.append(line.removeprefix("    "))
            if begun and _closed("\n".join(begun)):
                found.append(Command("\n".join(begun), None))
                begun = []
    assert begun == [], "the page's last command is not closed"
    return found


def _path_of(block: str) -> str | None:
    """The path that a block's first line names."""
    named = re.match(r"# ([\w./-]+\.(?:py|yaml))\n", block)
    return named and named[1]


def _closed(text: str) -> bool:
    try:
        shlex.split(text)
    except ValueError:
        return False
    return True


ALL: Final = {page: steps(text) for page, text in TEXTS.items()}
COMMANDS_SHOWN: Final = [step for page in ALL.values() for step in page if isinstance(step, Command)]
SNIPPETS: Final = [
    block
    for text in TEXTS.values()
    for block in re.findall(r"(?ms)^```python\n(.*?)^```$", text)
    if _path_of(block) is None
]


class Newcomer:
    """A folder with the shipped files, a shell whose variables persist, and a gateway."""

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
        """Press Ctrl-C."""
        if self._serving is not None:
            self._serving.terminate()
            assert self._serving.wait(WITHIN_S) == 0, (self.folder / "log").read_text()
        self._serving = None

    def run(self, command: str) -> str:
        """Run a command, which must end with 0, and return its output. Its variables persist for the next one."""
        command = self._here(command)
        routing, revision = self._routing(), self._revision()
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
        if self._routing() != routing:
            until(lambda: self._revision() != revision, "the edit in force")
        return ended.stdout

    def write(self, file: File) -> None:
        path = self.folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self._here(file.text))

    def _here(self, text: str) -> str:
        return re.sub("|".join(map(re.escape, self.rewritten)), lambda found: self.rewritten[found[0]], text)

    def _routing(self) -> bytes:
        return (self.folder / "config" / "routing.yaml").read_bytes()

    def _revision(self) -> Any:
        """The revision of the routing file in force; None where a key is needed to read it."""
        return httpx.get(f"http://127.0.0.1:{self.ports[1]}/api/config").json().get("revision")


def _open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _not_run(command: str) -> bool:
    return any(command.startswith(prefix) for prefix in NOT_RUN)


def _same_shape(shown: Any, printed: Any) -> bool:
    """Whether `printed` has the keys and types of `shown`, and lists of the same length."""
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


def test_every_command_on_the_pages_runs_and_prints_what_is_shown(newcomer: Newcomer) -> None:
    newcomer.serve()  # the README's first command, but for the installation
    for step in (step for page in ALL.values() for step in page):
        if isinstance(step, File):
            newcomer.write(step)
        elif step.text == SERVE:
            newcomer.serve()
        elif not _not_run(step.text):
            printed = newcomer.run(step.text)
            if step.text.startswith("curl") and printed:
                assert "error" not in json.loads(printed), printed
            if step.shown is not None:
                assert_as_shown(step.shown, printed)
    routing = (newcomer.folder / "config" / "routing.yaml").read_text()
    assert re.search(r"digits:\n    stable: 2\n    mirror", routing), "the tour ends with version 2 for everyone"
    assert (newcomer.folder / "models" / "tickets" / "3" / "model.onnx").exists()
    assert (newcomer.folder / "report.html").exists()


def test_every_not_run_prefix_matches_a_shown_command() -> None:
    texts = [command.text for command in COMMANDS_SHOWN]
    assert [prefix for prefix in NOT_RUN if not any(text.startswith(prefix) for text in texts)] == []


@pytest.mark.parametrize("start", SNIPPETS_NOT_RUN)
def test_snippet_that_is_not_run_compiles(start: str) -> None:
    (snippet,) = [snippet for snippet in SNIPPETS if snippet.startswith(start)]
    compile(snippet, start, "exec")


def test_every_python_snippet_is_run_or_listed_as_not_run() -> None:
    assert [snippet for snippet in SNIPPETS if not snippet.startswith(tuple(SNIPPETS_NOT_RUN))] == []


def test_every_output_block_belongs_to_a_command() -> None:
    shown = sum(len(re.findall(r"(?m)^```(?:json|text)$", text)) for text in TEXTS.values())
    assert sum(command.shown is not None for command in COMMANDS_SHOWN) == shown


def test_readme_is_within_its_size_limit() -> None:
    assert len(TEXTS["README.md"].encode()) <= README_BYTES


@pytest.mark.parametrize("command", COMMANDS)
def test_pages_mention_every_command(command: str) -> None:
    assert f"gateway {command}" in "\n".join(TEXTS.values())


@pytest.mark.parametrize("page", PAGES[1:])
def test_the_readme_links_to_every_page(page: str) -> None:
    assert f"]({page})" in TEXTS["README.md"]


def links() -> list[tuple[str, str]]:
    """Each page with what it links to: headings, of its own or of another page, and files."""
    return [
        (page, target)
        for page, text in TEXTS.items()
        for target in re.findall(r"\]\(([^)]+)\)", text)
        if not target.startswith("http")
    ]


@pytest.mark.parametrize(("page", "target"), links())
def test_links_point_to_existing_files_and_headings(page: str, target: str) -> None:
    path, _, heading = target.partition("#")
    file = (ROOT / page).parent / path if path else ROOT / page
    assert file.exists()
    if heading:
        headings = re.findall(r"(?m)^#+ (.*)$", file.read_text())
        assert heading in {re.sub(r"[^\w -]", "", found).lower().replace(" ", "-") for found in headings}


def files() -> list[str]:
    """The paths that the pages name, except patterns and files that commands create."""
    named = set(re.findall(r"`((?:gateway|config|tests|models|loadtests)/[\w./-]*)`", "\n".join(TEXTS.values())))
    return sorted(path for path in named if "NAME" not in path and path not in MADE)


@pytest.mark.parametrize("path", files())
def test_files_named_on_the_pages_exist(path: str) -> None:
    assert (ROOT / path).exists()
