"""A gateway on a folder as KServe's storage initializer leaves it, asked by KServe's own client."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from sklearn.datasets import load_digits

from loadtests.free_port import free_port
from tests.installation.test_kserve import FOLDER, container
from tests.processes.flawed import PATIENCE_S
from tests.running import GatewayProcess
from tests.tools import tool

pytestmark = pytest.mark.slow

MODELS = Path(__file__).parents[2] / "models"
CLIENT = Path(__file__).with_name("kserve_client.py")


class Pod(GatewayProcess):
    """The runtime's container: its arguments and its gateway.yaml, with folders in place of the volumes."""

    def __init__(self, folder: Path, name: str) -> None:
        shipped = (FOLDER / "gateway.yaml").read_text()
        for path, here in {"/var/lib/canary-gateway": "state", "/mnt/models": "mnt"}.items():
            shipped = shipped.replace(path, str(folder / here))
        settings: dict[str, Any] = yaml.safe_load(shipped)
        for plane in ("server", "control"):  # the ports are free ones
            del settings[plane]["port"]
        settings["server"] |= {"host": "127.0.0.1", "workers": 1}
        self.metrics_port = settings["control"]["metrics_port"] = free_port()
        paths = {key: settings.pop(key) for key in ("models", "routing", "state")}
        super().__init__(folder, folder / "unused", **settings)
        (folder / "routing.yaml").unlink()
        self.config.write_text(yaml.safe_dump(yaml.safe_load(self.config.read_text()) | paths))
        command, option, _, *arguments = container()["args"]
        assert (command, option) == ("serve", "--config")
        self.arguments = tuple(argument.replace("{{.Name}}", name) for argument in arguments)


def provision(folder: Path, *sources: Path) -> None:
    """What the storage initializer does before each start of a pod: the folder anew, with copies of these."""
    mount = folder / "mnt"
    if mount.exists():
        mount.chmod(0o755)
        shutil.rmtree(mount)
    mount.mkdir(parents=True)
    for source in sources:
        shutil.copy(source, mount)
    mount.chmod(0o555)


def snapshot(folder: Path) -> list[tuple[str, int]]:
    return sorted((str(path), path.lstat().st_mtime_ns) for path in (folder / "mnt").rglob("*"))


def cli(pod: Pod, *arguments: str) -> str:
    command = [sys.executable, "-m", "gateway", *arguments, "--config", str(pod.config)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def answering_version(pod: Pod, name: str) -> str:
    row = load_digits().data[0].tolist()
    body = {"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": row}]}
    answer = httpx.post(f"{pod.url}/v2/models/{name}/infer", json=body).raise_for_status()
    return answer.headers["x-model-version"]


def test_kserve_s_client_is_served_a_bare_model(tmp_path: Path) -> None:
    python = tool("kserve") / "python"
    provision(tmp_path, MODELS / "digits/1/model.onnx", MODELS / "digits/model.yaml")
    rows, truths = load_digits().data[:2].tolist(), load_digits().target[:2].tolist()
    with Pod(tmp_path, "my-digits") as pod:
        command = [str(python), str(CLIENT), pod.url, "my-digits", json.dumps(rows)]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert ran.returncode == 0, ran.stderr
        said = json.loads(ran.stdout)
        metadata = httpx.get(f"{pod.url}/v2/models/my-digits").json()
        scraper = httpx.Client(base_url=f"http://127.0.0.1:{pod.metrics_port}", headers={"host": "10.0.0.7:8082"})
        with scraper:
            scraped = scraper.get("/metrics", timeout=PATIENCE_S)  # the first starts the process that renders it
            others = [
                ("GET", "/api/releases"),
                ("GET", "/"),
                ("POST", "/api/releases/my-digits/stop"),
                ("POST", "/metrics"),
            ]
            refused = [scraper.request(how, path) for how, path in others]
    assert 'gateway_predictions_total{model="my-digits"' in scraped.text
    assert [answer.status_code for answer in refused] == [404] * 4, "the port has metrics alone"
    assert {said[question] for question in ("live", "ready", "model_ready")} == {True}
    assert said["other_ready"] is False
    for kind in ("json", "binary"):
        assert said[kind]["id"] == kind
        assert said[kind]["model"] == "my-digits"
        assert said[kind]["binary"] is (kind == "binary")
        assert said[kind]["label"] == truths
        assert said[kind]["probabilities"] == [2, 10]
        assert said[kind]["prediction_id"]
    errors = said["errors"]
    assert "404" in errors["model"] and "model 'other' is not served" in errors["model"]
    assert "400" in errors["shape"] and "input 'image': shape is [1, 3]" in errors["shape"]
    assert "404" in errors["v1"] and "404" in errors["explain"]
    assert "/v1/models/my-digits" in errors["explain"]
    assert metadata["versions"] == ["1"]
    assert [one["name"] for one in metadata["inputs"]] == ["image"]


def evidence_began_ns(folder: Path) -> int:
    """When the evidence of the release began that the last gateway has saved."""
    saved = json.loads((folder / "state/ramps.json").read_bytes())
    return saved["digits"]["place"]["epoch_began_ns"]


def test_versions_are_proposed_promoted_and_kept_beside_the_mounted_model(tmp_path: Path) -> None:
    provision(tmp_path, MODELS / "digits/1/model.onnx")
    before = snapshot(tmp_path)
    with Pod(tmp_path, "digits") as pod:
        assert answering_version(pod, "digits") == "1"
        cli(pod, "propose", "digits", str(MODELS / "digits/2"), "--weight", "100")
        assert answering_version(pod, "digits") == "2"
    assert snapshot(tmp_path) == before
    began_ns = evidence_began_ns(tmp_path)
    provision(tmp_path, MODELS / "digits/2/model.onnx")
    with Pod(tmp_path, "digits") as pod:
        (told,) = [one for one in httpx.get(f"{pod.control_url}/api/decisions").json() if one["action"] == "mounted"]
        assert (told["model"], told["candidate"]) == ("digits", 1)
        assert answering_version(pod, "digits") == "2", "the candidate is what it was"
    assert evidence_began_ns(tmp_path) > began_ns, "it was against another stable version"
    with Pod(tmp_path, "digits") as pod:
        assert "others than before" not in pod.log
        cli(pod, "promote", "digits")
        assert answering_version(pod, "digits") == "2"


def test_versions_and_models_that_have_gone_from_the_mounted_folder(tmp_path: Path) -> None:
    for version in ("digits/1", "digits/5", "other/1"):
        shutil.copytree(MODELS / "digits/1", tmp_path / "mnt" / version)
    with Pod(tmp_path, "unused") as pod:
        assert [answering_version(pod, name) for name in ("digits", "other")] == ["5", "1"]
    for gone in ("digits/5", "other"):
        shutil.rmtree(tmp_path / "mnt" / gone)
    with Pod(tmp_path, "unused") as pod:
        assert answering_version(pod, "digits") == "1"
        assert "'other' is not mounted any more; its entry is removed" in pod.log
        cli(pod, "propose", "digits", str(MODELS / "digits/2"), "--weight", "100")
        assert answering_version(pod, "digits") == "6", "5 was another model's number"
