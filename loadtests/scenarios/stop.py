"""Stop under load: nothing from the candidate in any response sent after a stop has returned, and nothing fails."""

import contextlib
import os
import random
import statistics
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
from rich.console import Console
from rich.progress import track
from rich.table import Table

from gateway.system.scheduling import CONTROL_PRIORITY
from loadtests import models, servers
from loadtests.client import Client, Seen, request
from loadtests.report import write
from loadtests.wrk import Load, background

CYCLES = 200
CONNECTIONS = 16
BAD_SHARE = 0.3
STOP_P99_MS = 5.0
SOUND = ("none", "none, on another server")
BUSY_S = 0.02


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """A sound candidate at saturation, in its own process and on another server, then each kind of flawed one; `rounds`
    below 5 runs fewer cycles.
    """
    cycles = CYCLES if rounds >= 5 else 40 * rounds
    rows = [_scenario(folder / "sound", None, cycles)]
    with _other_server(folder / "server") as url:
        rows.append(_scenario(folder / "remote", None, cycles, url))
    rows += [_scenario(folder / flaw, flaw, max(20, cycles // 4)) for flaw in models.FLAWS]
    return _judge(rows)


@contextlib.contextmanager
def _other_server(folder: Path) -> Iterator[str]:
    """A second gateway, which serves the candidate; yields its URL."""
    models.flawed(folder / "models", "nan")
    with servers.fleet(folder, folder / "models", {"models": {"flawed": {"stable": 2}}}, workers=1) as running:
        yield "http://{}:{}".format(*running.address)


def _scenario(folder: Path, flaw: str | None, cycles: int, remote_url: str = "") -> dict[str, object]:
    """`remote_url`: of the server that runs the candidate, empty if the gateway itself does."""
    models.flawed(folder / "models", flaw or "nan")
    if remote_url:
        (folder / "models" / "flawed" / "2" / "model.onnx").unlink()
        (folder / "models" / "flawed" / "2" / "remote.yaml").write_text(f"url: {remote_url}\n")
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
    routing = {"models": {"flawed": {"stable": 1, "candidate": 2, "split": split}}}
    generator = random.Random(0)
    good, bad = (_body(first) for first in (1.0, -1.0))

    def next_request() -> bytes:
        return bad if flaw and generator.random() < BAD_SHARE else good

    with servers.fleet(folder, folder / "models", routing, workers=2) as running:
        load = Load(_document(1.0), {"content-type": "application/json"})
        url = f"http://127.0.0.1:{running.address[1]}/v2/models/flawed/infer"
        with Client(running.address, CONNECTIONS, next_request) as client, background(url, load, 32) as others:
            row = _cycles(running, client, cycles, flaw or (SOUND[bool(remote_url)]))
            row["others failed"] = others()
    return row


def _cycles(running: servers.Running, client: Client, cycles: int, flaw: str) -> dict[str, object]:
    api = f"{running.control_url}/api/releases/flawed"
    seen, after = Seen(), Seen()
    stop_ms: list[float] = []
    between = 0
    with httpx.Client() as control:
        for _ in track(range(cycles), f"stopping a candidate with flaw: {flaw}", transient=True):
            client.keep_busy(BUSY_S, seen)
            client.send()
            with first_in_line():
                started = time.perf_counter()
                control.post(f"{api}/stop", json={"reason": "loadtest"}).raise_for_status()
                stop_ms.append((time.perf_counter() - started) * 1e3)
                there = client.there()  # loopback delivers at once: what was sent before the return is here
            for answer in there:
                between += answer.variant == "candidate"
                seen.add(answer)
            for answer in client.rest():
                after.add(answer)
            client.keep_busy(BUSY_S, after)
            control.post(f"{api}/resume", json={"reason": "loadtest"}).raise_for_status()
    return {
        "flaw": flaw,
        "cycles": cycles,
        "answers": sum(seen.variants.values()) + sum(after.variants.values()),
        "candidate before": seen.variants["candidate"],
        "candidate during the call": between,
        "candidate after": after.variants["candidate"],
        "failed": sum((seen.failures + after.failures).values()),
        "failures": dict((seen.failures + after.failures).most_common(3)),
        "stop p50 ms": round(statistics.median(stop_ms), 2),
        "stop p99 ms": round(sorted(stop_ms)[int(len(stop_ms) * 0.99) - 1], 2),
    }


@contextlib.contextmanager
def first_in_line() -> Iterator[None]:
    """The caller stands for another machine: its wait for a core is no part of the call, where the system allows it."""
    with contextlib.suppress(OSError):
        os.sched_setscheduler(0, os.SCHED_RR, os.sched_param(CONTROL_PRIORITY))
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _document(first: float) -> bytes:
    row = [first, 1.0, 2.0, 3.0]
    return orjson.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]})


def _body(first: float) -> bytes:
    return request("/v2/models/flawed/infer", _document(first))


def _judge(rows: list[dict[str, object]]) -> bool:
    checks: dict[str, Callable[[dict[str, object]], bool]] = {
        "candidate after": lambda row: row["candidate after"] == 0,
        "failed": lambda row: row["failed"] == 0 and row["others failed"] == 0,
        "candidate before": lambda row: int(str(row["candidate before"])) > 0,
        "stop p99 ms": lambda row: row["flaw"] not in SOUND or float(str(row["stop p99 ms"])) <= STOP_P99_MS,
    }
    table = Table(title="stop", title_justify="left")
    columns = [key for key in rows[0] if key != "failures"]
    for column in columns:
        table.add_column(column)
    missed: Counter[str] = Counter()
    for row in rows:
        bad = {name for name, check in checks.items() if not check(row)}
        missed.update(bad)
        table.add_row(*(f"[red]{row[key]}[/red]" if key in bad else str(row[key]) for key in columns))
    console = Console(width=max(160, Console().width))  # a file is as wide as it needs to be
    console.print(table)
    for row in rows:
        if row["failures"]:
            console.print(row["flaw"], row["failures"])
    write("stop", rows)
    return not missed
