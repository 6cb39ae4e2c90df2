"""From a running gateway's records to Label Studio's tasks, and from its exports back to feedback and a trace."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.offline.dataset.test_commands import command
from tests.processes.flawed import until
from tests.recording import MODELS, data, json_request
from tests.running import GatewayProcess
from tests.tools import tool

pytestmark = pytest.mark.slow

ANNOTATE = Path(__file__).with_name("annotate.py")
ROUTING = {"models": {"digits": {"stable": 1, "candidate": 2}}}
ROWS = 60


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that has answered requests, one of them of two rows."""
    with GatewayProcess(tmp_path_factory.mktemp("labelled"), MODELS, ROUTING) as started:
        with httpx.Client(base_url=started.url) as client:
            for rows in [*data("digits").test_x[:ROWS, None], data("digits").test_x[ROWS : ROWS + 2]]:
                client.post("/v2/models/digits/infer", content=json_request("digits", rows)).raise_for_status()
        until(lambda: written(started) == ROWS + 1, "the records")
        yield started


def written(gateway: GatewayProcess) -> int:
    found: int = httpx.get(f"{gateway.control_url}/api/config").json()["records"]["written"]["prediction"]
    return found


def analysed(gateway: GatewayProcess, folder: Path) -> list[Any]:
    command(gateway.config, "analyze", "digits", "--to-label", str(folder / "tasks.json"), "--limit", "100", "--json")
    tasks: list[Any] = json.loads((folder / "tasks.json").read_text())
    return tasks


def test_labels_come_back_from_label_studio(gateway: GatewayProcess, tmp_path: Path) -> None:
    python = tool("labelstudio") / "python"
    tasks = analysed(gateway, tmp_path)
    assert len(tasks) == ROWS + 2
    assert {task["data"]["why"] for task in tasks} == {"low confidence"}
    names = [f"{task['data']['prediction_id']} {task['data']['row']}" for task in tasks]
    labels: dict[str, Any] = {name: [task["data"]["predicted"]] for name, task in zip(names, tasks, strict=True)}
    labels[names[0]] = None  # skipped
    labels[names[1]] = ["3", "4"]  # two annotators do not agree
    del labels[names[2]]  # not labelled yet
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    files = [tmp_path / name for name in ("tasks.json", "tasks.config.xml", "labels.json", "out")]
    ended = subprocess.run([python, ANNOTATE, *files], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    for file in ("export.json", "result.json"):  # the same labels as JSON and as JSON-MIN: repetitions count once
        said = command(gateway.config, "feedback", str(tmp_path / "out" / file), "--json")
        report = json.loads(said.stdout)
        assert (report["accepted"], report["rejected"], report["ignored_columns"]) == (ROWS + 1, 0, [])
        assert report["left_out"].get("not labelled yet") == 1
    accuracy = httpx.get(f"{gateway.control_url}/api/releases/digits").json()["versions"][0]
    assert accuracy["labelled"] > 0

    unlabelled = {f"{one['data']['prediction_id']} {one['data']['row']}" for one in analysed(gateway, tmp_path)}
    assert unlabelled == {names[0], names[2]}
    twice = tasks[1]["data"]["prediction_id"]
    found = json.loads(command(gateway.config, "trace", twice, "--json").stdout)
    assert [one["truth"] for one in found["feedback"][:2]] == ["3", "4"]
    assert (found["label_conflict"], found["signature"]) == (True, "valid")
    assert [(one["role"], one["state"]) for one in found["versions"]] == [("answered", "intact")]


def test_status_says_where_versions_come_from(gateway: GatewayProcess) -> None:
    releases = httpx.get(f"{gateway.control_url}/api/releases").json()
    (release,) = [one for one in releases if one["model"] == "digits"]
    one = httpx.get(f"{gateway.control_url}/api/releases/digits").json()
    for versions in (release["versions"], one["versions"]):
        shown = [version["provenance"]["training"]["held_out_accuracy"] for version in versions]
        assert shown == [0.8833, 0.9741]
    text = command(gateway.config, "status", "digits").stdout
    assert "scikit-learn load_digits" in text and "97.41% of 540 held-out rows right" in " ".join(text.split())
