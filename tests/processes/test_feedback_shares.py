"""Feedback that comes for 80% of the candidate's and 20% of stable's predictions: said so, also after a kill."""

import json
import re
from collections import Counter
from pathlib import Path

import httpx
import pytest

from tests.processes.flawed import until
from tests.processes.test_commands import command
from tests.processes.test_kinds import ROUTING, predict, repository
from tests.processes.test_records import killed
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
SAID = re.compile(r"feedback has come for ([\d.]+)% of the candidate's and ([\d.]+)% of stable's predictions")
OF_TEN = {"2": 8, "1": 2}  # predictions with feedback, by version: certain also of what a kill leaves of them


def ask(running: GatewayProcess, row: object, seen: Counter[str], count: int) -> list[dict[str, object]]:
    """So many predictions over several connections; returns the feedback on those of OF_TEN. `seen`: how many by
    version, and how many with feedback.
    """
    entries = []
    clients = [httpx.Client(base_url=running.url) for _ in range(8)]
    for number in range(count):
        answer = predict(clients[number % 8], row)
        version = answer["model_version"]
        if seen[version] % 10 < OF_TEN[version]:
            entries.append({"prediction_id": answer["parameters"]["prediction_id"], "reward": 1.0})
            seen[f"told {version}"] += 1
        seen[version] += 1
    for client in clients:
        client.close()
    return entries


def tell(running: GatewayProcess, entries: list[dict[str, object]]) -> None:
    assert httpx.post(f"{running.url}/v2/feedback", json=entries).json()["accepted"] == len(entries)


def shares(running: GatewayProcess) -> tuple[float, float] | None:
    """Those that are said of the reward, in percent."""
    effects = httpx.get(f"{running.control_url}/api/releases/diabetes").json().get("effects", ())
    found = [SAID.search(one["words"]) for one in effects if one["metric"] == "reward" and one["route"] is None]
    return (float(found[0][1]), float(found[0][2])) if found and found[0] else None


def are_said(running: GatewayProcess, seen: Counter[str]) -> bool:
    """Whether the shares are those of what was seen, within the digits that are said."""
    expected = [pytest.approx(100 * seen[f"told {version}"] / seen[version], abs=0.051) for version in "21"]
    return shares(running) == tuple(expected)


def told(running: GatewayProcess, *arguments: str) -> str:
    """What a command prints, without the lines of tables, in whose cells text is wrapped."""
    return " ".join(command(running.config, *arguments).stdout.replace("│", " ").split())


def kept(folder: Path) -> int:
    """Predictions counted in what is kept of the release."""
    file = folder / "state" / "ramps.json"
    states = json.loads(file.read_bytes()) if file.exists() else {}
    return sum(states.get("diabetes", {}).get("guards", {}).get("feedback_shares", {}).get("totals", ()))


def test_shares_are_said_by_two_workers_and_after_a_kill(tmp_path: Path) -> None:
    test_x, _, _ = repository(tmp_path / "models")
    folder, row, seen = tmp_path / "gateway", test_x[:1], Counter[str]()
    running = GatewayProcess(folder, tmp_path / "models", ROUTING, server={"workers": 2})
    with running:
        entries = ask(running, row, seen, 600)
        tell(running, entries[:240])
        until(lambda: kept(folder) == 600, "all predictions are counted and kept")
        tell(running, entries[240:])
        late = ask(running, row, lost := Counter[str](), 60)
        killed(running)  # most likely before the feedback on the first and the others themselves are kept
        with running:
            tell(running, late)
            known = [seen, seen + lost]  # without those that were not kept, or with them if they were
            until(lambda: any(are_said(running, one) for one in known), f"all, and not {shares(running)}")
            tell(running, ask(running, row, later := Counter[str](), 60))
            until(lambda: any(are_said(running, one + later) for one in known), f"more, and not {shares(running)}")
            assert SAID.search(told(running, "status", "diabetes"))
            assert SAID.search(told(running, "promote", "diabetes", "--reason", "seen"))
            (decision, *_) = httpx.get(f"{running.control_url}/api/decisions?model=diabetes").json()
            (effect,) = [one for one in decision["evidence"]["effects"] if one["metric"] == "reward"]
            assert decision["action"] == "promote" and SAID.search(effect["words"])
