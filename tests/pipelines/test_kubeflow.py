"""The Kubeflow pipeline, run by its SDK: from traffic to a version that is promoted, and what is refused."""

import json
from pathlib import Path

import httpx
import pytest
import yaml

from tests.pipelines.answering import answering
from tests.pipelines.circle import ROOT, Clone, Page
from tests.tools import tool

pytestmark = pytest.mark.slow

FOLDER = ROOT / "config" / "pipelines" / "kubeflow"


def run_pipeline(clone: Clone, *parameters: str, fails: bool = False) -> str:
    words = " ".join((f"gateway={clone.gateway.control_url}", *parameters))
    return clone.run(f"{tool('kfp')}/python run_local.py {words}", fails)


def test_kubeflow_leads_from_traffic_to_a_promoted_version(tmp_path: Path) -> None:
    clone, page = Clone(tmp_path, "kubeflow", tool("kfp")), Page("kubeflow/README.md")
    assert "'ways=1' is no PARAMETER=VALUE; the parameters are model, gateway," in run_pipeline(
        clone, "ways=1", fails=True
    )
    with clone.gateway:
        traffic, _, command = page.command("--count 400").partition(" && ")
        assert command == "python run_local.py"
        assert "version 1 answered 400 requests" in clone.run(traffic)
        said = run_pipeline(clone, "own_rows=300")
        assert '"dataset_rows": 400.0' in said
        assert "version 3 is the candidate" in said
        release = clone.release()
        assert (release["stable"], release["candidate"], release["routes"][0]["weight_percent"]) == (1, 3, 10)
        training = json.loads((clone.digits / "3" / "training.json").read_text())
        assert (training["dataset_rows"], training["train_rows"]) == (400, 700)
        proposal = httpx.get(f"{clone.gateway.control_url}/api/decisions", params={"model": "digits"}).json()[0]
        assert proposal["reason"].startswith("Kubeflow run ")
        assert "<html" in (tmp_path / "build" / "kubeflow" / "analysis.html").read_text()

        assert answering(clone.gateway.url) == {1, 3}
        clone.run(page.command("gateway promote"))
        assert answering(clone.gateway.url) == {3}


def test_shipped_yaml_is_what_the_pipeline_compiles_to(tmp_path: Path) -> None:
    clone, command = Clone(tmp_path, "kubeflow", tool("kfp")), Page("kubeflow/README.md").command("kfp dsl compile")
    clone.run(command)
    assert (clone.folder / "pipeline.yaml").read_text() == (FOLDER / "pipeline.yaml").read_text()


def test_steps_that_need_the_key_get_it_and_artifacts_are_typed() -> None:
    spec, platform = yaml.safe_load_all((FOLDER / "pipeline.yaml").read_text())
    executors = platform["platforms"]["kubernetes"]["deploymentSpec"]["executors"]
    assert sorted(executors) == ["exec-analyze", "exec-export", "exec-propose"]
    for executor in executors.values():
        (secret,) = executor["secretAsEnv"]
        assert secret["keyToEnv"] == [{"envVar": "GATEWAY_API_KEY", "secretKey": "key"}]
    made = {
        output: artifact["artifactType"]["schemaTitle"]
        for component in spec["components"].values()
        for output, artifact in component.get("outputDefinitions", {}).get("artifacts", {}).items()
    }
    assert made == {
        "dataset": "system.Dataset",
        "version": "system.Model",
        "metrics": "system.Metrics",
        "confusion": "system.ClassificationMetrics",
        "analysis": "system.HTML",
    }
