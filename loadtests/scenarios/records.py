"""What recording every prediction costs, what a broken disk costs, and that no record is lost to kill -9 or memory."""

import os
import random
import signal
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.progress import track

from loadtests import models, servers
from loadtests.client import Client, request
from loadtests.recorded import Compared, Told, compared
from loadtests.report import Line, report, write
from loadtests.rounds import alternate, line
from loadtests.scenarios.overhead import BODY, LOAD, ROUTING
from loadtests.wrk import background

KILLS: Final = 20
CONNECTIONS: Final = 16
SATURATING: Final = 32
SOAK_RECORDS: Final = {"segment": "16MiB", "retain": "256MiB"}  # ten minutes of it would fill a small disk
GROWTH_AT_MOST: Final = 1.05
SLACK_KIB: Final = 2048  # what an allocator may hold on to
WARM: Final = 1 / 3  # of a soak: buffers and caches find their size


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """`rounds` · `seconds` is also the length of the soak: 10 rounds of 60 seconds are ten minutes at saturation."""
    models.tiny(folder / "models")
    lines = _cost(folder, rounds, seconds)
    met = report("records", lines)
    exact = _killed(folder / "killed", folder / "models", KILLS if rounds >= 5 else 4 * rounds)
    flat = _soaked(folder / "soaked", folder / "models", rounds * seconds)
    return met and exact and flat


def _cost(folder: Path, rounds: int, seconds: int) -> list[Line]:
    place = folder / "models", ROUTING, "tiny"
    unwritable = folder / "unwritable"
    (unwritable / "state").mkdir(parents=True)
    (unwritable / "state" / "records").write_bytes(b"a file where the folder should be")
    with servers.gateway(folder / "full", *place) as full:
        with servers.gateway(folder / "off", *place, records={"sample": "0%"}) as off:
            recording = alternate((off, full), LOAD, [SATURATING], rounds, seconds)[SATURATING]
        with servers.gateway(unwritable, *place) as broken:
            dropping = alternate((full, broken), LOAD, [SATURATING], rounds, seconds)[SATURATING]
            (unwritable / "state" / "records").unlink()  # else what waits would stay in memory for a next start
    return [
        line("full records against none, requests", "/s", recording, lambda m: m.per_s, 0.90, True),
        line("full records against none, p99", "µs", recording, lambda m: m.p99_us, 1.2, False),
        line("no place to write against one, requests", "/s", dropping, lambda m: m.per_s, 0.90, True),
        line("no place to write against one, p99", "µs", dropping, lambda m: m.p99_us, 1.2, False),
    ]


def _killed(folder: Path, models_folder: Path, kills: int) -> bool:
    """Workers at random under saturation, then everything; then a new gateway on the same state."""
    post = request("/v2/models/tiny/infer", BODY)
    generator, told = random.Random(0), Told()
    with servers.fleet(folder, models_folder, ROUTING, workers=2) as running:
        with Client(running.address, CONNECTIONS, lambda: post, reconnect=True) as client:
            for number in track(range(1, kills + 1), "killing workers", transient=True):
                client.keep_busy(0.1 + generator.random() / 5, told)
                os.kill(generator.choice(running.worker_pids()), signal.SIGKILL)
                while not _restarted(running, number):
                    client.keep_busy(0.05, told)
        for pid in (running.process.pid, *running.worker_pids()):
            os.kill(pid, signal.SIGKILL)
        running.process.wait()
    with servers.fleet(folder, models_folder, ROUTING, workers=2):
        pass  # its start takes over what was not written, its end seals it
    found = compared(folder / "state" / "records", told.ids)
    _tell(kills, found, told)
    write("records-killed", {**asdict(found), "kills": kills, "failures": dict(told.failures)})
    return found.exact and not told.failures


def _tell(kills: int, found: Compared, told: Told) -> None:
    Console().print(
        f"{kills} workers killed, then everything: {found.answered:,} predictions answered, {found.recorded:,}"
        f" recorded; {found.missing} missing, {found.twice} twice, {found.torn} torn; failed otherwise"
        f" {sum(told.failures.values())}"
    )


def _soaked(folder: Path, models_folder: Path, seconds: int) -> bool:
    """Memory over time at saturation: of each process, what it has allocated itself, every second."""
    with servers.fleet(folder, models_folder, ROUTING, workers=2, records=SOAK_RECORDS) as running:
        host, port = running.address
        pids = {"control": running.process.pid}
        pids |= {f"worker {index}": pid for index, pid in enumerate(running.worker_pids())}
        seen: dict[str, list[int]] = {name: [] for name in pids}
        with background(f"http://{host}:{port}/v2/models/tiny/infer", LOAD, SATURATING) as end:
            for _ in track(range(seconds), "soaking", transient=True):
                time.sleep(1)
                for name, pid in pids.items():
                    seen[name].append(_allocated_kib(pid))
            failed = end()
    grown = {name: _growth(kib) for name, kib in seen.items()}
    met = not failed and all(ratio <= GROWTH_AT_MOST or kib <= SLACK_KIB for ratio, kib in grown.values())
    said = ", ".join(
        f"{name} {seen[name][-1] / 1024:.1f} MiB (ratio {ratio:.3f})" for name, (ratio, _) in grown.items()
    )
    Console().print(f"{seconds} s of soak, {failed} failed, memory at the end and against its first half: {said}")
    write("records-soak", {"seconds": seconds, "failed": failed, "kib": seen, "met": met})
    return met


def _growth(kib: list[int]) -> tuple[float, int]:
    """The last quarter's mean against that of the quarter after the warm-up: their ratio and difference."""
    warm = kib[int(len(kib) * WARM) :] or kib
    part = max(1, len(warm) // 4)
    early, late = sum(warm[:part]) / part, sum(warm[-part:]) / part
    return late / early, round(late - early)


def _allocated_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0])


def _restarted(running: servers.Running, times: int) -> bool:
    samples = _samples(running)
    ready = sum(s.value for s in samples if s.name == "gateway_workers" and s.labels["state"] == "ready")
    return bool(ready == 2 and times == sum(s.value for s in samples if s.name == "gateway_worker_restarts_total"))


def _samples(running: servers.Running) -> list[Any]:
    text = httpx.get(f"{running.control_url}/metrics").text
    return [sample for family in text_string_to_metric_families(text) for sample in family.samples]
