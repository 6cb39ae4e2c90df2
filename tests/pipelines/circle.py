"""What the tests of all pipelines share: a clone with a gateway that serves version 1 of digits, and the pages."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.running import GatewayProcess

ROOT = Path(__file__).parents[2]
WITHIN_S = 180.0


class Clone:
    """A git repository in `folder` with the shipped models and config, its gateway, which is not started, and a shell
    in the folder of the pipeline `name`, on whose PATH are the programs of its `tool` and of the gateway.
    """

    def __init__(self, folder: Path, name: str, tool: Path, **variables: str) -> None:
        for part in ("models", "config", ".gitignore"):
            copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
            copy(ROOT / part, folder / part)
        for version in (folder / "models" / "digits").glob("[3-9]"):
            shutil.rmtree(version)
        pipelines = folder / "config" / "pipelines"
        routing = yaml.safe_load((pipelines / "routing.yaml").read_text())
        self.gateway = GatewayProcess(pipelines, folder / "models", routing)
        self.folder, self.digits = pipelines / name, folder / "models" / "digits"
        programs = [str(Path(sys.executable).parent), str(tool), os.environ["PATH"]]
        kept = {key: os.environ[key] for key in ("LANG", "TMPDIR") if key in os.environ}
        self._environment = (
            kept
            | {
                "PATH": os.pathsep.join(programs),
                "HOME": str(folder),
                "COLUMNS": "200",
            }
            | variables
        )
        self._addresses = {
            "http://127.0.0.1:8002": self.gateway.control_url,
            "traffic.py": f"traffic.py --url {self.gateway.url}",
        }
        self.run("git init -q . && git add -A && git -c user.name=n -c user.email=n@example.org commit -qm first")

    def run(self, command: str, fails: bool = False) -> str:
        """Run a command as on the page, with this gateway's addresses, and return what it prints."""
        for shown, here in self._addresses.items():
            command = command.replace(shown, here)
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        assert (ended.returncode != 0) == fails, f"{command}: {ended.returncode}\n{ended.stdout}"
        return ended.stdout

    def parameter(self, name: str, value: str) -> None:
        """Set one line of the pipeline's params.yaml."""
        file = self.folder / "params.yaml"
        text, found = re.subn(rf"(?m)^{name}: .*$", f"{name}: {value}", file.read_text())
        assert found == 1
        file.write_text(text)

    def release(self) -> Any:
        return httpx.get(f"{self.gateway.control_url}/api/releases/digits").raise_for_status().json()

    def decisions(self) -> list[tuple[str, int]]:
        """What was done, oldest first, with the candidate that it was done to."""
        answer = httpx.get(f"{self.gateway.control_url}/api/decisions", params={"model": "digits"})
        return [(one["action"], one["candidate"]) for one in answer.raise_for_status().json()][::-1]


class Page:
    """The commands of a page below config/pipelines. `untried`: those that nobody has asked for."""

    def __init__(self, path: str) -> None:
        text = (ROOT / "config" / "pipelines" / path).read_text()
        self.untried = [line.strip() for line in text.splitlines() if line.startswith("    ")]

    def command(self, part: str) -> str:
        """The first command not yet tried that contains `part`, without what leads to the folder."""
        found = next(command for command in self.untried if part in command)
        self.untried.remove(found)
        return re.sub(r"^\. \.venv/bin/activate && cd \S+ && ", "", found)
