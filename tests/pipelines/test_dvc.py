"""The DVC pipeline, run by DVC: from traffic to a version that is promoted, what is run again, what is refused."""

import json
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pandas
import pytest
import yaml

from tests.pipelines.circle import Clone, Page
from tests.tools import tool

pytestmark = pytest.mark.slow

STAGES = ("export", "train", "check", "analyze", "propose")


def stages_run(said: str) -> list[str]:
    return [stage for stage in STAGES if f"Running stage '{stage}'" in said]


def now() -> str:
    return f'"{datetime.now(UTC).isoformat()}"'


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def contradict(clone: Clone) -> None:
    """Late feedback: for one prediction of the data set, another truth than it has."""
    one = pandas.read_parquet(clone.folder / "dataset" / "model=digits").iloc[0]
    truth = {"prediction_id": one["prediction_id"], "truth": (int(one["truth_class"]) + 1) % 10}
    assert httpx.post(f"{clone.gateway.url}/v2/feedback", json=[truth]).json()["accepted"] == 1


def test_dvc_leads_from_traffic_to_a_promoted_version_and_repeats_only_what_changed(tmp_path: Path) -> None:
    clone, page = Clone(tmp_path, "dvc", tool("dvc"), DVC_NO_ANALYTICS="1"), Page("dvc/README.md")
    clone.parameter("gateway", clone.gateway.control_url)
    down = clone.run("dvc repro", fails=True)
    assert "no gateway answers" in down
    assert "failed to reproduce 'export'" in down

    with clone.gateway:
        said = clone.run(page.command("--count 400"))
        assert stages_run(said) == list(STAGES)
        assert "version 1 answered 400 requests" in said
        release = clone.release()
        assert (release["stable"], release["candidate"], release["routes"][0]["weight_percent"]) == (1, 3, 10)
        assert "version 3 of digits" in said
        training = json.loads((clone.digits / "3" / "training.json").read_text())
        assert (training["dataset_rows"], training["train_rows"]) == (400, 700)
        assert "<html" in (clone.folder / "analysis.html").read_text()
        (metrics,) = yaml.safe_load((clone.folder / "dvc.yaml").read_text())["metrics"]
        assert json.loads((clone.folder / metrics).read_text()) == training

        page.untried.remove("dvc repro")
        assert "Data and pipelines are up to date" in clone.run("dvc repro")

        before = bytes_of(clone.folder / "dataset" / "model=digits")
        contradict(clone)
        clone.parameter("until", now())
        clone.parameter("at_least", "0.999")
        worse = clone.run("dvc repro", fails=True)
        assert bytes_of(clone.folder / "dataset" / "model=digits") == before
        assert "Stage 'train' didn't change, skipping" in worse
        assert "it is not to be proposed" in worse
        assert "failed to reproduce 'check'" in worse
        assert "export" in stages_run(worse)

        clone.parameter("at_least", "0.95")
        refused = clone.run(page.command("--skip 400"), fails=True)
        assert "candidate 3 of 'digits' is under way" in refused
        assert "failed to reproduce 'propose'" in refused

        clone.run(page.command("gateway weight"))
        assert "version 3 answered" in clone.run(page.command("--images held-out"))
        assert "Is version 3 better than 1?" in clone.run(page.command("gateway analyze"))
        clone.run(page.command("gateway promote"))
        assert stages_run(clone.run("dvc repro")) == ["propose"]
        assert [one for one in clone.decisions() if one[0] not in ("edit", "weight")] == [
            ("propose", 3),
            ("promote", 3),
            ("propose", 4),
        ]
        assert (clone.release()["stable"], clone.release()["candidate"]) == (3, 4)
        training = json.loads((clone.digits / "4" / "training.json").read_text())
        assert training["train_rows"] == 1256  # 1257 but for the one that late feedback contradicts
    changed = clone.run("git status --short --untracked-files=all .").split()[1::2]
    assert [path for path in changed if "digits" not in path] == ["params.yaml", "dvc.lock"]
    untried = [command.split()[:2] for command in page.untried]
    assert untried == [["git", "clone"], ["dvc", "metrics"], ["dvc", "plots"]]  # each takes seconds
