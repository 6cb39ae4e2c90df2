"""The gateway before another server, against HAProxy and a proxy of httpx before the same one.

Each proxy has one core; the client and the server, which only sends what it has ready, share the other. There they may
be the limit, so what counts is requests for each second of processor time that a proxy took, all its processes counted.
"""

import sys
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtests import haproxy, servers
from loadtests.free_port import free_port
from loadtests.report import Line, report, write
from loadtests.scenarios.overhead import BODY, JSON
from loadtests.servers import Started
from loadtests.wrk import Load, Measured, measure

LOAD: Final = Load(BODY, JSON, customers=1000)
CONNECTIONS: Final = (1, 32)
BUSY: Final = CONNECTIONS[-1]
SHARE: Final = 10  # percent of the traffic, to the candidate
HAPROXY, HTTPX, STABLE, CANDIDATE = "HAProxy", "httpx proxy", "gateway", f"gateway, candidate {SHARE}%"
CANDIDATE_HAPROXY: Final = f"HAProxy, candidate {SHARE}%"


@dataclass(frozen=True, slots=True)
class Cost:
    """One run of wrk, and the processor time that the proxy took meanwhile for each request."""

    measured: Measured
    per_cpu_s: float


Costs = Mapping[str, Mapping[int, list[Cost]]]


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """One connection and 32; JSON requests of 760 bytes by a thousand customers; the gateway records all of them."""
    with ExitStack() as stack:
        url = stack.enter_context(haproxy.server(folder / "server"))
        proxies = _proxies(stack, folder, url)
        found: Costs = {name: {count: [] for count in CONNECTIONS} for name in proxies}
        for started in proxies.values():
            measure(f"{started.url}/v2/models/tiny/infer", LOAD, 8, 1)
        for turn in track(range(rounds), "measuring", transient=True):
            for name in list(proxies)[:: 1 if turn % 2 == 0 else -1]:
                for count in CONNECTIONS:
                    found[name][count].append(_cost(proxies[name], count, seconds))
    _tell(found)
    return report(
        "remote",
        [
            _line("to HAProxy", found, HAPROXY, STABLE, 0.5),
            _line(f"to HAProxy, candidate {SHARE}%", found, CANDIDATE_HAPROXY, CANDIDATE, 0.5),
            _line("to the httpx proxy", found, HTTPX, STABLE, 3.0),
        ],
    )


def _proxies(stack: ExitStack, folder: Path, url: str) -> dict[str, Started]:
    port = free_port()
    command = [sys.executable, "-m", "loadtests.httpx_proxy", str(port), url, url, str(SHARE)]
    for version in (1, 2):
        place = folder / "models" / "tiny" / str(version)
        place.mkdir(parents=True)
        (place / "remote.yaml").write_text(yaml.safe_dump({"url": url}))
    return {
        HAPROXY: stack.enter_context(haproxy.balancer(folder / "haproxy", url, 0)),
        STABLE: stack.enter_context(_gateway(folder, 0)),
        CANDIDATE_HAPROXY: stack.enter_context(haproxy.balancer(folder / "weighted", url, SHARE)),
        CANDIDATE: stack.enter_context(_gateway(folder, SHARE)),
        HTTPX: stack.enter_context(servers.started(command, port)),
    }


def _gateway(folder: Path, weight: int) -> Any:
    release = {"stable": 1, "candidate": 2, "split": {"routes": [{"name": "everyone", "weight": weight}]}}
    return servers.pinned_gateway(folder / f"gateway-{weight}", folder / "models", {"models": {"tiny": release}})


def _cost(started: Started, connections: int, seconds: int) -> Cost:
    before_s = started.cpu_s()
    measured = measure(f"{started.url}/v2/models/tiny/infer", LOAD, connections, seconds)
    return Cost(measured, measured.per_s * seconds / max(started.cpu_s() - before_s, 0.01))


def _line(name: str, found: Costs, reference: str, gateway: str, target: float) -> Line:
    theirs, ours = ([cost.per_cpu_s for cost in found[side][BUSY]] for side in (reference, gateway))
    return Line(f"{BUSY} connections, requests per CPU second, {name}", "/s", theirs, ours, target, True)


def _tell(found: Costs) -> None:
    """All figures, medians of the rounds."""
    table = Table(title="proxies before the same server", title_justify="left")
    for heading in ("", "connections", "requests/s", "per CPU second", "p50 µs", "p99 µs"):
        table.add_column(heading)
    for name, counts in found.items():
        for count, costs in counts.items():
            runs = [(c.measured.per_s, c.per_cpu_s, c.measured.p50_us, c.measured.p99_us) for c in costs]
            table.add_row(name, str(count), *(f"{median(values):,.0f}" for values in zip(*runs, strict=True)))
    Console(width=max(120, Console().width)).print(table)
    write(
        "remote-servers",
        {name: {str(n): [asdict(c) for c in costs] for n, costs in counts.items()} for name, counts in found.items()},
    )
