"""Connections over workers: of a load that begins as soon as the gateway is ready, and after a worker's death."""

import math
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import httpx
from matplotlib import pyplot
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.table import Table

from loadtests import models, servers
from loadtests.report import RESULTS, Line, report, write
from loadtests.scenarios.overhead import LOAD, ROUTING
from loadtests.wrk import background, measure

EACH = 32  # connections for each worker
LATER_S = 6.0  # after it is ready, any program has made its connections anew
KILLED_AFTER_S = 5.0
SEEN_FOR_S = 30.0
SHARE = 0.75  # of the mean, which the new worker has by then


@dataclass(slots=True)
class Round:
    """What one gateway showed. `at_start` and `after`: busy connections by worker; `seen`: the same over time."""

    at_once_per_s: float = 0.0
    later_per_s: float = 0.0
    at_start: list[int] = field(default_factory=list)
    after: list[int] = field(default_factory=list)
    seen: list[tuple[float, list[int]]] = field(default_factory=list)
    new: int = 0
    failed: int = 0


def run(folder: Path, rounds: int, seconds: int, workers: int = 0) -> bool:
    """`workers`: as many as there are cores, 2 at least, unless told. A round takes about a minute."""
    count = max(2, workers or len(os.sched_getaffinity(0)))
    models.tiny(folder / "models")
    found = [_round(folder / str(turn), folder / "models", count, seconds) for turn in range(rounds)]
    _tell(found, count)
    mean = [float(EACH)] * rounds
    chance = 1 + 4 / math.sqrt(EACH)  # four standard deviations
    return report(
        "balance",
        [
            Line(
                f"requests at once when ready, to {LATER_S:g} s later",
                "/s",
                [one.later_per_s for one in found],
                [one.at_once_per_s for one in found],
                0.8,
                True,
            ),
            Line("fullest at the start, to the mean", "", mean, [max(one.at_start) for one in found], chance, False),
            Line(
                f"new one {SEEN_FOR_S:g} s after a death, to the mean",
                "",
                mean,
                [one.after[one.new] for one in found],
                SHARE,
                True,
            ),
        ],
    )


def _round(folder: Path, repository: Path, workers: int, seconds: int) -> Round:
    found, connections, threads = Round(), EACH * workers, max(1, min(4, workers // 2))
    with (
        servers.fleet(folder, repository, ROUTING, workers, servers.ready) as running,
        ThreadPoolExecutor(1) as beside,
    ):
        ready_s = time.monotonic()
        url = "http://{}:{}/v2/models/tiny/infer".format(*running.address)

        def load() -> float:
            return measure(url, LOAD, connections, seconds, pinned=False, threads=threads).per_s

        loaded = beside.submit(load)
        time.sleep(max(1.0, seconds - 0.7))
        found.at_start = busy(running, workers)
        found.at_once_per_s = loaded.result()
        time.sleep(max(0.0, ready_s + LATER_S - time.monotonic()))
        found.later_per_s = load()
        with background(url, LOAD, connections, threads) as end:
            _see(found, running, workers, KILLED_AFTER_S, -KILLED_AFTER_S)
            found.new = _kill_one(running, workers)
            _see(found, running, workers, SEEN_FOR_S, 0.0)
            found.after = busy(running, workers)
            found.failed = end()
    return found


def _see(found: Round, running: servers.Running, workers: int, seconds: float, from_s: float) -> None:
    begun_s = time.monotonic()
    while (passed_s := time.monotonic() - begun_s) < seconds:
        found.seen.append((from_s + passed_s, busy(running, workers)))
        time.sleep(1.0)


def _kill_one(running: servers.Running, workers: int) -> int:
    """The index of the worker that is killed: the one that is missing from the metrics until another is there."""
    pid = running.worker_pids()[0]
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 10
    while time.monotonic() < end:
        counts = busy(running, workers)
        if 0 in counts:
            return counts.index(0)
        time.sleep(0.02)
    raise SystemExit("a killed worker still has connections")


def busy(running: servers.Running, workers: int) -> list[int]:
    """Busy connections by worker, as /metrics has them."""
    counts = [0] * workers
    for family in text_string_to_metric_families(httpx.get(f"{running.control_url}/metrics", timeout=30).text):
        for sample in family.samples:
            if sample.name == "gateway_connections" and sample.labels["state"] == "busy":
                counts[int(sample.labels["worker"])] = int(sample.value)
    return counts


def _tell(found: list[Round], workers: int) -> None:
    table = Table(title=f"busy connections of {workers} workers, {EACH * workers} in all", title_justify="left")
    for heading in ("round", "at the start", f"{SEEN_FOR_S:g} s after a death", "new one", "at once/s", "later/s"):
        table.add_column(heading)
    for number, one in enumerate(found, 1):
        rates = f"{one.at_once_per_s:,.0f}", f"{one.later_per_s:,.0f}"
        table.add_row(str(number), _list(one.at_start), _list(one.after), str(one.after[one.new]), *rates)
    Console().print(table)
    write("balance-connections", [{"new": one.new, "failed": one.failed, "seen": one.seen} for one in found])
    _draw(found[0], workers)


def _list(counts: list[int]) -> str:
    return " ".join(map(str, counts))


def _draw(one: Round, workers: int) -> None:
    figure, axes = pyplot.subplots(figsize=(8, 4), layout="constrained")
    times_s = [at_s for at_s, _ in one.seen]
    for worker in range(workers):
        color = "tab:red" if worker == one.new else "grey"
        axes.plot(times_s, [counts[worker] for _, counts in one.seen], color=color)
    axes.axhline(EACH, color="black", linewidth=0.8, linestyle="--")
    axes.axvline(0, color="grey", linewidth=0.8, linestyle=":")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("seconds since a worker was killed; red: the one that takes its place")
    axes.set_ylabel("busy connections, by worker")
    figure.savefig(RESULTS / "balance-connections.png", dpi=120)
    pyplot.close(figure)
