"""A gateway that follows a real MLflow server: aliases become releases, promotions aliases, and stops tags."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import orjson
import pytest
import yaml

from tests.processes.flawed import until as within
from tests.registry.real_server import MlflowServer
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DIGITS = ROOT / "models" / "digits"
MODELS = ("moves", "stops", "refused", "champion", "away")
BREAK = {"name": "any", "metric": "candidate.requests_per_s", "above": 0.001, "min_requests": 1, "action": "stop"}
SPLIT = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
Rig = tuple[MlflowServer, GatewayProcess]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """Each model is digits, with version 1 here and in the registry; version 2 there has its weights in another file,
    as mlflow.onnx does if they are large, 4 is pickled.
    """
    folder = tmp_path_factory.mktemp("registry")
    (folder / "mlflow").mkdir()
    with MlflowServer(folder / "mlflow") as server:
        shipped = DIGITS / "1" / "model.onnx", large(folder / "large.onnx")
        first, second, pickled = server.log_models(*shipped)
        for name in (*MODELS, "hooked"):
            shutil.copytree(DIGITS / "1", folder / "models" / name / "1")
            shutil.copy(DIGITS / "model.yaml", folder / "models" / name)
            server.register(name, first, second, second, pickled)
            server.set_alias(name, "champion", 1)
        with started(folder, server) as gateway:
            yield server, gateway


def until(condition: Callable[[], bool], what: str) -> None:
    within(condition, what, 60.0)  # a server of MLflow is slow


def large(path: Path) -> Path:
    """The second version of digits, which first multiplies the image with a matrix that changes nothing."""
    model = onnx.load(DIGITS / "2" / "model.onnx")
    for node in model.graph.node:
        node.input[:] = ["same" if name == "image" else name for name in node.input]
    model.graph.node.insert(0, onnx.helper.make_node("MatMul", ["image", "identity"], ["same"]))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.eye(64, dtype=np.float32), "identity"))
    onnx.save(model, path)
    return path


def started(folder: Path, server: MlflowServer) -> GatewayProcess:
    routing: dict[str, Any] = {name: {"stable": 1, "registry": name} for name in MODELS}
    routing["stops"]["guards"] = {"limits": [BREAK]}
    settings = {"registry": {"mlflow": {"url": server.url, "poll": "1s", "weight": 50}}}
    return GatewayProcess(folder, folder / "models", {"models": routing}, **settings)


def release(gateway: GatewayProcess, model: str) -> Any:
    return httpx.get(f"{gateway.control_url}/api/releases/{model}").json()


def versions(gateway: GatewayProcess, model: str) -> tuple[int, int | None]:
    found = release(gateway, model)
    return found["stable"], found["candidate"]


def in_registry(gateway: GatewayProcess, model: str) -> Any:
    """What the gateway last saw of the model in the registry."""
    unasked = {"champion": None, "challenger": None, "pending": None, "problem": None, "note": "it has not asked yet"}
    return release(gateway, model).get("registry", unasked)


def note(gateway: GatewayProcess, model: str) -> str:
    return str(in_registry(gateway, model)["note"] or "")


def order(gateway: GatewayProcess, model: str, what: str, **body: Any) -> int:
    return httpx.post(f"{gateway.control_url}/api/releases/{model}/{what}", json=body, timeout=60).status_code


def decisions(gateway: GatewayProcess, model: str) -> list[str]:
    found = httpx.get(f"{gateway.control_url}/api/decisions", params={"model": model}).json()
    return [f"{one['action']} {one['candidate']} by {one['by']}" for one in reversed(found)]


def predict(gateway: GatewayProcess, model: str, count: int = 20) -> set[str]:
    body = {"inputs": [{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": [0.0] * 64}]}
    with httpx.Client(base_url=gateway.url) as client:
        return {client.post(f"/v2/models/{model}/infer", json=body).json()["model_version"] for _ in range(count)}


def test_a_challenger_becomes_the_candidate_and_a_promotion_moves_the_champion(rig: Rig) -> None:
    server, gateway = rig
    folder = gateway.config.parent / "models" / "moves"
    server.set_alias("moves", "challenger", 2)
    until(lambda: versions(gateway, "moves") == (1, 2), "the challenger is the candidate")
    assert predict(gateway, "moves") == {"1", "2"}
    files = {path.name for path in (folder / "2").iterdir()}
    assert {"model.onnx", "MLmodel", "origin.json"} <= files
    assert [name for name in files if name.endswith(".data")], "mlflow.onnx puts the weights into a file of their own"
    origin = orjson.loads((folder / "2" / "origin.json").read_bytes())
    assert (origin["registry"], origin["url"], origin["model"], origin["version"]) == (
        "mlflow",
        server.url,
        "moves",
        "2",
    )
    assert origin["source"].startswith("models:/m-")
    until(lambda: note(gateway, "moves") == "", "both agree")

    server.set_alias("moves", "challenger", 3)  # it replaces the one that came from the registry
    until(lambda: versions(gateway, "moves") == (1, 3), "the alias has moved on")
    assert order(gateway, "moves", "promote") == 200
    until(lambda: server.aliases("moves") == {"champion": 3}, "the champion is moved, and challenger taken away")
    assert order(gateway, "moves", "undo-promote", keep_routes=False) == 200
    assert decisions(gateway, "moves")[:3] == ["propose 2 by mlflow", "propose 3 by mlflow", "promote 3 by local"]
    until(lambda: server.aliases("moves") == {"champion": 1}, "the champion is moved back")
    server.set_alias("moves", "challenger", 2)
    until(lambda: versions(gateway, "moves") == (1, 2), "a version that is here already is named again")


def test_a_stop_by_a_guard_or_a_person_is_a_tag_until_it_is_resumed(rig: Rig) -> None:
    server, gateway = rig
    server.set_alias("stops", "challenger", 2)
    until(lambda: versions(gateway, "stops") == (1, 2), "the challenger is the candidate")
    until(lambda: bool(predict(gateway, "stops")) and release(gateway, "stops")["stopped"], "the guard stops it")
    until(lambda: "gateway.stopped" in server.tags("stops", 2), "the stop is a tag")
    tag = server.tags("stops", 2)["gateway.stopped"]
    assert "by any: " in tag
    assert f"evidence: {gateway.control_url}/api/decisions?model=stops" in tag
    assert order(gateway, "stops", "resume") == 200
    until(lambda: server.tags("stops", 2) == {}, "the tag is removed")
    assert order(gateway, "stops", "stop", reason="not this one") == 200
    until(lambda: "by local: not this one" in server.tags("stops", 2).get("gateway.stopped", ""), "a person's, too")
    server.set_alias("stops", "challenger", 1)
    server.set_alias("stops", "challenger", 2)
    server.set_alias("stops", "champion", 2)
    until(lambda: "is stopped here" in note(gateway, "stops"), "a stopped version is not obeyed")
    assert versions(gateway, "stops") == (1, 2)


def test_versions_of_other_flavors_are_refused_and_candidates_by_hand_are_not_overrun(rig: Rig) -> None:
    server, gateway = rig
    server.set_alias("refused", "challenger", 4)
    until(lambda: "never unpickles" in note(gateway, "refused"), "it is refused with the reason")
    assert in_registry(gateway, "refused")["problem"] is True
    assert not (gateway.config.parent / "models" / "refused" / "4").exists()
    shutil.copytree(DIGITS / "2", gateway.config.parent / "models" / "refused" / "2")
    server.set_alias("refused", "challenger", 2)
    until(lambda: "is not the registry's" in note(gateway, "refused"), "another version has that number here")

    by_hand = {"stable": 1, "candidate": 2, "split": SPLIT, "registry": "refused"}
    edit(gateway, "refused", by_hand)
    until(lambda: versions(gateway, "refused") == (1, 2), "a candidate by hand")
    server.set_alias("refused", "challenger", 3)
    until(lambda: "waits: candidate 2 is under way" in note(gateway, "refused"), "it is not overrun")
    assert order(gateway, "refused", "stop") == 200
    until(lambda: "before candidate 2 was stopped" in note(gateway, "refused"), "a stop is for what waits, too")
    assert versions(gateway, "refused") == (1, 2)
    server.delete_alias("refused", "challenger")
    until(lambda: in_registry(gateway, "refused")["challenger"] is None, "it is taken away")
    server.set_alias("refused", "challenger", 3)
    until(lambda: versions(gateway, "refused") == (1, 3), "set again, it is obeyed")


def edit(gateway: GatewayProcess, model: str, entry: dict[str, Any]) -> None:
    file = gateway.config.parent / "routing.yaml"
    document = yaml.safe_load(file.read_text())
    document["models"][model] = entry
    file.write_text(yaml.safe_dump(document))


def test_a_champion_moved_by_hand_promotes_the_candidate_and_nothing_else(rig: Rig) -> None:
    server, gateway = rig
    server.set_alias("champion", "champion", 3)
    until(lambda: "champion is version 3, which is not the candidate" in note(gateway, "champion"), "it is shown")
    assert versions(gateway, "champion") == (1, None)
    server.set_alias("champion", "challenger", 2)
    until(lambda: versions(gateway, "champion") == (1, 2), "the challenger is the candidate")
    server.delete_alias("champion", "challenger")
    until(lambda: "challenger was taken away" in note(gateway, "champion"), "that is no stop")
    assert release(gateway, "champion")["stopped"] is False
    server.set_alias("champion", "champion", 2)
    until(lambda: versions(gateway, "champion") == (2, None), "the running candidate is promoted")
    assert decisions(gateway, "champion")[-1] == "promote 2 by mlflow"


def test_nothing_changes_while_the_server_is_away_and_all_is_caught_up_after(rig: Rig) -> None:
    server, gateway = rig
    server.set_alias("away", "challenger", 2)
    until(lambda: versions(gateway, "away") == (1, 2), "the challenger is the candidate")
    server.kill()
    until(lambda: config(gateway)["error"] is not None, "it is seen to be away")
    assert order(gateway, "away", "stop", reason="while it is away") == 200
    assert order(gateway, "away", "resume") == 200
    assert order(gateway, "away", "promote") == 200
    until(lambda: in_registry(gateway, "away")["pending"] == 1, "the promotion is to be told")
    metrics = httpx.get(f"{gateway.control_url}/metrics").text
    assert "gateway_registry_up 0.0\n" in metrics
    assert 'gateway_registry_pending{model="away"} 1.0\n' in metrics
    server.start()
    until(lambda: server.aliases("away") == {"champion": 2}, "the promotion is told")
    until(lambda: config(gateway)["error"] is None, "it answers again")


def test_a_webhook_of_the_server_lets_the_next_poll_come_now(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway that would ask again in an hour."""
    server, _ = rig
    secret = "fake-secret-of-a-webhook"
    monkeypatch.setenv("FAKE_SECRET", secret)
    shutil.copytree(DIGITS / "1", tmp_path / "models" / "hooked" / "1")
    shutil.copy(DIGITS / "model.yaml", tmp_path / "models" / "hooked")
    mlflow = {"url": server.url, "poll": "1h", "webhook_secret": {"env": "FAKE_SECRET"}}
    routing = {"models": {"hooked": {"stable": 1, "registry": "hooked"}}}
    with GatewayProcess(tmp_path, tmp_path / "models", routing, registry={"mlflow": mlflow}) as gateway:
        until(lambda: in_registry(gateway, "hooked")["champion"] == 1, "it has asked")
        server.send_aliases(f"{gateway.control_url}/api/registry/hint", secret)
        server.set_alias("hooked", "challenger", 2)
        until(lambda: versions(gateway, "hooked") == (1, 2), "the challenger is the candidate")


def config(gateway: GatewayProcess) -> Any:
    return httpx.get(f"{gateway.control_url}/api/config").json()["registry"]
