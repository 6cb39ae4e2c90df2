"""Everything at once, in a random order that a seed repeats: no promise is broken by any of it.

Stops, resumes, edits, loads, kills and suspensions of workers and control follow each other, while the disk fills up,
clients do not read and many read the control plane. Clocks are not moved: they are the whole machine's.
"""

import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress

from loadtests import chaos, models, servers
from loadtests.recorded import Compared, Told, compared
from loadtests.report import write

SEED: Final = 13
CALM_S: Final = 3.0
P99_RATIO: Final = 3.0


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` · `seconds` long: 10 rounds of 60 seconds are ten minutes."""
    models.tiny(folder / "models")
    generator, told = random.Random(SEED), Told()
    done: Counter[str] = Counter()
    with chaos.small_disk(folder / "state") as has_disk:
        records = {"segment": "8MiB", "ring": "64MiB"}  # while control is dead nothing is drained: for some 10 s
        place = folder, folder / "models", chaos.routing(50), chaos.WORKERS
        with servers.fleet(*place, records=records) as running:
            crowd = chaos.Crowd(running.address, told)
            rig = chaos.Rig(folder, running, crowd, told, generator)
            try:
                time.sleep(CALM_S)
                calm_ms = _p99(told.ms)
                _disturb(rig, rounds * seconds, done)
                rig.recovered()
            finally:
                crowd.end()
                servers.end(rig.running)
        found = compared(folder / "state" / "records", told.ids)
    return _judge(rig, found, calm_ms, done, has_disk)


def _disturb(rig: chaos.Rig, seconds: float, done: Counter[str]) -> None:
    end = time.monotonic() + seconds
    with Progress(transient=True) as progress:
        task = progress.add_task("disturbing", total=seconds)
        while (left_s := end - time.monotonic()) > 0:
            progress.update(task, completed=seconds - left_s)
            beside = rig.generator.choice(chaos.BESIDE)
            thread = threading.Thread(target=beside, args=(rig,))
            thread.start()
            for action in rig.generator.choices(chaos.ALONE, k=3):
                lost, deaths = rig.crowd.lost, rig.deaths
                action(rig)
                done[action.__name__] += 1
                if rig.crowd.lost > lost and rig.deaths == deaths:
                    rig.wrong.append(f"{rig.crowd.lost - lost} requests lost during {action.__name__}")
            thread.join()
            done[beside.__name__] += 1


def _judge(rig: chaos.Rig, found: Compared, calm_ms: float, done: Counter[str], has_disk: bool) -> bool:
    told, ratio = rig.told, _p99(rig.told.ms) / calm_ms
    checks = {
        f"{rig.stops} stops, {rig.late} late answers of a candidate": not rig.late,
        f"{found.answered:,} predictions answered, {found.missing} not recorded, {found.twice} twice,"
        f" {found.torn} torn": found.exact,
        f"{sum(told.failures.values())} requests failed {dict(told.failures.most_common(3))}": not told.failures,
        f"{rig.crowd.lost} lost, {rig.deaths} workers were killed with some in hand": (
            rig.crowd.lost <= rig.deaths * chaos.CONNECTIONS
        ),
        f"p99 {_p99(told.ms):.2f} ms, {ratio:.2f} x of the calm before (at most {P99_RATIO:g})": ratio <= P99_RATIO,
        f"{len(rig.wrong)} orders and recoveries not as they should be {rig.wrong[:3]}": not rig.wrong,
    }
    console = Console()
    console.print(f"disturbed by {dict(done)}{'' if has_disk else '; no disk of its own to fill'}")
    for text, met in checks.items():
        console.print(f"[green]met[/green]    {text}" if met else f"[red]missed[/red] {text}")
    write("chaos", {"done": done, "checks": checks, "wrong": rig.wrong, "stop_ms": rig.stop_ms})
    return all(checks.values())


def _p99(values: list[float]) -> float:
    return sorted(values)[int(len(values) * 0.99)]
