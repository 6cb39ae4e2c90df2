"""`mlflow deployments` and its Python API, unmodified, with the plugin as it is installed, on a running gateway."""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml
from onnxruntime import InferenceSession

from gateway.cli.refusal import CommandError
from gateway.cli.registered_version import Registry, fetch_registered
from loadtests.free_port import free_port
from tests.processes.flawed import until
from tests.processes.test_commands import command
from tests.running import GatewayProcess
from tests.tools import tool

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SERVING_WITHIN_S = 120.0  # MLflow's server imports for ten seconds on an idle machine
FOUND = "FOUND "
TRAINED = ROOT / "models" / "digits" / "2" / "model.onnx"


class Mlflow:
    """An environment with MLflow in which this tree is installed, as a user has it, and a server of MLflow."""

    def __init__(self, folder: Path) -> None:
        self._bin = tool("mlflow-plugin")
        self.folder = folder
        self.url = f"http://127.0.0.1:{free_port()}"
        self._environment = os.environ | {
            "PYTHONPATH": str(folder / "site"),
            "MLFLOW_TRACKING_URI": self.url,
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "TMPDIR": str(folder / "temporary"),
        }
        (folder / "temporary").mkdir()

    def start(self, program: str, *words: str) -> "subprocess.Popen[str]":
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                [self._bin / program, *words],
                cwd=self.folder,
                env=self._environment,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def run(self, program: str, *words: str) -> str:
        process = self.start(program, *words)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 0, self.log + said
        return said

    def install(self) -> None:
        """Build this tree, and install it with its entry points."""
        words = ("--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(self.folder / "site"))
        self.run("python", "-m", "pip", "install", *words, str(ROOT))

    @contextmanager
    def serving(self) -> Iterator[None]:
        """The server runs; it may not answer yet."""
        store = ("--backend-store-uri", f"sqlite:///{self.folder}/db", "--artifacts-destination", "artifacts")
        address = ("--host", "127.0.0.1", "--port", self.url.rpartition(":")[2], "--workers", "1")
        with self.start("mlflow", "server", *address, *store) as server:
            try:
                yield
            finally:
                os.killpg(server.pid, signal.SIGTERM)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/health").status_code == 200
        except httpx.TransportError:
            return False

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    def left(self) -> list[str]:
        """What is left in the folder of temporary files by the plugin."""
        return [path.name for path in (self.folder / "temporary").iterdir() if path.name.startswith("gateway-")]


@pytest.fixture(scope="module")
def mlflow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mlflow]:
    made = Mlflow(tmp_path_factory.mktemp("mlflow"))
    with made.serving():
        made.install()
        deadline = time.monotonic() + SERVING_WITHIN_S
        while not made.ready():
            assert time.monotonic() < deadline, made.log
            time.sleep(0.05)
        yield made


def serving_digits(folder: Path, **server: Any) -> GatewayProcess:
    shutil.copytree(ROOT / "models" / "digits" / "1", folder / "models" / "digits" / "1")
    shutil.copy(ROOT / "models" / "digits" / "model.yaml", folder / "models" / "digits")
    return GatewayProcess(folder, folder / "models", {"models": {"digits": {"stable": 1}}}, server=server)


@pytest.fixture(scope="module")
def running(mlflow: Mlflow, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A gateway that sends its spans to MLflow."""
    tracing = {"endpoint": mlflow.url, "sample": "100%"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-mlflow-experiment-id=0")
        with serving_digits(tmp_path_factory.mktemp("deployed"), tracing=tracing) as gateway:
            yield gateway


@dataclass
class Using:
    """`use_api.py`, which goes on as a local gateway on `port`, and what it has found."""

    process: "subprocess.Popen[str]"
    port: int
    found: Any


@pytest.fixture(scope="module")
def using(mlflow: Mlflow, running: GatewayProcess) -> Iterator[Using]:
    port, script = free_port(), Path(__file__).with_name("use_api.py")
    words = (running.control_url, running.url, str(TRAINED), str(port), str(free_port()))
    with mlflow.start("python", str(script), *words) as process:
        try:
            assert process.stdout is not None
            line = next((line for line in process.stdout if line.startswith(FOUND)), "")  # MLflow prints, too
            assert line, mlflow.log
            yield Using(process, port, json.loads(line.removeprefix(FOUND)))
        finally:
            process.terminate()


@pytest.fixture(scope="module")
def found(using: Using) -> Any:
    return using.found


def version(running: GatewayProcess, number: int) -> Path:
    return running.config.parent / "models" / "digits" / str(number)


def test_create_proposes_the_registered_model_with_its_weights(
    found: Any, running: GatewayProcess, mlflow: Mlflow
) -> None:
    created = found["created"]
    assert (created["name"], created["flavor"], created["version"]) == ("digits", "onnx", 2)
    there = sorted(path.name for path in version(running, 2).iterdir())
    assert (len(there), there[0].endswith(".data"), there[1:]) == (3, True, ["model.onnx", "origin.json"])
    origin = json.loads((version(running, 2) / "origin.json").read_text())
    assert (origin["registry"], origin["model"], origin["version"]) == ("mlflow", "digits", "1")
    assert (origin["run_id"], origin["source"]) == (found["run_id"], found["source"])
    assert origin["url"] == mlflow.url
    history = httpx.get(f"{running.control_url}/api/decisions").text
    assert '"reason":"a test"' in history
    assert "local via mlflow" in history


def test_list_and_get_say_what_the_gateway_says(found: Any) -> None:
    (listed,) = found["list"]
    assert listed == {"name": "digits", "flavor": "onnx", "stable": 1, "candidate": 2, "stopped": False}
    assert found["get"][0]["weight_percent"] == 50


def test_predictions_are_those_of_the_version_that_answered(found: Any) -> None:
    rows = np.arange(3 * 64, dtype=np.float32).reshape(3, 64) % 17
    assert len(found["predictions"]) == 4
    for answer in found["predictions"]:
        session = InferenceSession(ROOT / "models" / "digits" / answer["model_version"] / "model.onnx")
        for output, values in zip(session.get_outputs(), session.run(None, {"image": rows}), strict=True):
            said = [row[output.name] for row in answer["predictions"]]
            assert np.asarray(said) == pytest.approx(np.asarray(values), abs=1e-5)
    assert found["frame"] == [3, len(session.get_outputs())]


def test_explain_says_which_version_answers_each_request(found: Any) -> None:
    assert [one["route"] for one in found["explained"]] == ["everyone", "everyone"]
    assert all(one["model"] == "digits" for one in found["explained"])


def test_mlflow_takes_the_spans_of_the_predictions(found: Any) -> None:
    for answer in found["predictions"]:
        span = found["traced"][answer["prediction_id"]]
        assert (span["canary_gateway.model"], span["canary_gateway.version"]) == (
            "digits",
            int(answer["model_version"]),
        )


def test_update_sets_the_weight_and_replaces_the_candidate(found: Any, running: GatewayProcess) -> None:
    assert "-          weight: 50" in found["weight"]["difference"]
    assert (found["updated"]["version"], found["updated"]["replaced"]) == (3, 2)
    assert (version(running, 3) / "training.json").read_text() == "{}"


@pytest.mark.parametrize(
    ("case", "code", "says"),
    [
        ("promotes another", "RESOURCE_CONFLICT", "is now version 3, not 2"),
        ("both", "INVALID_PARAMETER_VALUE", "either weight=PERCENT or promote=true"),
        ("setting", "INVALID_PARAMETER_VALUE", "there is no setting 'wait' here; there are weight, ramp,"),
        ("weight", "INVALID_PARAMETER_VALUE", "weight"),
        ("flavor", "INVALID_PARAMETER_VALUE", "serves the flavor 'onnx' only"),
        ("no onnx", "INVALID_PARAMETER_VALUE", "has the flavors sklearn; the gateway serves onnx only"),
        ("outside", "INVALID_PARAMETER_VALUE", "'../outside.onnx', which leads out of the model's folder"),
        ("lacks its file", "INVALID_PARAMETER_VALUE", "is neither a folder nor a file"),
        ("endpoint", "INVALID_PARAMETER_VALUE", "the gateway has no endpoints"),
        ("name", "INVALID_PARAMETER_VALUE", "'../digits' is not a valid name"),
        ("model", "RESOURCE_DOES_NOT_EXIST", "there is no model 'digit'"),
        ("column", "INVALID_PARAMETER_VALUE", "the column 'x0' does not decide"),
        ("rows", "INVALID_PARAMETER_VALUE", "its rows differ in length"),
        ("input", "INVALID_PARAMETER_VALUE", "no input 'picture'; it has image"),
        ("shape", "INVALID_PARAMETER_VALUE", "63"),
        ("target", "INVALID_PARAMETER_VALUE", "it has the form canary-gateway:http://HOST:8002"),
        ("password", "INVALID_PARAMETER_VALUE", "GATEWAY_API_KEY"),
        ("no gateway", "TEMPORARILY_UNAVAILABLE", "no gateway answers at http://127.0.0.1:9"),
        ("data plane", "RESOURCE_DOES_NOT_EXIST", ""),
        ("promotes a stopped one", "RESOURCE_CONFLICT", "is stopped; resume it first"),
    ],
)
def test_what_is_wrong_is_an_error_of_mlflow(found: Any, case: str, code: str, says: str) -> None:
    raised, text = found["wrong"][case]
    assert (raised, says in text, "secret" in text) == (code, True, False), text


def test_delete_stops_the_candidate(found: Any, mlflow: Mlflow) -> None:
    assert found["stopped"][0] == {"name": "digits", "flavor": "onnx", "stable": 1, "candidate": 3, "stopped": True}
    assert [name for name in mlflow.left() if "local" not in name] == []


def test_its_commands_create_predict_promote_and_delete(found: Any, running: GatewayProcess) -> None:
    said = found["command"]
    assert said["create"].strip() == "onnx deployment digits is created"
    assert (said["predict"]["model_version"], len(said["predict"]["predictions"])) == ("9", 2)
    assert (said["explain"][0]["version"], said["explain"][0]["route"]) == (9, "everyone")
    assert "\ncandidate: 9\n" in said["get"]
    assert said["update"].strip() == "Deployment digits is updated (with flavor onnx)"
    assert said["delete"].strip() == "Deployment digits is deleted"  # no candidate is left to be stopped
    assert said["help"].startswith("A canary-gateway's control plane: canary-gateway:http://HOST:8002")
    assert "'stable': 9, 'candidate': None" in said["list"]
    assert yaml.safe_load((running.config.parent / "routing.yaml").read_text())["models"]["digits"]["stable"] == 9


@pytest.mark.usefixtures("found")
def test_propose_fetches_a_version_of_the_registry(running: GatewayProcess, mlflow: Mlflow, tmp_path: Path) -> None:
    words = ("propose", "digits", "models:/digits@challenger", "--registry", mlflow.url, "--weight", "5")
    with serving_digits(tmp_path / "another") as another:  # in the other, this model has been stopped
        done = command(another.config, *words)
        history = httpx.get(f"{another.control_url}/api/decisions").text
    assert (done.returncode, done.stderr) == (0, "")
    assert "version 2 of digits" in done.stdout
    assert f'"reason":"from models:/digits/1 at {mlflow.url}"' in history
    origins = [json.loads((version(one, 2) / "origin.json").read_text()) for one in (running, another)]
    for origin in origins:
        origin.pop("fetched_at")
    assert origins[0] == origins[1]  # MLflow's library and the gateway's own client see the same version
    for reference, says in (
        ("models:/digits@champion", "'digits' has no alias 'champion'; its aliases: challenger"),
        ("models:/digits/7", "not found"),
        ("models:/digits", "write models:/NAME@ALIAS or models:/NAME/VERSION"),
    ):
        with pytest.raises(CommandError) as refused:
            folder = tmp_path / reference.replace("/", "-")
            fetch_registered(
                reference, Registry(mlflow.url), folder, max_bytes=1 << 20, progress=lambda done, size: None
            )
        assert says in str(refused.value)


def test_run_local_serves_the_model_until_it_is_ended(using: Using, mlflow: Mlflow) -> None:
    def ready() -> bool:
        assert using.process.poll() is None, mlflow.log
        try:
            return httpx.get(f"http://127.0.0.1:{using.port}/v2/models/numbers/versions/1/ready").status_code == 200
        except httpx.TransportError:
            return False

    until(ready, "the model is served")
    using.process.terminate()
    assert (using.process.wait(60), mlflow.left()) == (0, []), mlflow.log
