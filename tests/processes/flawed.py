"""A gateway of two workers whose candidate has a flaw, and requests that trigger it."""

import contextlib
import itertools
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from loadtests import models
from loadtests.client import request
from tests.running import GatewayProcess

PATIENCE_S = 60.0  # a second where nothing else runs
SPLIT = {"stickiness": "prediction", "routes": [{"name": "everyone", "weight": 50}]}
ROUTING = {"models": {"flawed": {"stable": 1, "candidate": 2, "split": SPLIT}}}


def gateway(folder: Path, flaw: str = "nan", **settings: Any) -> GatewayProcess:
    """Two workers; half of the predictions go to a candidate that fails on rows that begin below 0."""
    models.flawed(folder / "models", flaw)
    server = {"workers": 2, **settings.pop("server", {})}
    return GatewayProcess(folder, folder / "models", ROUTING, server=server, **settings)


def body(first: float) -> bytes:
    row = [first, 1.0, 2.0, 3.0]
    return json.dumps({"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": row}]}).encode()


def requests(*firsts: float) -> Callable[[], bytes]:
    """Requests with these first values, one after the other, again and again."""
    turns = itertools.cycle([request("/v2/models/flawed/infer", body(first)) for first in firsts])
    return lambda: next(turns)


def release(running: GatewayProcess) -> Any:
    return httpx.get(f"{running.control_url}/api/releases/flawed").json()


def send_command(running: GatewayProcess, what: str) -> httpx.Response:
    return httpx.post(f"{running.control_url}/api/releases/flawed/{what}", json={"reason": "a test"})


def workers(running: GatewayProcess) -> list[int]:
    """The worker processes that are alive now."""
    return workers_of(running.pid)


def workers_of(control: int) -> list[int]:
    """The worker processes of a control process."""
    children = Path(f"/proc/{control}/task/{control}/children").read_text().split()
    return [int(pid) for pid in children if "gateway.worker" in command_of(int(pid))]


def children(pid: int) -> list[int]:
    """The children of a process, by whichever of its threads; none where it has ended."""
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # that thread has ended since
            found += map(int, file.read_text().split())
    return found


def command_of(pid: int) -> str:
    """A process's command line; empty where it has ended."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


def until(condition: Callable[[], bool], what: str, patience_s: float = PATIENCE_S) -> None:
    end = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < end, f"not within {patience_s:g} s: {what}"
        time.sleep(0.02)


def suspend(pid: int) -> None:
    """Stop a process; returns once it runs no more."""
    os.kill(pid, signal.SIGSTOP)
    stat = Path(f"/proc/{pid}/stat")
    until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "it is suspended")


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def metric(running: GatewayProcess, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    found = 0.0
    for line in httpx.get(f"{running.control_url}/metrics", timeout=PATIENCE_S).text.splitlines():
        if line.startswith((name + "{", name + " ")) and all(f'{k}="{v}"' in line for k, v in labels.items()):
            found += float(line.rpartition(" ")[2])
    return found


@pytest.fixture
def running(tmp_path: Path) -> Iterator[GatewayProcess]:
    with gateway(tmp_path) as started:
        yield started
