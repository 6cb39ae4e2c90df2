"""Killed processes: workers are replaced, totals are kept, and without control no candidate is served."""

import contextlib
import os
import subprocess
import sys
from multiprocessing import Pipe
from pathlib import Path

import httpx
import pytest

from gateway.control.pool.worker_handle import WorkerHandle
from gateway.messages import ConfigGeneration, LoadReply
from gateway.settings.routing import RoutingSettings
from gateway.system.scheduling import STARTING_NICENESS, _may_restore_niceness
from loadtests.client import Client, Seen
from tests.processes.flawed import PATIENCE_S, gateway, kill, metric, requests, send_command, until, workers, workers_of
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

KILLS = 5
CONNECTIONS = 8
SERVE = (sys.executable, "-m", "gateway", "serve", "--config")


def test_killed_worker_is_replaced_and_the_totals_are_kept(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        seen, totals = Seen(), [0.0]
        with Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
            for round_ in range(1, KILLS + 1):
                client.keep_busy(0.2, seen)
                kill(workers(running)[round_ % 2])
                while not (restarted(running) == round_ and ready(running) == 2):
                    client.keep_busy(0.05, seen)  # an idle connection would be closed after a while, and be lost
                totals.append(metric(running, "gateway_predictions_total"))
            client.keep_busy(0.2, seen)
            answered = sum(seen.variants.values())
            counted = metric(running, "gateway_predictions_total", outcome="ok")
            assert not seen.failures
            assert answered <= counted <= answered + client.lost
            assert client.lost <= KILLS * CONNECTIONS
        assert totals == sorted(totals), "a total has fallen"
        assert httpx.get(f"{running.control_url}/api/config").json()["acknowledged"] == 2


def test_new_worker_has_low_priority_until_it_serves(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        first = workers(running)
        assert classes(first) == {(os.SCHED_OTHER, 0)}, "no one has served while these started"
        kill(first[0])
        new: list[int] = []
        until(lambda: bool(new.extend(set(workers(running)) - set(first)) or new), "a new one starts")
        until(lambda: classes(new[:1]) == {(os.SCHED_BATCH, niceness())}, "it stands back")
        until(lambda: classes(new[:1]) == {(os.SCHED_OTHER, 0)}, "it serves, with all of its threads")


def classes(pids: list[int]) -> set[tuple[int, int]]:
    """The scheduling class and the niceness of each of their threads."""
    found = set()
    for thread in [int(thread) for pid in pids for thread in os.listdir(f"/proc/{pid}/task")]:
        with contextlib.suppress(ProcessLookupError):  # it has ended since
            found.add((os.sched_getscheduler(thread), os.getpriority(os.PRIO_PROCESS, thread)))
    return found


def niceness() -> int:
    """The niceness of a worker with low priority."""
    return STARTING_NICENESS if _may_restore_niceness() else 0


def restarted(running: GatewayProcess) -> float:
    return metric(running, "gateway_worker_restarts_total")


def ready(running: GatewayProcess) -> float:
    return metric(running, "gateway_workers", state="ready")


def test_without_control_no_candidate_is_served_until_a_new_one_starts(tmp_path: Path) -> None:
    running = gateway(tmp_path, control={"heartbeat_timeout": "500ms"})
    with running:
        seen, orphaned = Seen(), workers(running)
        with Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
            client.keep_busy(0.2, seen)
            assert seen.variants["candidate"] > 0
            kill(running.pid)
            assert running.process is not None
            running.process.wait()
            client.keep_busy(0.6, seen)
            late = Seen()
            client.keep_busy(0.3, late)
            assert late.variants["candidate"] == 0
            assert late.variants["stable"] > 0
            assert not (seen.failures + late.failures)
            again = gateway_again(running.config, tmp_path)
            try:
                until(lambda: healthy(running.control_url), "a new gateway on the same state")
                until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphaned), "the orphans have ended")
                fresh = Seen()
                client.keep_busy(0.5, fresh)
                assert fresh.variants["candidate"] > 0
                assert not fresh.failures
            finally:
                again.terminate()
                assert again.wait(30) == 0
        running.process = again


def test_without_control_load_and_unload_are_refused(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    with running:
        kill(running.pid)
        assert running.process is not None
        running.process.wait()
        for what in ("load", "unload", "load"):
            answer = httpx.post(f"{running.url}/v2/repository/models/flawed/{what}", timeout=PATIENCE_S)
            assert (answer.status_code, "control process is gone" in answer.text) == (400, True)
        running.process = gateway_again(running.config, tmp_path)
        until(running.complete, "a new gateway on the same state")


def test_message_to_a_dead_worker_is_dropped() -> None:
    """A load that it requested may be granted after its death."""
    ours, _ = Pipe()
    process = subprocess.Popen(["true"])
    process.wait()
    member = WorkerHandle(
        0,
        process,
        ours,
        ConfigGeneration(generation=1, routing=RoutingSettings(), versions={}, releases={}, unavailable={}),
    )
    member.close()
    member.send(LoadReply(1, ""))


def test_orphans_serve_no_candidate_once_a_new_control_accepts_orders(tmp_path: Path) -> None:
    """The new control accepts orders before its workers are ready; the orphans alone would go on for a minute."""
    running = gateway(tmp_path, control={"heartbeat_timeout": "60s"})
    with running:
        kill(running.pid)
        assert running.process is not None
        running.process.wait()
        running.process = gateway_again(running.config, tmp_path)
        until(lambda: stopped(running), "the new control to take an order")
        seen = Seen()
        with Client(("127.0.0.1", running.port), CONNECTIONS, requests(1.0), reconnect=True) as client:
            client.keep_busy(0.5, seen)
        assert set(seen.variants) == {"stable"}
        until(running.complete, "its own workers")


def stopped(running: GatewayProcess) -> bool:
    try:
        return send_command(running, "stop").status_code == 200
    except httpx.TransportError:
        return False


def test_workers_starting_when_control_was_killed_do_not_block_a_restart(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    first = gateway_again(running.config, tmp_path)
    orphaned: list[int] = []
    until(lambda: bool(orphaned.extend(workers_of(first.pid)) or orphaned), "a worker")
    kill(first.pid)
    first.wait()
    with running:
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in orphaned), "the orphans have ended")
        assert len(workers(running)) == 2


def gateway_again(config: Path, folder: Path) -> "subprocess.Popen[bytes]":
    with (folder / "again").open("wb") as log:
        return subprocess.Popen([*SERVE, str(config)], stdout=log, stderr=log)


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def test_second_gateway_on_the_same_state_is_refused(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        second = subprocess.run([*SERVE, str(running.config)], capture_output=True, text=True, timeout=30, check=False)
        assert second.returncode == 1
        assert "another gateway is using" in second.stderr
