"""Three gateways judge one candidate by the truths that any of them is given, as one gateway would."""

import itertools
import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import until
from tests.processes.test_fleet_ramp import led_by
from tests.processes.test_kinds import ROUTING, predict, repository
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
NAMES = "abc"
REQUESTS = 90
GUARD = {"name": "error", "metric": "loss", "range": [0, 350]}
KNOWN = {"fleet": "gateway", "words": {"diabetes/2": [1, 0]}, "stops": [], "sequence": 0}


def host(folder: Path, store: RedisServer, name: str, **guards: Any) -> GatewayProcess:
    """A host that has been in the fleet before."""
    state = folder / name / "state"
    state.mkdir(parents=True)
    (state / "fleet.json").write_text(json.dumps(KNOWN))
    routing = json.loads(json.dumps(ROUTING))
    routing["models"]["diabetes"] |= guards
    fleet = {"store": store.url, "lease": "1s", "host": name}
    return GatewayProcess(folder / name, folder / "models", routing, fleet=fleet)


def document(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/releases/diabetes").json()


def mean_error(running: GatewayProcess) -> dict[str, Any] | None:
    """The effect on the mean absolute error."""
    effects = document(running).get("effects", ())
    return next((one for one in effects if one["metric"] == "mae" and one["route"] is None), None)


def units(effect: dict[str, Any] | None) -> int:
    return 0 if effect is None else effect["candidate_units"] + effect["stable_units"]


def ask(answering: httpx.Client, told: tuple[httpx.Client, ...], row: Any, truth: float) -> tuple[str, float]:
    """Ask one host, and tell others the truth; returns the version, and how far its number was off."""
    answer = predict(answering, row[None])
    entry = {"prediction_id": answer["parameters"]["prediction_id"], "truth": truth}
    for client in told:
        assert client.post("/v2/feedback", json=entry).json()["accepted"] == 1
    return answer["model_version"], abs(answer["outputs"][0]["data"][0] - truth)


def test_outcomes_of_all_hosts_are_counted_once_and_shown_on_each(tmp_path: Path) -> None:
    """Each truth is given to two hosts, of which one may have answered."""
    rows, truths, _ = repository(tmp_path / "models")
    with RedisServer(tmp_path / "redis") as store, ExitStack() as stack:
        hosts = [stack.enter_context(host(tmp_path, store, name)) for name in NAMES]
        clients = [stack.enter_context(httpx.Client(base_url=one.url)) for one in hosts]
        until(lambda: len({*map(str, map(led_by, hosts))}) == 1 and led_by(hosts[0])[0] in NAMES, "there is a leader")
        errors: dict[str, list[float]] = {"1": [], "2": []}
        for number, (row, truth) in zip(range(REQUESTS), itertools.cycle(zip(rows, truths, strict=True)), strict=False):
            answering, one, other = (clients[(number + shift) % 3] for shift in (0, number // 3, number // 3 + 1))
            version, error = ask(answering, (one, other), row, float(truth))
            errors[version].append(error)
        until(lambda: all(units(mean_error(one)) >= REQUESTS for one in hosts), "all hosts know all outcomes")
        found = [mean_error(one) for one in hosts]
    for effect in found:
        assert effect is not None
        assert (effect["stable_units"], effect["candidate_units"]) == (len(errors["1"]), len(errors["2"]))
        assert effect["stable"] == pytest.approx(np.mean(errors["1"]), rel=1e-4)
        assert effect["candidate"] == pytest.approx(np.mean(errors["2"]), rel=1e-4)


def test_truths_told_to_one_host_stop_the_candidate_on_all(tmp_path: Path) -> None:
    rows, truths, _ = repository(tmp_path / "models", bias=120)
    with RedisServer(tmp_path / "redis") as store, ExitStack() as stack:
        hosts = [stack.enter_context(host(tmp_path, store, name, guards={"comparisons": [GUARD]})) for name in NAMES]
        clients = [stack.enter_context(httpx.Client(base_url=one.url)) for one in hosts]
        until(lambda: len({*map(str, map(led_by, hosts))}) == 1 and led_by(hosts[0])[0] in NAMES, "there is a leader")
        told = clients[(NAMES.index(led_by(hosts[0])[0]) + 1) % 3]  # not the leader

        def all_stopped() -> bool:
            for number in range(15):
                ask(clients[number % 3], (told,), rows[number], float(truths[number]))
            return all(document(one)["stopped"] for one in hosts)

        until(all_stopped, "the candidate is stopped everywhere")
        decisions = [httpx.get(f"{one.control_url}/api/decisions").json() for one in hosts]
    assert [[one["by"] for one in made if one["action"] == "stop"] for made in decisions] == [["error"]] * 3
