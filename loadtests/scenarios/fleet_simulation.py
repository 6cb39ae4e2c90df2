"""The fleet's protocol: seeded runs with faults of every kind, every history of small fleets, and planted mistakes."""

from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any, Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests.fleet.checker import Violation
from loadtests.fleet.exhaustive import explore
from loadtests.fleet.fleets import FLEETS
from loadtests.fleet.planted import PLANTED, first_found
from loadtests.fleet.simulation import run_seed
from loadtests.report import RESULTS, write

RUNS: Final = 100_000
MISTAKE_RUNS: Final = 5000  # at most, until a planted mistake is found


def run(folder: Path, rounds: int, seconds: int, runs: int = RUNS, seed: int = 0, states: int = 1_000_000) -> bool:
    """`runs` begin with the seed `seed`; of each small fleet at most `states` are explored."""
    begun_s = monotonic()
    with Progress(transient=True) as progress:
        counts, broken = _simulated(progress, range(seed, seed + runs))
        explored = [_explored(progress, name, states) for name in FLEETS]
        found = [_found(progress, name) for name in PLANTED]
    _print(counts, explored, found)
    figures = {
        "runs": runs,
        "seed": seed,
        "counts": counts,
        "violations": broken,
        "explored": explored,
        "planted": found,
    }
    write("fleet_simulation", {**figures, "seconds": monotonic() - begun_s})
    for violation in broken:
        Console().print(f"[red]{violation}[/red]")
    Console().print(f"Written to {RESULTS / 'fleet_simulation'}.json")
    return not broken and all(row["met"] for row in (*explored, *found))


def _simulated(progress: Progress, seeds: range) -> tuple[Counter[str], list[str]]:
    counts: Counter[str] = Counter()
    broken = []
    for seed in progress.track(seeds, description="simulating"):
        try:
            counts.update(run_seed(seed))
        except Violation as violation:
            broken.append(str(violation))
    counts["runs"] = len(seeds)
    return counts, broken


def _explored(progress: Progress, name: str, states: int) -> dict[str, Any]:
    task = progress.add_task(name, total=states)
    found = explore(FLEETS[name](), states, lambda count: progress.update(task, completed=count))
    progress.remove_task(task)
    return {
        "name": name,
        "states": found.states,
        "transitions": found.transitions,
        "depth": found.depth,
        "complete": found.complete,
        "history": found.richest or found.broken,
        "met": not found.broken,
    }


def _found(progress: Progress, name: str) -> dict[str, Any]:
    task = progress.add_task(f"planted: {name}", total=None)
    seed, violation = first_found(name, MISTAKE_RUNS)
    progress.remove_task(task)
    return {"name": name, "seed": seed, "violation": violation, "met": seed is not None}


def _print(counts: Counter[str], explored: list[dict[str, Any]], found: list[dict[str, Any]]) -> None:
    Console().print(", ".join(f"{count:,} {name}" for name, count in sorted(counts.items())))
    table = Table("small fleet", "states", "steps", "depth", "complete", "holds")
    for row in explored:
        complete, holds = ("yes" if row[key] else "no" for key in ("complete", "met"))
        table.add_row(row["name"], f"{row['states']:,}", f"{row['transitions']:,}", str(row["depth"]), complete, holds)
    Console().print(table)
    table = Table("planted mistake", "found with seed", "as")
    for row in found:
        table.add_row(row["name"], str(row["seed"]), str(row["violation"]))
    Console().print(table)
    Console().print("A history with most kinds of events:", " → ".join(explored[-1]["history"]))
