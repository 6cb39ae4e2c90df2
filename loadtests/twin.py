"""A harmless candidate, the same model as stable, under every guard and as much traffic as there can be."""

import time
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

import httpx
import orjson

from loadtests import judged, servers
from loadtests.client import Client
from loadtests.judged import LOWEST, NAME, SOUND
from loadtests.judging import Judge
from loadtests.wrk import Load, background

CONNECTIONS: Final = 8  # of the client that sends feedback
SATURATING: Final = 32  # of one that only asks
DELAY_S: Final = 0.3
LOOK_S: Final = 1.0
RECORDS: Final = {"segment": "16MiB", "retain": "256MiB"}  # ten minutes of it would fill a small disk


@dataclass(frozen=True, slots=True)
class Climb:
    """How the twin's ramp went. `weights`: seconds since the start, and the weight in percent then."""

    seconds: float
    predictions: int
    candidates: int
    told: int
    refused: int
    stage: str
    actions: list[str]
    harm: str  # what a guard has had to say against it
    weights: list[tuple[float, float]]
    failed: int

    @property
    def met(self) -> bool:
        return self.stage == "complete" and set(self.actions) == {"advance", "complete"} and not self.failed


def climbed(folder: Path, rules: dict[str, Any], seconds: float) -> Climb:
    """Run the twin under these rules for so long."""
    judged.place(folder / "models", SOUND, SOUND)
    judge = Judge(generator=Random(0), delay_s=DELAY_S)
    with (
        servers.fleet(folder, folder / "models", rules, workers=2, records=RECORDS) as running,
        Client(running.address, CONNECTIONS, judge.request) as client,
        Client(running.address, 1, judge.feedback, reconnect=True) as teller,
        httpx.Client(base_url=running.control_url) as control,
        background(f"http://127.0.0.1:{running.address[1]}/v2/models/{NAME}/infer", _load(), SATURATING) as ended,
    ):
        weights, began_s = [], time.monotonic()
        while (now_s := time.monotonic() - began_s) < seconds:
            weights.append((now_s, control.get(f"/api/releases/{NAME}").json()["routes"][0]["in_force_percent"]))
            looked_s = time.monotonic()
            while time.monotonic() - looked_s < LOOK_S:
                client.keep_busy(0.1, judge)
                judge.tell(teller)
        release = control.get(f"/api/releases/{NAME}").json()
        decisions = control.get("/api/decisions").json()
        failed = ended()
    requests = {version["variant"]: version["requests"] for version in release["versions"]}
    return Climb(
        seconds,
        sum(requests.values()),
        requests["candidate"],
        judge.told,
        judge.refused,
        release["ramp"]["stage"],
        [decision["action"] for decision in reversed(decisions)],
        "; ".join(f"{d['by']}: {d['reason']}" for d in decisions if d["action"] in ("stop", "pause")),
        weights,
        failed,
    )


def _load() -> Load:
    tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [LOWEST, 1, LOWEST, LOWEST]}
    return Load(orjson.dumps({"inputs": [tensor]}), {"content-type": "application/json"})
