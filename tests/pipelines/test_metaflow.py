"""The Metaflow flow, run by Metaflow: from traffic to a version that is promoted, its card, what is refused."""

import base64
import json
import re
import subprocess
from pathlib import Path

import pytest

from loadtests.free_port import free_port
from tests.pipelines.circle import ROOT, Clone, Page
from tests.tools import tool

pytestmark = pytest.mark.slow


def contents(card: str) -> str:
    """What a card shows: a document in JSON, which its script renders."""
    (encoded,) = re.findall(r'"(eyJ[\w+/=]{100,})"', card)
    return json.dumps(json.loads(base64.b64decode(encoded)))


def test_metaflow_leads_from_traffic_to_a_promoted_version_and_resumes(tmp_path: Path) -> None:
    clone, page = Clone(tmp_path, "metaflow", tool("metaflow"), METAFLOW_USER="tester"), Page("metaflow/README.md")
    python = str(tool("metaflow") / "python")
    run = "python flow.py run --gateway http://127.0.0.1:8002"

    def flow(command: str, fails: bool = False) -> str:
        assert command.startswith("python flow.py")
        return clone.run(command.replace("python", python, 1), fails)

    with clone.gateway:
        traffic, _, command = page.command("--count 400").partition(" && ")
        assert run.startswith(command)
        assert "version 1 answered 400 requests" in clone.run(traffic)
        clone.run(f"gateway propose digits {ROOT / 'models' / 'digits' / '2'} --url http://127.0.0.1:8002")
        refused = flow(run, fails=True)
        assert "candidate 3 of 'digits' is under way" in refused
        assert "Step propose" in refused
        clone.run("gateway stop digits --url http://127.0.0.1:8002")
        resumed = flow("python flow.py resume")
        assert "version 4 of digits" in resumed
        assert re.findall(r"/(\w+)/\d+ \(pid \d+\)\] Task is starting", resumed) == ["propose", "end"]
        release = clone.release()
        assert (release["stable"], release["candidate"], release["routes"][0]["weight_percent"]) == (1, 4, 10)
        assert json.loads((clone.digits / "4" / "training.json").read_text())["train_rows"] == 700

        flow("python flow.py card get analyze card.html")
        shown = contents((clone.folder / "card.html").read_text())
        assert "digits: error analysis" in shown
        assert "400 from" in shown

        clone.run(page.command("gateway weight"))
        assert "version 4 answered" in clone.run(page.command("--images held-out"))
        assert "Is version 4 better than 1?" in clone.run(page.command("gateway analyze"))
        clone.run(page.command("gateway promote"))
        assert clone.release()["stable"] == 4


def test_metaflow_run_without_a_gateway_fails_with_the_reason(tmp_path: Path) -> None:
    clone = Clone(tmp_path, "metaflow", tool("metaflow"), METAFLOW_USER="tester")
    python = tool("metaflow") / "python"
    failed = clone.run(f"{python} flow.py run --gateway http://127.0.0.1:{free_port()}", fails=True)
    assert "no gateway answers" in failed
    assert "Step export" in failed


def test_metaflow_without_a_user_says_what_to_set() -> None:
    command = [str(tool("metaflow") / "python"), str(ROOT / "config" / "pipelines" / "metaflow" / "flow.py"), "show"]
    ended = subprocess.run(command, env={"USER": "root"}, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert "export METAFLOW_USER=" in ended.stderr
