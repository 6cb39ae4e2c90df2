"""kill -9 of a candidate's process, 50 times, at least 8 calls inside each time: nothing failed, all recorded once.

`rounds` below 5 kills less often. After each early death the next process starts later, up to ten seconds.
"""

import os
import signal
import time
from pathlib import Path

import httpx
import orjson
from rich.console import Console
from rich.progress import track

from loadtests import models, servers
from loadtests.client import Client, request
from loadtests.recorded import Told, compared
from loadtests.report import write
from loadtests.servers import Running

KILLS = 50
INSIDE = 8
CONNECTIONS = 32
LOAD_S = 0.3  # before each kill
WAIT_S = 60.0
NAME = "heavy"


def run(folder: Path, rounds: int, seconds: int) -> bool:
    """Two workers, all traffic to the candidate. A kill counts if at least 8 calls were in the process."""
    models.heavy(folder / "models", NAME)
    (folder / "models" / NAME / "2").mkdir()
    file = folder / "models" / NAME / "1" / "model.onnx"
    (folder / "models" / NAME / "2" / "model.onnx").write_bytes(file.read_bytes())
    kills = KILLS if rounds >= 5 else 4 * rounds
    post = request(f"/v2/models/{NAME}/infer", _body())
    told, inside = Told(), []
    with (
        servers.fleet(folder, folder / "models", _routing(), workers=2) as running,
        Client(running.address, CONNECTIONS, lambda: post) as client,
    ):
        for _ in track(range(kills), "killing the candidate's process", transient=True):
            while True:
                client.keep_busy(LOAD_S, told)
                lost = _kill(running, client, told)
                if lost >= INSIDE:
                    break
            inside.append(lost)
        client.keep_busy(LOAD_S, told)
        stopped = httpx.get(f"{running.control_url}/api/releases/{NAME}", timeout=30).json()["stopped"]
    found = compared(folder / "state" / "records", told.ids)
    failed = sum(told.failures.values())
    met = found.exact and not failed and not stopped and told.variants["candidate"] > 0
    Console().print(
        f"{kills} kills with {min(inside)} to {max(inside)} calls inside: {found.answered:,} answered, {failed} failed;"
        f" records missing {found.missing}, twice {found.twice}, torn {found.torn}; stopped: {stopped}"
    )
    write("process_kills", {"answered": found.answered, "failed": failed, "inside": inside, "met": met})
    return met


def _kill(running: Running, client: Client, told: Told) -> int:
    """Kill the process once its calls are in it; returns how many were lost with it, and rescued by stable."""
    end_s = time.monotonic() + WAIT_S
    answered = told.variants["candidate"]
    while told.variants["candidate"] == answered:  # until the next process serves
        if time.monotonic() > end_s:
            raise SystemExit("the candidate's process is not started again")
        client.keep_busy(0.1, told)
    client.keep_busy(0.1, told)  # both workers have connected
    before = told.variants["stable"]
    client.send()
    time.sleep(0.006)
    os.kill(_version_pid(running), signal.SIGKILL)
    for answer in client.rest():
        told.add(answer)
    return told.variants["stable"] - before


def _version_pid(running: Running) -> int:
    """The process of the candidate, the child of the template."""
    for child in _children(running.process.pid):
        if b"gateway.backends.process" in Path(f"/proc/{child}/cmdline").read_bytes():
            return _children(child)[0]
    raise SystemExit("there is no template of processes")


def _children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


def _body() -> bytes:
    tensor = {"name": "x", "shape": [1, 8, 16, 16], "datatype": "FP32", "data": [0.5] * 2048}
    return orjson.dumps({"inputs": [tensor]})


def _routing() -> dict[str, object]:
    split = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 100}]}
    guards = {"breaker": {"crashes": 1000, "consecutive_failures": 1000}}
    return {"models": {NAME: {"stable": 1, "candidate": 2, "split": split, "guards": guards}}}
