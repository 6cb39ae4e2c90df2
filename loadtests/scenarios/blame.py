"""Who is to blame: bad traffic stops no twin, simulated or served; a candidate that does harm is stopped in it."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from statistics import median
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from loadtests import moody, servers
from loadtests.blaming import REQUESTS, WAYS, requests_to_stop, stopped_by_breaker, stopped_by_evidence
from loadtests.client import Client, Seen, request
from loadtests.moody import NAME, Moods, row
from loadtests.report import RESULTS, write
from loadtests.simulation import ALPHA, run_all

RUNS: Final = 1000
DETECTIONS: Final = 201
BAD: Final = 0.05
FAILS: Final = 0.02
WITHIN: Final = 1.5  # times the simulated median
LONGEST: Final = 400_000  # requests
HANG_S: Final = 5.0
PATIENCE_S: Final = 120.0
TURNS: Final = 500  # of the model's loop, a few hundred microseconds
TWIN: Final = Moods(turns=TURNS)
LONG: Final = Moods(turns=8 * TURNS)
TIMES: Final = (1.1, 1.6, 2.2, 3, 4, 6, 10)  # run times
NAN: Final = float("nan")
ROWS: Final = 2000
POISON: Final = (
    [row(value=NAN)],
    [row(index=7)],
    [row(broken=2)],
    [row(), row(index=-9), row()],
    [row(value=NAN)] * ROWS,
)
Make = Callable[[], bytes]


@dataclass(slots=True)
class Stopped:
    """What became of one release: who stopped it and why ("" where no one did), and what it had got until then."""

    by: str = ""
    reason: str = ""
    requests: int = 0
    seconds: float = 0.0
    failed: int = 0
    document: Any = None

    def __str__(self) -> str:
        return f"{self.by}: {self.reason}" if self.by else "not stopped"


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` below 5: fewer simulated runs, and fewer requests to the twins."""
    part = min(rounds, 5) / 5
    console = Console(width=max(150, Console().width))
    lines = [*_simulated(round(RUNS * part)), *_twins(folder / "twins", round(REQUESTS * part))]
    lines += _harmful(folder / "harmful", rounds, (10, 50))
    lines += _hung(folder / "hung") + _greedy(folder / "greedy")
    table = Table(title="blame", title_justify="left")
    for heading in ("", "found", "target", ""):
        table.add_column(heading)
    for name, found, target, met in lines:
        table.add_row(name, found, target, "[green]met[/green]" if met else "[red]missed[/red]")
    console.print(table)
    write("blame", {"lines": [dict(zip(("name", "found", "target", "met"), line, strict=True)) for line in lines]})
    console.print(f"Written to {RESULTS / 'blame'}.json")
    return all(met for *_, met in lines)


Line = tuple[str, str, str, bool]


def _simulated(runs: int) -> list[Line]:
    lines = []
    for way in WAYS:
        evidence = sum(run_all(stopped_by_evidence, range(runs), way))
        breaker = sum(run_all(stopped_by_breaker, range(runs), way))
        found = f"{evidence} by evidence, {breaker} by the breaker, of {runs:,} of {REQUESTS:,} requests"
        lines.append(
            (f"simulated twin, {way}", found, f"≤ {ALPHA:.0%}, none", evidence <= ALPHA * runs and not breaker)
        )
    return lines


def _twins(folder: Path, requests: int) -> list[Line]:
    """The three ways, each on a gateway of its own."""
    run_us = _run_us(folder / "paced")
    lines: list[Line] = []
    for way, moods, make in (
        ("5% hold NaN", TWIN, _mixed(Random(0), [[row(value=NAN)]])),
        ("one client of eight sends only what no version takes", TWIN, _mixed(Random(1), POISON, 1 / 8)),
        (f"deadlines of 1 us and {TIMES} run times", LONG, _short(Random(2), run_us)),
    ):
        found = _served(folder / str(len(lines)), moods, 50, make, requests=requests)
        version = found.document["versions"][1]
        said = f"{found}, {found.requests:,} requests, {version['outcomes']}, too short: {found.document['unsplit']}"
        lines.append((f"served twin, {way}", said, "not stopped", not found.by and found.requests >= requests))
    return lines


def _harmful(folder: Path, rounds: int, weights: Sequence[int]) -> list[Line]:
    lines = []
    for weight in weights:
        simulated = median(run_all(requests_to_stop, range(DETECTIONS), weight / 100, BAD, FAILS, LONGEST))
        found = [
            _served(
                folder / f"{weight}-{turn}", Moods(turns=TURNS, fails=FAILS), weight,
                _mixed(Random(turn), [[row(value=NAN)]]), requests=LONGEST,
            )
            for turn in range(rounds)
        ]  # fmt: skip
        taken = median(one.requests if one.by == "errors" else LONGEST for one in found)
        said = f"after {taken:,.0f} requests (median of {rounds}), simulated {simulated:,.0f}"
        met = taken <= WITHIN * simulated
        lines.append((f"fails 2% of the good inputs, weight {weight}%", said, f"≤ {WITHIN:g} times simulated", met))
    return lines


def _hung(folder: Path) -> list[Line]:
    lines = []
    for weight in (5, 100):
        found = _served(folder / str(weight), Moods(hangs=0.9), weight, _unlucky(20_000))
        said = f"{found} after {found.seconds:.2f} s, {found.requests:,} requests, {found.failed} failed"
        met = bool(found.by) and found.seconds <= HANG_S
        lines.append((f"hangs, all deadlines 20 ms, weight {weight}%", said, f"within {HANG_S:g} s", met))
    return lines


def _greedy(folder: Path) -> list[Line]:
    """In more threads than there are cores, half of them ONNX Runtime's own."""
    lines = []
    for timeout_us in (100_000, None):
        settings = "concurrency: 8\nthreads: 4\n"
        found = _served(
            folder / str(timeout_us), Moods(hangs=0.9, width=256), 50, _unlucky(timeout_us),
            settings=settings, connections=32,
        )  # fmt: skip
        said = f"{found} after {found.seconds:.2f} s, {found.requests:,} requests, {found.failed} failed"
        deadline = f"{timeout_us // 1000} ms" if timeout_us else "the default"
        lines.append((f"takes all processors, deadline {deadline}", said, "stopped", bool(found.by)))
    return lines


def _served(
    folder: Path,
    candidate: Moods,
    weight: int,
    make: Make,
    *,
    requests: int = 0,
    settings: str = "",
    connections: int = 8,
) -> Stopped:
    """One gateway of two workers until the candidate is stopped, or so many requests are through (0: a while)."""
    stable = Moods(turns=candidate.turns)
    moody.place(folder / "models", stable, candidate, settings)
    with (
        servers.fleet(folder, folder / "models", routing(weight), workers=2) as running,
        Client(running.address, connections, make) as client,
        httpx.Client(base_url=running.control_url, timeout=30) as control,
    ):
        seen, began_s = Seen(), time.monotonic()
        found = Stopped()
        while not found.by and time.monotonic() - began_s < PATIENCE_S + requests / 500:
            if requests and len(seen.ms) >= requests:
                break
            client.keep_busy(0.1, seen)
            found.document = control.get(f"/api/releases/{NAME}").json()
            if stop := found.document["stop"]:
                found.by, found.reason = stop["by"], stop["reason"]
        found.seconds = time.monotonic() - began_s
        found.requests = len(seen.ms)
        found.failed = sum(seen.failures.values())
    return found


def routing(weight: int) -> dict[str, Any]:
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": weight}]}
    guards = {"alpha": f"{ALPHA:.0%}", "comparisons": [{"name": "errors", "metric": "failures"}]}
    return {"models": {NAME: {"stable": 1, "candidate": 2, "split": split, "guards": guards}}}


def _ask(rows: list[list[float]], timeout_us: int | None = None) -> bytes:
    return request(f"/v2/models/{NAME}/infer", moody.body(*rows, timeout_us=timeout_us))


def _mixed(generator: Random, bad: Sequence[list[list[float]]], share: float = BAD) -> Make:
    """A share of these; the others are good, each with a luck of its own."""
    messages = [_ask(rows) for rows in bad]

    def make() -> bytes:
        if generator.random() < share:
            return generator.choice(messages)
        return _ask([row(value=generator.random(), luck=generator.random())])

    return make


def _unlucky(timeout_us: int | None) -> Make:
    message = _ask([row(luck=0.5)], timeout_us)
    return lambda: message


def _short(generator: Random, run_us: float) -> Make:
    messages = [_ask([row()], max(1, round(times * run_us))) for times in (0, *TIMES)]
    return lambda: generator.choice(messages)


def _run_us(folder: Path) -> float:
    """How long stable takes over a request that comes alone."""
    moody.place(folder / "models", LONG, LONG)
    with (
        servers.fleet(folder, folder / "models", {"models": {NAME: {"stable": 1}}}, workers=1) as running,
        Client(running.address, 1, lambda: _ask([row()])) as client,
    ):
        seen = Seen()
        client.keep_busy(1.0, seen)
    return median(seen.ms) * 1e3
