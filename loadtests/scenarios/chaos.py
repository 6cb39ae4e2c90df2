"""Everything at once, in a random order that a seed repeats: no promise is broken by any of it.

Stops, resumes, edits, loads, kills and suspensions of workers and control follow each other, and the gateway's clock is
set, while the disk fills up, clients do not read and many read the control plane. The machine's own clock stays.
"""

import random
import threading
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from loadtests import chaos, models, servers
from loadtests.clock import WallClock
from loadtests.crowd import CONNECTIONS, Crowd
from loadtests.leftovers import Leftovers
from loadtests.recorded import Compared, Told, compared
from loadtests.report import write

SEED: Final = 13
CALM_S: Final = 3.0
P99_RATIO: Final = 3.0


@dataclass(slots=True)
class Part:
    """What clients saw while one kind of disturbance was under way, all times together."""

    times: int = 0
    seconds: float = 0.0
    lost: int = 0
    ms: list[float] = field(default_factory=list)

    @property
    def p99_ms(self) -> float:
        return _p99(self.ms)


Parts = defaultdict[str, Part]


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` · `seconds` long: 10 rounds of 60 seconds are ten minutes."""
    models.tiny(folder / "models")
    generator, told, clock = random.Random(SEED), Told(), WallClock(folder / "clock")
    seen: Parts = defaultdict(Part)
    with chaos.small_disk(folder / "state") as has_disk:
        records = {"segment": "8MiB", "ring": "64MiB"}  # while control is dead nothing is drained: for some 10 s
        place = folder, folder / "models", chaos.routing(50), chaos.WORKERS
        with servers.fleet(*place, environment=clock.environment, records=records) as running:
            crowd = Crowd(running.address, chaos.INFER, told)
            rig = chaos.Rig(folder, running, crowd, told, generator, clock)
            try:
                time.sleep(CALM_S)
                calm_ms = _p99(told.ms)
                _disturb(rig, rounds * seconds, seen)
                rig.recovered()
                rig.count_late()
            finally:
                crowd.end()
                servers.end(rig.running)
        leftovers = Leftovers(folder / "state", rig.running.ports)
        left = leftovers.after()
        leftovers.end()
        found = compared(folder / "state" / "records", told.ids)
    return _judge(rig, found, calm_ms, seen, has_disk, left)


def _disturb(rig: chaos.Rig, seconds: float, seen: Parts) -> None:
    end = time.monotonic() + seconds
    with Progress(transient=True) as progress:
        task = progress.add_task("disturbing", total=seconds)
        while (left_s := end - time.monotonic()) > 0:
            progress.update(task, completed=seconds - left_s)
            beside = rig.generator.choice(chaos.BESIDE)
            thread = threading.Thread(target=_do, args=(beside, rig, seen))
            thread.start()
            for action in rig.generator.choices(chaos.ALONE, k=3):
                lost, deaths = rig.crowd.lost, rig.deaths
                _do(action, rig, seen)
                if rig.crowd.lost > lost and rig.deaths == deaths:
                    rig.wrong.append(f"{rig.crowd.lost - lost} requests lost during {action.__name__}")
            thread.join()


def _do(action: chaos.Action, rig: chaos.Rig, seen: Parts) -> None:
    lost, answered, began_s = rig.crowd.lost, len(rig.told.ms), time.monotonic()
    action(rig)
    part = seen[action.__name__]
    part.times += 1
    part.seconds += time.monotonic() - began_s
    part.lost += rig.crowd.lost - lost
    part.ms += rig.told.ms[answered:]


def _judge(rig: chaos.Rig, found: Compared, calm_ms: float, seen: Parts, has_disk: bool, left: list[str]) -> bool:
    told, ratio = rig.told, _p99(rig.told.ms) / calm_ms
    checks = {
        f"{rig.stops} stops, {rig.late} late answers of a candidate": not rig.late,
        f"{found.answered:,} predictions answered, {found.missing} not recorded, {found.twice} twice,"
        f" {found.torn} torn": found.exact,
        f"{sum(told.failures.values())} requests failed {dict(told.failures.most_common(3))}": not told.failures,
        f"{rig.crowd.lost} lost, {rig.deaths} workers were killed with some in hand": (
            rig.crowd.lost <= rig.deaths * CONNECTIONS
        ),
        f"p99 {_p99(told.ms):.2f} ms, {ratio:.2f} x of the calm before (at most {P99_RATIO:g})": ratio <= P99_RATIO,
        f"{len(left)} processes, memory files and sockets left behind {left[:3]}": not left,
        f"{len(rig.wrong)} orders and recoveries not as they should be {rig.wrong[:3]}": not rig.wrong,
    }
    console = Console()
    console.print(_table(seen))
    if not has_disk:
        console.print("no disk of its own to fill")
    for text, met in checks.items():
        console.print(f"[green]met[/green]    {text}" if met else f"[red]missed[/red] {text}")
    done = {name: {"times": part.times, "lost": part.lost, "p99_ms": part.p99_ms} for name, part in seen.items()}
    write("chaos", {"done": done, "calm_p99_ms": calm_ms, "checks": checks, "wrong": rig.wrong, "stop_ms": rig.stop_ms})
    return all(checks.values())


def _table(seen: Parts) -> Table:
    """What came while each was under way: one of those beside overlaps others, so that no line alone says a cause."""
    table = Table("under way", "times", "seconds", "answers/s", "p50 ms", "p99 ms", "longest ms", "lost")
    for name, part in sorted(seen.items()):
        ms = sorted(part.ms) or [0.0]
        figures = part.seconds, len(part.ms) / part.seconds, ms[len(ms) // 2], part.p99_ms, ms[-1]
        table.add_row(name, str(part.times), *(f"{figure:.1f}" for figure in figures), str(part.lost))
    return table


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)] if values else 0.0
