"""What disturbs a gateway in `loadtests chaos`: each a function of the rig, which puts right what it has broken."""

import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import yaml

from loadtests import servers
from loadtests.client import Client, request
from loadtests.clock import WallClock
from loadtests.crowd import Crowd
from loadtests.recorded import Told
from loadtests.scenarios.overhead import BODY

MODEL: Final = "tiny"
INFER: Final = request(f"/v2/models/{MODEL}/infer", BODY)
WORKERS: Final = 2
STATE_MIB: Final = 8192  # of a disk of its own, in memory: ten minutes of records are 4 to 6 GiB
BACK_WITHIN_S: Final = 60.0
FULL_S: Final = 1.0  # as long a worker's ring takes what a disk does not
READERS: Final = 40
READING_S: Final = 2.0
CLOCK_S: Final = 3600.0
LOAD_REFUSED: Final = (  # the latter by a worker of the control process that was killed last, which still serves
    "was edited again while this edit was being checked", "the control process is gone",
)  # fmt: skip


@dataclass
class Rig:
    """A gateway under load, and what its checker has found so far.

    `deaths`: workers that were killed. `late`: answers of a candidate after its stop had returned.
    """

    folder: Path
    running: servers.Running
    crowd: Crowd
    told: Told
    generator: random.Random
    clock: WallClock
    deaths: int = 0
    stops: int = 0
    late: int = 0
    stopped: bool = False
    by_candidate: int = 0  # answers of the candidate by the time of the last stop
    stop_ms: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def control(self) -> str:
        return self.running.control_url

    def until(self, holds: Callable[[], bool], what: str) -> None:
        """Wait; what does not come is noted as wrong."""
        end = time.monotonic() + BACK_WITHIN_S
        while not holds():
            if time.monotonic() > end:
                self.wrong.append(f"{what}: not within {BACK_WITHIN_S:g} s")
                return
            time.sleep(0.05)

    def recovered(self) -> None:
        """Wait until all workers serve."""
        self.until(lambda: servers.healthy(self.running), "all workers serve")

    def count_late(self) -> None:
        """While the candidate is stopped it answers no one, whatever has been killed, edited or set since."""
        if self.stopped:
            self.crowd.between(lambda client: None)
            counted, self.by_candidate = self.by_candidate, self.told.variants["candidate"]
            self.late += self.by_candidate - counted

    def post(self, path: str, document: Any) -> httpx.Response:
        return httpx.post(f"{self.control}{path}", json=document, timeout=30)


Action = Callable[[Rig], None]


def stop(rig: Rig) -> None:
    """The promise itself: what is sent after the stop has returned holds no answer of the candidate."""

    def stopping(client: Client) -> None:
        client.send()
        started = time.perf_counter()
        answer = rig.post(f"/api/releases/{MODEL}/stop", {"reason": "chaos"})
        rig.stop_ms.append((time.perf_counter() - started) * 1e3)
        before = client.there()
        after = client.rest()
        for item in (*before, *after):
            rig.told.add(item)
        if answer.status_code == 200:
            rig.stops += 1
            rig.stopped = True
            rig.late += sum(item.variant == "candidate" for item in after)
        elif answer.status_code != 409 or not rig.stopped:
            rig.wrong.append(f"stop: {answer.status_code} {answer.text[:200]}")
        rig.by_candidate = rig.told.variants["candidate"]

    rig.count_late()
    rig.crowd.between(stopping)
    time.sleep(0.3)
    rig.count_late()


def resume(rig: Rig) -> None:
    """And the candidate is asked again."""
    if not rig.stopped:
        return
    rig.count_late()
    answer = rig.post(f"/api/releases/{MODEL}/resume", {"reason": "chaos"})
    if answer.status_code != 200:
        rig.wrong.append(f"resume: {answer.status_code} {answer.text[:200]}")
    rig.stopped = False


def edit(rig: Rig) -> None:
    """By hand: another weight."""
    rig.running.routing_file.write_text(yaml.safe_dump(routing(rig.generator.randrange(20, 80))))


def edit_badly(rig: Rig) -> None:
    """Cut short, or of a version that is not there; then as it was."""
    good = rig.running.routing_file.read_text()
    cut = good[: rig.generator.randrange(len(good))]
    rig.running.routing_file.write_text(rig.generator.choice([cut, good.replace("candidate: 2", "candidate: 9")]))
    time.sleep(0.6)
    rig.running.routing_file.write_text(good)


def command(rig: Rig) -> None:
    """The weight, by the API."""
    body = {"percent": rig.generator.randrange(20, 80), "route": "everyone", "reason": "chaos"}
    answer = rig.post(f"/api/releases/{MODEL}/weight", body)
    if answer.status_code not in (200, 409):  # another edit was under way
        rig.wrong.append(f"weight: {answer.status_code} {answer.text[:200]}")


def load(rig: Rig) -> None:
    """The candidate's files once more."""
    host, port = rig.running.address
    answer = httpx.post(f"http://{host}:{port}/v2/repository/models/{MODEL}/load", timeout=30)
    refused = answer.status_code == 400 and any(reason in answer.text for reason in LOAD_REFUSED)
    if answer.status_code not in (200, 409) and not refused:
        rig.wrong.append(f"load: {answer.status_code} {answer.text[:200]}")


def kill_worker(rig: Rig) -> None:
    rig.deaths += 1
    pid = rig.generator.choice(rig.running.worker_pids())
    os.kill(pid, signal.SIGKILL)
    time.sleep(rig.generator.random())
    rig.until(lambda: pid not in rig.running.worker_pids(), "the death of a worker is noticed")
    rig.recovered()  # else the next one might be the last that serves, and every connection is refused


def kill_control(rig: Rig) -> None:
    """Its workers go on, and lose no one when they leave; the next control takes over what they have recorded."""
    rig.running.process.kill()
    rig.running.process.wait()
    time.sleep(rig.generator.random())
    rig.running = servers.begin_again(rig.running, rig.folder)
    rig.recovered()


def suspend_worker(rig: Rig) -> None:
    """Shorter than what a silent worker is killed for."""
    _suspended(rig.generator.choice(rig.running.worker_pids()), 0.2 + rig.generator.random())


def suspend_control(rig: Rig) -> None:
    _suspended(rig.running.process.pid, 0.2 + 2 * rig.generator.random())


def set_clock(rig: Rig) -> None:
    """The gateway's wall clock, back or ahead; it stays so until it is set again, restarts or not."""
    rig.clock.set(rig.generator.uniform(-CLOCK_S, CLOCK_S))
    time.sleep(rig.generator.random())


def fill_disk(rig: Rig) -> None:
    """Not a byte is left for a second; where the state is not on a disk of its own, nothing is filled."""
    if not os.path.ismount(rig.folder / "state"):
        return
    filler = rig.folder / "state" / "filler"
    with filler.open("wb", buffering=0) as file:
        _reserve(file.fileno(), shutil.disk_usage(filler.parent).free)
        with contextlib.suppress(OSError):
            while file.write(bytes(1 << 12)):
                pass
    time.sleep(FULL_S)
    filler.unlink()


def slow_readers(rig: Rig) -> None:
    """Clients that ask on and on and never read."""
    with contextlib.ExitStack() as stack:
        for _ in range(READERS):
            with contextlib.suppress(OSError):  # while workers are replaced
                connection = stack.enter_context(socket.create_connection(rig.running.address))
                connection.setblocking(False)
                for _ in range(200):
                    connection.send(INFER)
        time.sleep(READING_S)


def scrapes(rig: Rig) -> None:
    """Many who read the control plane at once."""
    end = time.monotonic() + READING_S

    def read() -> None:
        with httpx.Client(base_url=rig.control, timeout=30) as client:
            while time.monotonic() < end:
                with contextlib.suppress(httpx.HTTPError):
                    for path in ("/metrics", "/api/releases", "/api/decisions", "/"):
                        client.get(path)

    threads = [threading.Thread(target=read) for _ in range(READERS // 4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


ALONE: Final = (
    kill_worker,
    kill_control,
    suspend_worker,
    suspend_control,
    set_clock,
    stop,
    resume,
    edit,
    edit_badly,
    command,
    load,
)
BESIDE: Final = (fill_disk, slow_readers, scrapes)  # while one of the others is under way


def routing(weight: float) -> dict[str, Any]:
    """Half to each; a candidate that is never to blame."""
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": weight}]}
    return {"models": {MODEL: {"stable": 1, "candidate": 2, "split": split}}}


@contextlib.contextmanager
def small_disk(folder: Path) -> Iterator[bool]:
    """A disk of its own, in memory, that can be filled; False where only root could have one."""
    folder.mkdir(parents=True)
    if os.geteuid() != 0 or shutil.which("mount") is None:
        yield False
        return
    mount = ["mount", "-t", "tmpfs", "-o", f"size={STATE_MIB}m,mode=0700", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        yield False
        return
    try:
        yield True
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def _reserve(file: int, size: int) -> None:
    """Without writing it, which would take seconds; less if others have taken some meanwhile."""
    with contextlib.suppress(OSError):
        os.posix_fallocate(file, 0, size - (1 << 20))
        os.lseek(file, 0, os.SEEK_END)


def _suspended(pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    try:
        time.sleep(seconds)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGCONT)
