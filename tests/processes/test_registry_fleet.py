"""Two hosts of a fleet that follow one registry: one asks it for both, each fetches a version itself, and the other one
goes on when that ends.
"""

import json
import shutil
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.control.api.test_registry_hint import SECRET, signed
from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import metric, until
from tests.processes.test_fleet import KNOWN
from tests.processes.test_registry import in_registry
from tests.registry.small_server import Handler, SmallRegistry
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
DIGITS = Path(__file__).parents[2] / "models" / "digits"
STARTS_S = 60.0  # hosts that start: a first leader waits for a lease and 2 s besides


def host(folder: Path, store: RedisServer, registry: SmallRegistry, **mlflow: Any) -> GatewayProcess:
    shutil.copytree(DIGITS / "1", folder / "models" / "digits" / "1")
    shutil.copy(DIGITS / "model.yaml", folder / "models" / "digits")
    (folder / "state").mkdir()
    (folder / "state" / "fleet.json").write_text(json.dumps(KNOWN))  # it opens after one lease, not after ten
    fleet = {"store": store.url, "lease": "1s", "host": folder.name}
    routing = {"models": {"digits": {"stable": 1, "registry": "digits"}}}
    mlflow = {"url": registry.url, "poll": "1s", "weight": 50, **mlflow}
    return GatewayProcess(folder, folder / "models", routing, fleet=fleet, registry={"mlflow": mlflow})


def release(gateway: GatewayProcess) -> Any:
    return httpx.get(f"{gateway.control_url}/api/releases/digits").json()


def versions(*hosts: GatewayProcess) -> list[tuple[int, int | None]]:
    return [(found["stable"], found["candidate"]) for found in map(release, hosts)]


def elsewhere(gateway: GatewayProcess) -> str | None:
    found: str | None = httpx.get(f"{gateway.control_url}/api/config").json()["registry"]["elsewhere"]
    return found


def decisions(gateway: GatewayProcess) -> list[str]:
    found = httpx.get(f"{gateway.control_url}/api/decisions", params={"model": "digits"}).json()
    return [f"{one['action']} {one['candidate']}" for one in reversed(found)]


def leader_of(a: GatewayProcess, b: GatewayProcess) -> tuple[GatewayProcess, GatewayProcess]:
    """The one that follows the registry, and the other one."""
    names = {"a follows the registry": (a, b), "b follows the registry": (b, a)}
    until(lambda: {elsewhere(a), elsewhere(b)} & names.keys() != set(), "one follows the registry", STARTS_S)
    leader, other = next(names[said] for said in (elsewhere(a), elsewhere(b)) if said in names)
    until(lambda: elsewhere(leader) is None, "it says so itself", STARTS_S)  # maybe later than the other one
    return leader, other


def order(gateway: GatewayProcess, what: str) -> int:
    return httpx.post(f"{gateway.control_url}/api/releases/digits/{what}", json={}, timeout=60).status_code


def test_hosts_release_promote_and_stop_what_one_registry_names(tmp_path: Path) -> None:
    with ExitStack() as stack:
        registry = stack.enter_context(SmallRegistry())
        registry.files["model.onnx"] = (DIGITS / "2" / "model.onnx").read_bytes()
        registry.aliases = {"champion": "1", "challenger": "2"}
        store = stack.enter_context(RedisServer(tmp_path / "redis"))
        a, b = (stack.enter_context(host(tmp_path / name, store, registry)) for name in ("a", "b"))
        until(lambda: versions(a, b) == [(1, 2), (1, 2)], "both have fetched it", STARTS_S)
        until(lambda: order(a, "stop") == 200, "it is stopped on both")
        until(lambda: "gateway.stopped" in registry.tags.get("2", {}), "the stop is a tag")
        until(
            lambda: in_registry(a, "digits")["pending"] + in_registry(b, "digits")["pending"] == 0, "both have told it"
        )
        until(lambda: order(b, "resume") == 200 or not release(b)["stopped"], "it is resumed on both")
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
        until(lambda: len(registry.calls) > asked, "the one that asks waits for the registry")
        assert order(a, "undo-promote") == 200  # no command waits for it
        until(lambda: versions(a, b) == [(1, None), (1, None)], "it is undone on both")
        assert registry.aliases == {"champion": "2"}
        held.set()
        del registry.answers["registered-models/get"]
        until(lambda: registry.aliases == {"champion": "1"}, "the registry is told once it answers")
        until(lambda: in_registry(b, "digits")["note"] is None, "both agree")
        assert versions(a, b) == [(1, None), (1, None)]


def hint(gateway: GatewayProcess) -> int:
    body = b'{"entity": "model_version_alias", "action": "created"}'
    url = f"{gateway.control_url}/api/registry/hint"
    return httpx.post(url, content=body, headers=signed(body)).status_code  # type: ignore[arg-type]


def test_the_other_host_goes_on_when_the_leader_is_killed_and_none_does_without_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that ask only when they begin, and after hints."""
    monkeypatch.setenv("FAKE_SECRET", SECRET)
    hints = {"poll": "1h", "webhook_secret": {"env": "FAKE_SECRET"}}
    with ExitStack() as stack:
        registry = stack.enter_context(SmallRegistry())
        registry.files["model.onnx"] = (DIGITS / "2" / "model.onnx").read_bytes()
        registry.aliases = {"champion": "1", "challenger": "2"}
        store = stack.enter_context(RedisServer(tmp_path / "redis"))
        hosts = [stack.enter_context(host(tmp_path / name, store, registry, **hints)) for name in ("a", "b")]
        leader, other = leader_of(*hosts)
        until(lambda: versions(leader, other) == [(1, 2), (1, 2)], "both have fetched it", STARTS_S)
        assert (metric(leader, "gateway_registry_leads"), metric(leader, "gateway_registry_up")) == (1.0, 1.0)
        shown = httpx.get(f"{other.control_url}/metrics").text
        assert "gateway_registry_leads 0.0" in shown
        assert "gateway_registry_up" not in shown

        def refuse(handler: Handler, query: dict[str, str]) -> None:
            handler.say({"message": "not now"}, 503)

        registry.answers["registered-models/alias"] = refuse
        assert order(other, "promote") == 200
        until(lambda: versions(leader, other) == [(2, None), (2, None)], "it is promoted on both")
        until(lambda: in_registry(other, "digits")["pending"] == 1, "the leader cannot tell the registry")
        assert leader.process is not None
        leader.process.kill()
        leader.process.wait(30)
        until(lambda: elsewhere(other) is None, "the other one follows the registry")
        assert registry.aliases == {"champion": "1", "challenger": "2"}
        del registry.answers["registered-models/alias"]
        assert hint(other) == 202
        until(lambda: registry.aliases == {"champion": "2"}, "the registry is told by the other one")

        leader.__enter__()
        until(lambda: elsewhere(leader) == f"{other.config.parent.name} follows the registry", "the first one is back")
        until(lambda: in_registry(leader, "digits")["note"] is None, "both agree")
        assert decisions(leader) == decisions(other) == ["propose 2", "promote 2"]

        store.freeze()
        until(lambda: all("without contact" in str(elsewhere(one)) for one in hosts), "neither asks the registry")
        registry.aliases["challenger"] = "3"
        asked = len(registry.calls)
        assert [hint(one) for one in hosts] == [202, 202]
        assert len(registry.calls) == asked
        store.thaw()
        until(lambda: (2, 3) in versions(*hosts), "the version that was named meanwhile is brought")
        until(lambda: None in map(elsewhere, hosts), "the one that asks is known")
        asked = len(registry.calls)
        other = next(one for one in hosts if elsewhere(one) is not None)
        assert hint(other) == 202
        until(lambda: "registered-models/get" in "".join(registry.calls[asked:]), "the one that asks has the hint, too")
