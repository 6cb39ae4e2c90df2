"""The Polyaxon component, rendered by Polyaxon: from traffic to a version that is promoted, and its schedule."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.pipelines.answering import answering
from tests.pipelines.circle import Clone, Page
from tests.tools import tool

pytestmark = pytest.mark.slow


def run_job(clone: Clone, *parameters: str) -> str:
    words = " ".join(f"-P {one}" for one in (f"gateway={clone.gateway.control_url}", *parameters))
    return clone.run(f"{tool('polyaxon')}/python run_local.py {words}")


def ended(run: Path) -> dict[str, Any]:
    """The last condition of a run, as Polyaxon keeps it."""
    return json.loads((run / "run.plx.json").read_text())["status_conditions"][-1]


def test_polyaxon_leads_from_traffic_to_a_promoted_version(tmp_path: Path) -> None:
    clone, page = Clone(tmp_path, "polyaxon", tool("polyaxon")), Page("polyaxon/README.md")
    runs = tmp_path / "build" / "polyaxon" / "runs"
    with clone.gateway:
        traffic, _, command = page.command("--count 400").partition(" && ")
        assert command == "python run_local.py"
        assert "version 1 answered 400 requests" in clone.run(traffic)
        said = run_job(clone, "weight=20")
        assert "version 3 of digits" in said
        release = clone.release()
        assert (release["stable"], release["candidate"], release["routes"][0]["weight_percent"]) == (1, 3, 20)
        training = json.loads((clone.digits / "3" / "training.json").read_text())
        assert (training["dataset_rows"], training["train_rows"]) == (400, 700)
        (run,) = runs.iterdir()
        proposal = httpx.get(f"{clone.gateway.control_url}/api/decisions", params={"model": "digits"}).json()[0]
        assert proposal["reason"] == f"Polyaxon run {run.name}"
        assert ended(run)["type"] == "succeeded"
        accuracy = (run / "events" / "metric" / "held_out_accuracy.plx").read_text()
        assert str(training["held_out_accuracy"]) in accuracy
        assert (run / "events" / "confusion" / "held_out.plx").exists()
        assert "<html" in (run / "events" / "html" / "analysis.plx").read_text()

        assert answering(clone.gateway.url) == {1, 3}
        clone.run(page.command("gateway promote"))
        assert answering(clone.gateway.url) == {3}


def test_polyaxon_accepts_the_schedule_and_its_component(tmp_path: Path) -> None:
    clone, page = Clone(tmp_path, "polyaxon", tool("polyaxon")), Page("polyaxon/README.md")
    assert "Polyaxonfile valid" in clone.run(page.command("polyaxon check -f schedule.yaml"))
