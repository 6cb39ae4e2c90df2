"""A candidate that allocates without end, is suspended, or never finishes loading: what stable's customers notice."""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from rich.console import Console

from loadtests import models, servers
from loadtests.client import Client, Seen
from loadtests.report import Line, report
from loadtests.scenarios.hang import flawed_request
from loadtests.servers import Running

CONNECTIONS = 8  # of customers who get stable
LIMIT = "512MiB"  # of the candidate's process
LOAD_TIMEOUT = "5s"
ENDED_WITHIN_S = 90.0
RATIO = 1.5
STABLE: dict[str, Any] = {"stable": 1}
RELEASE: dict[str, Any] = {
    "stable": 1,
    "candidate": 2,
    "split": {"routes": [{"name": "victims", "match": [{"customer": "victim"}], "weight": 100}]},
    "rescue": {"timeout": "500ms"},
}
Harm = Callable[[Running], str]  # done again and again until the gateway has ended it; returns by what


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One worker. Stable's p99 in the quiet, then from the first harm to its end, up to three times."""
    console, lines, victims, failed = Console(), [], Seen(), 0
    for name, flaw, first, harm in (
        ("allocates", "allocates", RELEASE, _ended_by_stop),
        ("is suspended", "hangs", RELEASE, _suspended),
        ("never loads", "hangs", STABLE, _ended_by_refusal),
    ):
        quiet, harmed = [], []
        for turn in range(min(rounds, 3)):
            place = folder / f"{flaw} {name} {turn}"
            with _serving(place, flaw, first) as running:
                seen, during, reason, took_s = _measured(running, harm, victims, seconds)
            quiet.append(_p99(seen))
            harmed.append(_p99(during))
            failed += sum(seen.failures.values()) + sum(during.failures.values())
            console.print(f"{name}: ended after {took_s:.1f} s: {reason}")
        lines.append(Line(f"stable's p99 while the candidate {name}", "ms", quiet, harmed, RATIO, False))
    met = report("harm", lines)
    lost = sum(victims.failures.values())
    console.print(f"{failed + lost} requests failed; stable answered {victims.variants['stable']} of the victims'")
    return met and not failed and not lost and victims.variants["stable"] > 0


@contextlib.contextmanager
def _serving(folder: Path, flaw: str, release: dict[str, Any]) -> Iterator[Running]:
    models.flawed(folder / "models", flaw)
    (folder / "models" / "flawed" / "model.yaml").write_text(f"memory: {LIMIT}\n")
    routing = {"models": {"flawed": release}}
    with servers.fleet(folder, folder / "models", routing, workers=1, load_timeout=LOAD_TIMEOUT) as running:
        yield running


def _measured(running: Running, harm: Harm, victims: Seen, seconds: int) -> tuple[Seen, Seen, str, float]:
    """What stable's customers saw before and during the harm; what ended it, and after how long."""
    quiet, during = Seen(), Seen()
    with (
        Client(running.address, CONNECTIONS, lambda: flawed_request(1.0, "joe")) as stable,
        Client(running.address, 1, lambda: flawed_request(-1.0, "victim")) as victim,
    ):
        stable.keep_busy(seconds, quiet)
        began_s = time.monotonic()
        while not (reason := harm(running)):
            assert time.monotonic() - began_s < ENDED_WITHIN_S, "the harm goes on"
            victim.send()
            stable.keep_busy(0.05, during)
            for answer in victim.there():
                victims.add(answer)
        took_s = time.monotonic() - began_s
        for answer in victim.rest():
            victims.add(answer)
    return quiet, during, reason, took_s


def _ended_by_stop(running: Running) -> str:
    document = httpx.get(f"{running.control_url}/api/releases/flawed").json()
    return f"stopped by {document['stop']['by']}: {document['stop']['reason']}" if document["stopped"] else ""


def _suspended(running: Running) -> str:
    """Its process, and each that comes in its place."""
    for pid in servers.with_descendants(running.process.pid):
        with contextlib.suppress(OSError):  # it has ended
            if b"gateway.backends.process" in Path(f"/proc/{pid}/cmdline").read_bytes() and _is_forked(pid):
                os.kill(pid, signal.SIGSTOP)
    return _ended_by_stop(running)


def _is_forked(pid: int) -> bool:
    """Whether it is a version's process, not the template that they are forked from."""
    parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    return b"gateway.backends.process" in Path(f"/proc/{parent}/cmdline").read_bytes()


def _ended_by_refusal(running: Running) -> str:
    """An edit that adds the candidate, whose warm-up runs for ever."""
    warm_up = running.routing_file.parent / "models" / "flawed" / "warmup.json"
    if not warm_up.exists():
        tensor = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [-1.0, 1.0, 2.0, 3.0]}
        warm_up.write_text(json.dumps({"inputs": [tensor]}))
        running.routing_file.write_text(yaml.safe_dump({"models": {"flawed": RELEASE}}))
    error = httpx.get(f"{running.control_url}/api/config").json()["last_error"]
    return f"the edit is refused: {error}" if error else ""


def _p99(seen: Seen) -> float:
    return sorted(seen.ms)[int(len(seen.ms) * 0.99)]
