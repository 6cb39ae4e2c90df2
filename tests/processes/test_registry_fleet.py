"""Two hosts of a fleet that follow one registry: each fetches a version itself, and none fights the other."""

import json
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import until
from tests.processes.test_fleet import KNOWN
from tests.registry.small_server import Handler, SmallRegistry
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
DIGITS = Path(__file__).parents[2] / "models" / "digits"


def host(folder: Path, store: RedisServer, registry: SmallRegistry) -> GatewayProcess:
    shutil.copytree(DIGITS / "1", folder / "models" / "digits" / "1")
    shutil.copy(DIGITS / "model.yaml", folder / "models" / "digits")
    (folder / "state").mkdir()
    (folder / "state" / "fleet.json").write_text(json.dumps(KNOWN))  # it opens after one lease, not after ten
    fleet = {"store": store.url, "lease": "1s", "host": folder.name}
    routing = {"models": {"digits": {"stable": 1, "registry": "digits"}}}
    mlflow = {"url": registry.url, "poll": "1s", "weight": 50}
    return GatewayProcess(folder, folder / "models", routing, fleet=fleet, registry={"mlflow": mlflow})


def release(gateway: GatewayProcess) -> Any:
    return httpx.get(f"{gateway.control_url}/api/releases/digits").json()


def versions(*hosts: GatewayProcess) -> list[tuple[int, int | None]]:
    return [(found["stable"], found["candidate"]) for found in map(release, hosts)]


def order(gateway: GatewayProcess, what: str) -> int:
    return httpx.post(f"{gateway.control_url}/api/releases/digits/{what}", json={}, timeout=60).status_code


def test_hosts_release_promote_and_stop_what_one_registry_names(tmp_path: Path) -> None:
    with ExitStack() as stack:
        registry = stack.enter_context(SmallRegistry())
        registry.files["model.onnx"] = (DIGITS / "2" / "model.onnx").read_bytes()
        registry.aliases = {"champion": "1", "challenger": "2"}
        store = stack.enter_context(RedisServer(tmp_path / "redis"))
        a, b = (stack.enter_context(host(tmp_path / name, store, registry)) for name in ("a", "b"))
        until(lambda: versions(a, b) == [(1, 2), (1, 2)], "both have fetched it")
        until(lambda: order(a, "stop") == 200, "it is stopped on both")
        until(lambda: "gateway.stopped" in registry.tags.get("2", {}), "the stop is a tag")
        until(lambda: release(a)["registry"]["pending"] + release(b)["registry"]["pending"] == 0, "both have told it")
        assert order(b, "resume") == 200
        until(lambda: registry.tags["2"] == {}, "the tag is removed")

        registry.aliases["champion"] = "2"
        until(lambda: versions(a, b) == [(2, None), (2, None)], "it is promoted on both")
        until(lambda: registry.aliases == {"champion": "2"}, "the challenger is taken away")

        held = threading.Event()

        def hang(handler: Handler, query: dict[str, str]) -> None:
            held.wait()
            handler.close_connection = True

        registry.answers["registered-models/get"] = hang
        asked = len(registry.calls)
        until(lambda: len(registry.calls) > asked + 1, "both wait for the registry")
        assert order(a, "undo-promote") == 200  # no command waits for it
        until(lambda: versions(a, b) == [(1, None), (1, None)], "it is undone on both")
        assert registry.aliases == {"champion": "2"}
        held.set()
        del registry.answers["registered-models/get"]
        until(lambda: registry.aliases == {"champion": "1"}, "the registry is told once it answers")
        until(lambda: release(b)["registry"]["note"] is None, "both agree")
        assert versions(a, b) == [(1, None), (1, None)]
