"""Three gateways in network namespaces as a fleet: stops at saturation, and amid faults of cables, store and gateways.

Nothing from a candidate in any answer, on any host, once a stop is confirmed, and no request fails. Needs root.
`rounds` below 5 runs fewer of each. Leases last one second, but for the throughput, where they have the default.
"""

import contextlib
import os
import signal
import statistics
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.progress import track
from rich.table import Table

from loadtests.fleet.rig import figures
from loadtests.fleet.rig.course import LONGEST_S, Course, Row
from loadtests.fleet.rig.cycles import Cycles
from loadtests.fleet.rig.faults import FAULTS, FAULTS_OF_THE_WAY, Fault
from loadtests.fleet.rig.namespaces import why_not
from loadtests.fleet.rig.rates import SETTINGS, print_rates, rates
from loadtests.fleet.rig.rig import Rig, fleet
from loadtests.fleet.rig.stores import PROGRAMS
from loadtests.report import report, write

CYCLES: Final = 200
TIMES: Final = 20
STOP_P99_MS: Final = 25.0
PAIRS: Final = 9


def run(folder: Path, rounds: int, seconds: int, store: str = "redis") -> bool:
    """`store`: what the hosts share, `redis` or `etcd`."""
    if missing := why_not(PROGRAMS[store], "haproxy", "wrk"):
        raise SystemExit(f"loadtests fleet: {missing}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that everything is removed
    times = TIMES if rounds >= 5 else 4 * rounds
    load = f"{os.getloadavg()[0]:.1f}"
    cycles = Cycles()
    with fleet(folder / "direct", store) as rig:
        rows = [_cycles(rig, cycles, CYCLES if rounds >= 5 else 40 * rounds), *_faults(rig, FAULTS, times)]
        lines = figures.store_lost(rig, rounds, seconds)
    with fleet(folder / "proxied", store, proxied=True) as rig:
        rows += _faults(rig, FAULTS_OF_THE_WAY, times)
    with fleet(folder / "rates", store, limits=SETTINGS) as rig:
        shares = rates(rig)
    lines.append(figures.throughput(folder / "throughput", store, PAIRS if rounds >= 5 else rounds, seconds))
    _print(rows, cycles, store, load)
    print_rates(shares)
    met = report("fleet", lines)
    told = {"store": store, "load_before": load, "cycles": _figures(cycles), "rows": [_row(row) for row in rows],
            "rates": [row.figures() for row in shares]}  # fmt: skip
    write("fleet-faults", told)
    met = met and all(row.met for row in rows) and all(row.met for row in shares)
    return met and _p99(cycles.stop_ms) <= STOP_P99_MS


def _cycles(rig: Rig, cycles: Cycles, count: int) -> Row:
    with _course(rig, Row("stop and resume")) as course:
        for _ in track(range(count), "stopping and resuming", transient=True):
            course.run(cycles.run)
    return course.row


def _faults(rig: Rig, faults: Mapping[str, tuple[Fault, float]], times: int) -> list[Row]:
    rows = []
    for name, (fault, limit_ms) in faults.items():
        with _course(rig, Row(name, limit_ms)) as course:
            for _ in track(range(times), name, transient=True):
                course.run(fault)
        rows.append(course.row)
        Console().print(f"{name}: {'as it should be' if course.row.met else course.row.wrong or 'not as it should be'}")
    return rows


@contextlib.contextmanager
def _course(rig: Rig, row: Row) -> Iterator[Course]:
    course = Course(rig, row)
    with rig.saturated() as end:
        try:
            yield course
        finally:
            course.close()
        if failed := end():
            row.failed += failed
            row.wrong.append(f"{failed} requests through HAProxy failed")


def _print(rows: list[Row], cycles: Cycles, store: str, load: str) -> None:
    table = Table(title=f"three hosts, {store}; load before: {load}", title_justify="left")
    cells: dict[str, Callable[[Row], str]] = {
        "": lambda row: row.name,
        "times": lambda row: str(row.times),
        "stop p50 ms": lambda row: f"{statistics.median(row.stop_ms):.1f}",
        "p99": lambda row: f"{_p99(row.stop_ms):.1f}",
        "limit": lambda row: f"{row.limit_ms:.0f}" if row.limit_ms else "",
        "answers": lambda row: f"{row.answers:,}",
        "late": lambda row: str(row.late),
        "failed": lambda row: str(row.failed),
        "lost": lambda row: str(row.lost),
        "wrong": lambda row: str(len(row.wrong)),
    }
    for heading in cells:
        table.add_column(heading)
    for row in rows:
        table.add_row(*(cell(row) for cell in cells.values()), style=None if row.met else "red")
    console = Console(width=max(150, Console().width))
    console.print(table)
    console.print(f"stop and resume: {_figures(cycles)}; p99 at most {STOP_P99_MS:g} ms")
    console.print(f"the longest that a lease of another host may last: {LONGEST_S * 1e3:.0f} ms")
    for row in rows:
        for text in row.wrong[:5]:
            console.print(f"[red]{row.name}[/red]: {text}", markup=True)


def _figures(cycles: Cycles) -> dict[str, Any]:
    stop, fsync = cycles.stop_ms, cycles.fsync_ms
    return {
        "stop_p50_ms": round(statistics.median(stop), 2),
        "stop_p99_ms": round(_p99(stop), 2),
        "fsync_p50_ms": round(statistics.median(fsync), 2),
        "fsync_p99_ms": round(_p99(fsync), 2),
        "hosts_least": min(cycles.hosts),
        "hosts_closed_by_themselves": cycles.closed,
    }


def _row(row: Row) -> dict[str, Any]:
    return asdict(row) | {"met": row.met}


def _p99(values: list[float]) -> float:
    return sorted(values)[max(0, int(len(values) * 0.99) - 1)] if values else 0.0
