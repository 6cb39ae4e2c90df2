"""Deploys with MLflow's Python API and its commands, in an environment with MLflow, all in one process: it takes
seconds to import. `use_api.py CONTROL_URL DATA_URL DIGITS_ONNX PORT CONTROL_PORT`

Logs and registers the model, prints what each call returned or raised, as a line of JSON, and then serves it locally.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import onnx
import pandas as pd
import yaml
from click.testing import CliRunner
from mlflow.cli import cli
from mlflow.deployments import get_deploy_client, run_local
from mlflow.exceptions import MlflowException

control, data, digits, *ports = sys.argv[1:]
PACKAGES = ["onnxruntime"]  # otherwise MLflow loads the model in a process of its own to find out
found: dict[str, Any] = {}


def raised(call: Callable[[], Any]) -> list[str]:
    try:
        return ["nothing", str(call())]
    except MlflowException as error:
        return [error.error_code, str(error)]


def command(*words: str) -> str:
    """What `mlflow deployments` prints: the program `mlflow` is this function `cli`."""
    target = ["--target", f"canary-gateway:{control}?predict={data}"]
    ended = CliRunner().invoke(cli, ["deployments", *words, *target], catch_exceptions=False)
    assert ended.exit_code == 0, ended.output
    return ended.stdout


def with_large_weights(path: str) -> onnx.ModelProto:
    """The model, after a multiplication by 1: MLflow puts weights of more than 1 KiB into a file of their own."""
    model = onnx.load(path)
    image = model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["same" if name == image else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("MatMul", [image, "eye"], ["same"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "eye"))
    return model


def altered(source: Path, name: str, flavors: dict[str, Any]) -> str:
    """A copy of a saved model with other flavors in its MLmodel."""
    folder = source.with_name(name)
    shutil.copytree(source, folder)
    document = yaml.safe_load((folder / "MLmodel").read_text())
    (folder / "MLmodel").write_text(yaml.safe_dump(document | {"flavors": flavors}))
    return str(folder)


with mlflow.start_run():
    logged = mlflow.onnx.log_model(
        with_large_weights(digits), name="model", registered_model_name="digits", pip_requirements=PACKAGES
    )
mlflow.MlflowClient().set_registered_model_alias("digits", "challenger", 1)
saved = Path("saved")
mlflow.onnx.save_model(onnx.load(digits), saved, pip_requirements=PACKAGES)
(saved / "training.json").write_text("{}")
Path("outside.onnx").write_bytes(Path(digits).read_bytes())

client = get_deploy_client(f"canary-gateway:{control}?predict={data}")
config = {"weight": 50, "replace": False, "reason": "a test"}
found["created"] = client.create_deployment("digits", "models:/digits@challenger", config=config)
found["run_id"], found["source"] = logged.run_id, mlflow.MlflowClient().get_model_version("digits", "1").source
found["again"] = raised(lambda: client.create_deployment("digits", logged.model_uri))
found["list"] = client.list_deployments()
found["get"] = client.get_deployment("digits")["routes"]

rows = np.arange(3 * 64, dtype=np.float32).reshape(3, 64) % 17
found["predictions"] = [
    client.predict("digits", inputs)
    for inputs in (rows, pd.DataFrame(rows), {"image": rows.tolist()}, pd.DataFrame({"image": rows.tolist()}))
]
found["frame"] = list(client.predict("digits", rows).get_predictions().shape)
words = pd.DataFrame({"customer": ["acme", None], "header:X-Team": ["red", "blue"]})
found["explained"] = client.explain("digits", words)

found["weight"] = client.update_deployment("digits", config={"weight": 20})
found["updated"] = client.update_deployment("digits", str(saved))
pickled, outside = {"sklearn": {"data": "model.pkl"}}, {"onnx": {"data": "../outside.onnx"}}
lacking = {"onnx": {"data": "x.onnx"}}
found["wrong"] = {
    "promotes another": raised(lambda: client.update_deployment("digits", config={"promote": True, "version": 2})),
    "both": raised(lambda: client.update_deployment("digits", config={"promote": True, "weight": 2})),
    "setting": raised(lambda: client.create_deployment("digits", str(saved), config={"wait": 5})),
    "weight": raised(lambda: client.create_deployment("digits", str(saved), config={"weight": 101, "replace": True})),
    "flavor": raised(lambda: client.create_deployment("digits", str(saved), flavor="sklearn")),
    "no onnx": raised(lambda: client.create_deployment("digits", altered(saved, "none", pickled))),
    "outside": raised(lambda: client.create_deployment("digits", altered(saved, "out", outside))),
    "lacks its file": raised(lambda: client.create_deployment("digits", altered(saved, "gone", lacking))),
    "endpoint": raised(lambda: client.predict(endpoint="digits", inputs=rows)),
    "name": raised(lambda: client.get_deployment("../digits")),
    "model": raised(lambda: client.delete_deployment("digit")),
    "column": raised(lambda: client.explain("digits", pd.DataFrame({"x0": [1.0]}))),
    "rows": raised(lambda: client.predict("digits", [[1.0], [1.0, 2.0]])),
    "input": raised(lambda: client.predict("digits", {"picture": rows})),
    "shape": raised(lambda: client.predict("digits", rows[:, :63])),
    "target": raised(lambda: get_deploy_client("canary-gateway://localhost:8002")),
    "password": raised(lambda: get_deploy_client("canary-gateway:http://me:secret@localhost:8002")),
    "no gateway": raised(lambda: get_deploy_client("canary-gateway:http://127.0.0.1:9").list_deployments()),
    "data plane": raised(lambda: get_deploy_client(f"canary-gateway:{data}").list_deployments()),
}
wanted = [answer["prediction_id"] for answer in found["predictions"]]
deadline = time.monotonic() + 60
while time.monotonic() < deadline:  # spans are exported within a second
    traces = mlflow.search_traces(locations=["0"], return_type="list", max_results=100)
    spans = [span.attributes for trace in traces for span in trace.data.spans]
    found["traced"] = {span.get("canary_gateway.prediction_id"): span for span in spans}
    if set(wanted) <= found["traced"].keys():
        break

client.delete_deployment("digits", config={"reason": "enough"})
found["stopped"] = client.list_deployments()
client.delete_deployment("digits")
found["wrong"]["promotes a stopped one"] = raised(lambda: client.update_deployment("digits", config={"promote": True}))

another = Path("another")  # the model of a stopped version is refused under another number
shutil.copytree(saved, another)
with (another / "model.onnx").open("ab") as file:
    file.write(b"\x32\x05other")  # its text of documentation

named = ("--name", "digits")
Path("rows.json").write_text(json.dumps([[1.0] * 64] * 2))
Path("nobody.json").write_text('[{"customer": "acme"}]')
found["command"] = {
    "create": command("create", *named, "-m", str(another), "-C", "weight=100", "-C", "version=9"),
    "predict": json.loads(command("predict", *named, "-I", "rows.json")),
    "explain": json.loads(command("explain", *named, "-I", "nobody.json")),
    "get": command("get", *named),
    "update": command("update", *named, "-C", "promote=true", "-C", "version=9"),
    "delete": command("delete", *named),
    "list": command("list"),
    "help": command("help"),
}
print("FOUND", json.dumps(found), flush=True)
port, control_port = map(int, ports)
run_local("canary-gateway", "numbers", str(saved), config={"port": port, "control_port": control_port})
