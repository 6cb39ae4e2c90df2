"""A real MLflow server, and models that it has logged. Its own Python logs them, with the onnx of the tests."""

import importlib.metadata
import importlib.util
import os
import subprocess
from pathlib import Path
from typing import Any

import httpx

from tests.servers.process import ServerProcess
from tests.tools import tool

API = "/api/2.0/mlflow"
BORROWED = ("onnx", "ml_dtypes", "onnxruntime", "flatbuffers")  # what mlflow.onnx needs, and its list does not install
WEBHOOKS = {  # to this machine, over http, and known at once
    "MLFLOW_WEBHOOK_ALLOW_PRIVATE_IPS": "true",
    "MLFLOW_WEBHOOK_ALLOWED_SCHEMES": "https,http",
    "MLFLOW_WEBHOOK_CACHE_TTL": "1",
}
LOG = """
import sys, mlflow, onnx
mlflow.set_tracking_uri(sys.argv[1])
class Echo(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input): return model_input
for path in sys.argv[2:]:
    model = onnx.load(path)
    print(mlflow.onnx.log_model(model, name="model", pip_requirements=["onnx"]).model_uri)
print(mlflow.pyfunc.log_model(name="model", python_model=Echo(), pip_requirements=["mlflow"]).model_uri)
"""


class MlflowServer(ServerProcess):
    """`mlflow server` on sqlite; it has the same contents when it starts again."""

    ready_within_s = 180.0  # it imports some hundred packages
    health = "/health"

    def __init__(self, folder: Path) -> None:
        self._bin = tool("mlflow")
        command = [
            *(str(self._bin / "python"), "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", "PORT"),
            *("--workers", "1", "--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ]
        super().__init__(folder, command, _env())

    def log_models(self, *paths: Path) -> list[str]:
        """Log these ONNX files as mlflow.onnx does, then a pickled model; returns their URIs."""
        borrowed = self._folder / "borrowed"
        borrowed.mkdir()
        for name in BORROWED:
            spec = importlib.util.find_spec(name)
            assert spec is not None and spec.origin is not None
            _link(borrowed, Path(spec.origin).parent)
            _link(borrowed, Path(str(importlib.metadata.distribution(name)._path)))  # type: ignore[attr-defined]
        command = [str(self._bin / "python"), "-c", LOG, self.url, *map(str, paths)]
        env = _env() | {"PYTHONPATH": str(borrowed)}
        done = subprocess.run(command, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return [line for line in done.stdout.splitlines() if line.startswith("models:/m-")]

    def register(self, name: str, *sources: str) -> None:
        """Register a model with these versions, numbered from 1 on."""
        self.call("POST", "registered-models/create", name=name)
        for source in sources:
            self.call(
                "POST", "model-versions/create", name=name, source=source, model_id=source.removeprefix("models:/")
            )

    def set_alias(self, name: str, alias: str, version: int) -> None:
        self.call("POST", "registered-models/alias", name=name, alias=alias, version=str(version))

    def delete_alias(self, name: str, alias: str) -> None:
        self.call("DELETE", "registered-models/alias", name=name, alias=alias)

    def send_aliases(self, url: str, secret: str) -> None:
        """Make a webhook of the aliases that are set."""
        event = {"entity": "MODEL_VERSION_ALIAS", "action": "CREATED"}
        said = {"name": "aliases", "url": url, "events": [event], "secret": secret}
        answer = httpx.post(f"{self.url}/api/2.0/mlflow/webhooks", json=said, timeout=60)
        assert answer.status_code == 200, answer.text

    def aliases(self, name: str) -> dict[str, int]:
        found = self.call("GET", "registered-models/get", name=name)["registered_model"].get("aliases", [])
        return {one["alias"]: int(one["version"]) for one in found}

    def tags(self, name: str, version: int) -> dict[str, str]:
        found = self.call("GET", "model-versions/get", name=name, version=str(version))["model_version"]
        return {one["key"]: one["value"] for one in found.get("tags", [])}

    def call(self, method: str, path: str, **said: str) -> Any:
        given: dict[str, Any] = {"params": said} if method == "GET" else {"json": said}
        answer = httpx.request(method, f"{self.url}{API}/{path}", timeout=60, **given)
        assert answer.status_code == 200, answer.text
        return answer.json()


def _env() -> dict[str, str]:
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", **WEBHOOKS}
    return {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")} | own


def _link(folder: Path, package: Path) -> None:
    (folder / package.name).symlink_to(package)
