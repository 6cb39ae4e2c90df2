"""1,000 models, 200 releases of 50 routes, 100,000 customers: a start, an edit, pages, and stops beside readers."""

import os
import shutil
import statistics
import time
from pathlib import Path
from typing import Any, Final

import httpx
import yaml
from rich.console import Console
from rich.table import Table

from loadtests import models, servers
from loadtests.client import Client, Seen, request
from loadtests.readers import reading
from loadtests.report import write
from loadtests.scenarios.overhead import BODY
from loadtests.scenarios.stop import first_in_line

MODELS: Final = 1000
RELEASES: Final = 200
ROUTES: Final = 50
CUSTOMERS: Final = 100_000
WORKERS: Final = 2
STOPS: Final = 200
READERS: Final = 100
PATHS: Final = ("/metrics", "/api/releases", "/api/decisions", "/api/config", "/", "/api/releases/m0", "/api/events")
STARTED_WITHIN_S: Final = 600.0
STOP_P99_MS: Final = 5.0
EDIT_WITHIN_S: Final = 30.0


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` below 5: a fifth of it all for each round."""
    share = min(rounds, 5) / 5
    count, releases, customers = round(MODELS * share), round(RELEASES * share), round(CUSTOMERS * share)
    _copies(folder / "models", count)
    document = routing(releases, customers)
    begun = time.monotonic()
    with servers.fleet(
        folder, folder / "models", document, WORKERS, within_s=STARTED_WITHIN_S, limits={"inflight": 1024}
    ) as running:
        figures: dict[str, float] = {"start, s": time.monotonic() - begun}
        with httpx.Client(base_url=running.control_url, timeout=60) as control:
            figures["a worker's memory, MiB"] = max(map(_resident_mib, running.worker_pids()))
            for path in PATHS[:-1]:
                figures[f"GET {path}, ms"] = _get_ms(control, path)
            figures["/metrics, MiB"] = len(control.get("/metrics").content) / 2**20
            figures["edit, s"] = _edited(control, running, document)
            figures |= _stops(control, releases, "no one reads")
            for path in PATHS:
                with reading(httpx.URL(running.control_url).port or 0, READERS, path):
                    figures |= _stops(control, releases, f"{READERS} read {path}")
        figures["requests failed"] = _asked(running, count)
    met = (
        max(value for name, value in figures.items() if name.startswith("stop p99")) <= STOP_P99_MS
        and figures["edit, s"] <= EDIT_WITHIN_S
        and not figures["requests failed"]
    )
    title = f"{count} models, {releases} releases of {ROUTES} routes, {customers:,} customers"
    table = Table(title=title, title_justify="left")
    for heading in ("", "measured"):
        table.add_column(heading)
    for name, value in figures.items():
        table.add_row(name, f"{value:,.2f}")
    Console().print(table)
    write("large", {"models": count, "releases": releases, "customers": customers, **figures, "met": met})
    return met


def routing(releases: int, customers: int) -> dict[str, Any]:
    """Each release lists its share of the customers, over all of its routes but the last."""
    each = customers // releases // (ROUTES - 1)
    document = {}
    for release in range(releases):
        routes: list[dict[str, Any]] = [
            {
                "name": f"r{route}",
                "match": [{"customer": {"in": [f"c{release}-{route}-{number}" for number in range(each)]}}],
                "weight": route % 100,
            }
            for route in range(ROUTES - 1)
        ]
        split = {"stickiness": "customer", "routes": [*routes, {"name": "everyone", "weight": 5}]}
        document[f"m{release}"] = {"stable": 1, "candidate": 2, "split": split}
    return {"models": document}


def _copies(repository: Path, count: int) -> None:
    models.tiny(repository, "m0")
    for number in range(1, count):
        shutil.copytree(repository / "m0", repository / f"m{number}")


def _get_ms(control: httpx.Client, path: str) -> float:
    """The median of five."""
    took = []
    for _ in range(5):
        begun = time.perf_counter()
        control.get(path).raise_for_status()
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


def _edited(control: httpx.Client, running: servers.Running, document: dict[str, Any]) -> float:
    """Until every worker has it."""
    before = control.get("/api/config").json()["revision"]
    document["models"]["m0"]["split"]["routes"][-1]["weight"] = 6
    running.routing_file.write_text(yaml.safe_dump(document))
    begun = time.monotonic()
    while (now := control.get("/api/config").json())["revision"] == before or now["acknowledged"] < WORKERS:
        if time.monotonic() > begun + 10 * EDIT_WITHIN_S:
            raise SystemExit(f"the edit is not in force: {now}")
        time.sleep(0.05)
    return time.monotonic() - begun


def _stops(control: httpx.Client, releases: int, meanwhile: str) -> dict[str, float]:
    with first_in_line():
        took_ms = sorted(_stopped(control, f"m{number % releases}") for number in range(STOPS))
    p50, p99 = statistics.median(took_ms), took_ms[round(0.99 * (STOPS - 1))]
    return {f"stop p50 while {meanwhile}, ms": p50, f"stop p99 while {meanwhile}, ms": p99}


def _resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _stopped(control: httpx.Client, model: str) -> float:
    begun = time.perf_counter()
    control.post(f"/api/releases/{model}/stop", json={"reason": "loadtest"}).raise_for_status()
    took_ms = (time.perf_counter() - begun) * 1e3
    control.post(f"/api/releases/{model}/resume", json={"reason": "loadtest"}).raise_for_status()
    return took_ms


def _asked(running: servers.Running, count: int) -> int:
    """How many of the models do not answer."""
    bodies = iter([request(f"/v2/models/m{number}/infer", BODY) for number in range(count)])
    seen = Seen()
    with Client(running.address, 1, lambda: next(bodies)) as client:
        for _ in range(count):
            client.send()
            for answer in client.rest():
                seen.add(answer)
    assert sum(seen.variants.values()) + sum(seen.failures.values()) == count
    return sum(seen.failures.values())
