"""A candidate that hangs in every thread: what those who are sent to stable notice of it."""

import time
from pathlib import Path

import orjson

from loadtests import models, servers
from loadtests.client import Client, Seen, request
from loadtests.report import Line, report

CONNECTIONS = 8  # of customers who get stable
VICTIMS = 4  # requests at once that make the candidate hang, more than it has threads
ROUTING = {
    "models": {
        "flawed": {
            "stable": 1,
            "candidate": 2,
            "split": {"routes": [{"name": "victims", "match": [{"customer": "victim"}], "weight": 100}]},
            "rescue": {"timeout": "500ms"},
            "guards": {"breaker": {"consecutive_failures": 1_000_000}},
        }
    }
}


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One worker; the same load without and with the victims, in turn. The spinning candidate takes a core, too."""
    models.flawed(folder / "models", "hangs")
    quiet: list[float] = []
    hanging: list[float] = []
    failed = rescued = 0
    with servers.fleet(folder, folder / "models", ROUTING, workers=1) as running:
        for _ in range(rounds):
            for victims, found in ((0, quiet), (VICTIMS, hanging)):
                seen, rescues = _measured(running, victims, seconds)
                found.append(sorted(seen.ms)[int(len(seen.ms) * 0.99)])
                failed += sum(seen.failures.values()) + sum(rescues.failures.values())
                rescued += rescues.variants["stable"]
    met = report("hang", [Line("stable's p99 while the candidate hangs", "ms", quiet, hanging, 1.5, False)])
    print(f"{failed} requests failed; stable answered {rescued} of the victims' requests")
    return met and not failed and rescued > 0


def _measured(running: servers.Running, victims: int, seconds: int) -> tuple[Seen, Seen]:
    """What the customers of stable saw, and the victims."""
    seen, rescues = Seen(), Seen()
    with (
        Client(running.address, CONNECTIONS, lambda: flawed_request(1.0, "joe")) as stable,
        Client(running.address, max(victims, 1), lambda: flawed_request(-1.0, "victim")) as hung,
    ):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if victims:
                hung.send()
                for answer in hung.there():
                    rescues.add(answer)
            stable.keep_busy(0.05, seen)
        for answer in hung.rest():
            rescues.add(answer)
    return seen, rescues


def flawed_request(first: float, customer: str) -> bytes:
    """A request to the flawed model; `first` below 0 shows the flaw."""
    row = [first, 1.0, 2.0, 3.0]
    document = orjson.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]})
    return request("/v2/models/flawed/infer", document, f"x-customer-id: {customer}\r\n")
