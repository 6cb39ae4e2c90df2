"""No worker accepts connections before all can; later ones do at once, and get their share."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection
from pathlib import Path
from typing import Any

import pytest

from loadtests.client import Client, Seen
from tests.processes.flawed import gateway, kill, metric, requests, until, workers
from tests.running import GatewayProcess

CONNECTIONS = 40


def started(folder: Path, **settings: Any) -> GatewayProcess:
    """A gateway that is starting, without waiting for it."""
    running = gateway(folder, **settings)
    with (folder / "log").open("wb") as log:
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(running.config)]
        running.process = subprocess.Popen(command, stdout=log, stderr=log)
    return running


def listens(running: GatewayProcess) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", running.port)) == 0


def states(running: GatewayProcess, state: str) -> float:
    try:
        return metric(running, "gateway_workers", state=state)
    except Exception:  # control's port is not there yet
        return -1.0


def suspend_starting_worker(running: GatewayProcess, besides: Collection[int] = ()) -> int:
    """Suspend a worker that is still starting and is none of `besides`; returns its pid."""
    found: list[int] = []
    until(lambda: bool(found.extend(pid for pid in workers(running) if pid not in besides) or found), "a worker")
    os.kill(found[0], signal.SIGSTOP)
    return found[0]


@pytest.mark.slow
def test_no_worker_listens_before_all_are_warm(tmp_path: Path) -> None:
    running = started(tmp_path)
    held = suspend_starting_worker(running)
    try:
        until(lambda: states(running, "warm") == 1, "the other one is warm")
        end_s = time.monotonic() + 1.0
        while time.monotonic() < end_s:
            assert not listens(running)
            assert not running.complete()
            time.sleep(0.05)
        os.kill(held, signal.SIGCONT)
        until(running.ready, "ready")
        assert states(running, "ready") == 2, "it said that it was ready before all were"
        with Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
            client.keep_busy(1.5, Seen())
            shares = [metric(running, "gateway_connections", worker=str(w), state="open") for w in (0, 1)]
        assert min(shares) >= CONNECTIONS / 8, shares
    finally:
        assert running.stop() == 0


@pytest.mark.slow
def test_worker_that_dies_repeatedly_does_not_hold_up_the_others(tmp_path: Path) -> None:
    running = started(tmp_path)
    held = suspend_starting_worker(running)
    try:
        until(lambda: states(running, "warm") == 1, "the other one is warm")
        (warm,) = [pid for pid in workers(running) if pid != held]
        kill(held)
        kill(
            suspend_starting_worker(running, besides=(warm, held))
        )  # the one that was killed is listed for a moment yet
        until(lambda: listens(running) and running.ready(), "the other one serves")
        until(lambda: states(running, "ready") == 2, "the third try joins it")
    finally:
        assert running.stop() == 0


@pytest.mark.slow
def test_new_worker_gets_its_share_within_30_seconds_of_a_death(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        seen = Seen()
        with Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
            client.keep_busy(2.0, seen)
            kill(workers(running)[0])
            lost = -1
            ready_s = 0.0
            while not ready_s or time.monotonic() - ready_s < 30:
                client.keep_busy(0.2, seen)
                if not ready_s and states(running, "ready") == 2 and metric(running, "gateway_worker_restarts_total"):
                    ready_s, lost = time.monotonic(), client.lost
            shares = [metric(running, "gateway_connections", worker=str(w), state="busy") for w in (0, 1)]
        assert min(shares) >= 0.75 * CONNECTIONS / 2, shares
        assert client.lost == lost, "sharing out again has cost answers"
        assert not seen.failures
