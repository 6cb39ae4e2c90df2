"""1,000 models, 200 releases of 50 routes, 100,000 customers: how long a start, an edit, a stop and a page take."""

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
from loadtests.report import write
from loadtests.scenarios.overhead import BODY

MODELS: Final = 1000
RELEASES: Final = 200
ROUTES: Final = 50
CUSTOMERS: Final = 100_000
WORKERS: Final = 2
STOPS: Final = 50
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
            for path in ("/metrics", "/api/releases", "/api/decisions", "/"):
                figures[f"GET {path}, ms"] = _get_ms(control, path)
            figures["/metrics, MiB"] = len(control.get("/metrics").content) / 2**20
            figures["edit, s"] = _edited(control, running, document)
            stop_ms = [_stopped(control, f"m{number % releases}") for number in range(STOPS)]
        figures["stop p50, ms"] = statistics.median(stop_ms)
        figures["stop p99, ms"] = sorted(stop_ms)[-1]
        figures["requests failed"] = _asked(running, count)
    met = (
        figures["stop p99, ms"] <= STOP_P99_MS
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
