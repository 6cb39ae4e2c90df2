"""Two remote versions whose latencies are compared: how long a candidate of some slowness lasts."""

import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from loadtests import servers
from loadtests.canned import NAME
from loadtests.client import Client, Seen, request
from loadtests.free_port import free_port
from loadtests.scenarios.overhead import BODY

SHARE: Final = 10  # percent, to the candidate
MEAN_MS: Final = 2.0  # that stable's server takes
SLOW_MS: Final = 10.0  # of an exponential delay with that mean 0.7% are slower
LOOK_S: Final = 0.05


@dataclass(frozen=True, slots=True)
class Lasted:
    """`stopped_by`: the guard, with its reason; empty where none has stopped it."""

    seconds: float
    stable: int
    candidate: int
    failed: int
    stopped_by: str


def lasted(folder: Path, mean_ms: float, longest_s: float, connections: int, alpha: str = "1%") -> Lasted:
    """Serve a candidate whose server takes `mean_ms` on average, until it is stopped or the time is over."""
    with ExitStack() as stack:
        for version, mean in ((1, MEAN_MS), (2, mean_ms)):
            port = free_port()
            command = [sys.executable, "-m", "loadtests.delayed", str(port), str(mean)]
            url = stack.enter_context(servers.started(command, port)).url
            place = folder / "models" / NAME / str(version)
            place.mkdir(parents=True)
            (place / "remote.yaml").write_text(yaml.safe_dump({"url": url}))
        running = stack.enter_context(servers.fleet(folder, folder / "models", _routing(alpha), workers=2))
        sent = request(f"/v2/models/{NAME}/infer", BODY)
        client = stack.enter_context(Client(running.address, connections, lambda: sent))
        control = stack.enter_context(httpx.Client(base_url=running.control_url))
        return _asked(client, lambda: control.get(f"/api/releases/{NAME}").json(), longest_s)


def _asked(client: Client, release: Callable[[], Any], longest_s: float) -> Lasted:
    seen, began_s = Seen(), time.monotonic()
    while not (stop := release()["stop"]) and time.monotonic() - began_s < longest_s:
        client.keep_busy(LOOK_S, seen)
    why = f"{stop['by']}: {stop['reason']}" if stop else ""
    failed = seen.failures.total()
    return Lasted(time.monotonic() - began_s, seen.variants["stable"], seen.variants["candidate"], failed, why)


def _routing(alpha: str) -> dict[str, Any]:
    slow = {"name": "slow", "metric": "slow_requests", "threshold": f"{SLOW_MS:g}ms"}
    release = {
        "stable": 1,
        "candidate": 2,
        "split": {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": SHARE}]},
        "guards": {"alpha": alpha, "comparisons": [slow]},
    }
    return {"models": {NAME: release}}
