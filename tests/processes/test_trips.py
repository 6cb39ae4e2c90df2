"""What a breaker stops while control is dead or hangs stays stopped, whatever is killed or lost next."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.records.trips import FOLDER
from gateway.shm.claim import memory_path
from gateway.shm.segment import memory_folder
from loadtests.client import Client, Seen
from tests.processes.flawed import PATIENCE_S, gateway, kill, release, requests, send_command, until, workers
from tests.processes.test_death import gateway_again
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

FAILS, GOOD = -1.0, 1.0
CONNECTIONS = 8


@pytest.fixture
def running(tmp_path: Path) -> Iterator[GatewayProcess]:
    """A gateway whose candidates stay in service for a minute after control's death."""
    with gateway(tmp_path, control={"heartbeat_timeout": "60s"}) as started:
        yield started


def kill_control(running: GatewayProcess) -> None:
    kill(running.pid)
    assert running.process is not None
    running.process.wait()


def suspend_control(running: GatewayProcess) -> None:
    os.kill(running.pid, signal.SIGSTOP)


def start_new_gateway(running: GatewayProcess, folder: Path) -> None:
    running.process = gateway_again(running.config, folder)
    until(running.complete, "a new gateway on the same state")


def trip(running: GatewayProcess) -> None:
    """Make the candidate fail until its breaker stops it."""
    with Client(("127.0.0.1", running.port), CONNECTIONS, requests(FAILS), reconnect=True) as client:
        end = time.monotonic() + PATIENCE_S
        while True:
            seen = Seen()
            client.keep_busy(0.1, seen)
            if set(seen.variants) == {"stable"} and on_disk(running):
                break
            assert time.monotonic() < end, seen.variants
    seen = Seen()
    with Client(("127.0.0.1", running.port), CONNECTIONS, requests(GOOD), reconnect=True) as client:
        client.keep_busy(0.2, seen)
    assert set(seen.variants) == {"stable"}, "it is stopped"


def on_disk(running: GatewayProcess) -> bool:
    return any((running.config.parent / "state" / FOLDER).glob("*.json"))


def history(running: GatewayProcess) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = httpx.get(f"{running.control_url}/api/decisions").json()
    return found


def assert_stopped_by_breaker(running: GatewayProcess) -> None:
    found = release(running)
    assert found["stopped"]
    assert found["stop"]["by"] == "breaker"
    assert "failures in a row" in found["stop"]["reason"]
    assert found["stop"] == history(running)[0]
    seen = Seen()
    with Client(("127.0.0.1", running.port), CONNECTIONS, requests(GOOD), reconnect=True) as client:
        client.keep_busy(0.3, seen)
    assert set(seen.variants) == {"stable"}
    until(lambda: not on_disk(running), "the decision is on the disk, and the trip is kept no more")


def workers_too(running: GatewayProcess) -> Callable[[], None]:
    """Returns what kills the workers too: then nothing of the gateway is left but its files."""
    pids = workers(running)

    def killed() -> None:
        for pid in pids:
            kill(pid)
        until(lambda: not any(alive(pid) for pid in pids), "all have ended")

    return killed


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def forget_memory(running: GatewayProcess) -> None:
    """Remove the memory files, as at the end of a container or of the machine."""
    for path in memory_folder().glob(f"{memory_path(running.config.parent / 'state').name}*"):
        path.unlink()


def forget_files(running: GatewayProcess) -> None:
    """Remove the files of decisions, as if the disk had been full."""
    for path in (running.config.parent / "state" / FOLDER).iterdir():
        path.unlink()


@pytest.mark.parametrize("lost", [None, forget_files], ids=["files kept", "files lost"])
def test_trip_while_control_is_dead_survives(
    running: GatewayProcess, tmp_path: Path, lost: Callable[[GatewayProcess], None] | None
) -> None:
    kill_control(running)
    trip(running)
    if lost:
        lost(running)
    start_new_gateway(running, tmp_path)
    assert_stopped_by_breaker(running)
    send_command(running, "resume").raise_for_status()
    assert not release(running)["stopped"]
    running.stop()
    start_new_gateway(running, tmp_path)
    assert not release(running)["stopped"], "it was resumed"


@pytest.mark.parametrize("lost", [forget_files, forget_memory], ids=["files lost", "memory lost"])
def test_trip_while_control_hangs_survives_the_death_of_all(
    running: GatewayProcess, tmp_path: Path, lost: Callable[[GatewayProcess], None]
) -> None:
    killed = workers_too(running)
    suspend_control(running)
    trip(running)
    kill_control(running)
    killed()
    lost(running)
    start_new_gateway(running, tmp_path)
    assert_stopped_by_breaker(running)


def test_trip_while_control_hangs_is_recorded_when_it_continues(running: GatewayProcess) -> None:
    suspend_control(running)
    trip(running)
    os.kill(running.pid, signal.SIGCONT)
    until(lambda: bool(release(running)["stopped"]), "control to see it")
    assert_stopped_by_breaker(running)


def test_resumed_trip_stays_resumed_after_a_kill(running: GatewayProcess, tmp_path: Path) -> None:
    wait_until_trip_is_written(running)
    send_command(running, "resume").raise_for_status()
    killed = workers_too(running)
    kill_control(running)
    killed()
    start_new_gateway(running, tmp_path)
    assert not release(running)["stopped"]
    assert [one["action"] for one in history(running)][:2] == ["resume", "stop"]


def wait_until_trip_is_written(running: GatewayProcess) -> None:
    with Client(("127.0.0.1", running.port), CONNECTIONS, requests(FAILS), reconnect=True) as client:
        until(lambda: (client.keep_busy(0.1, Seen()), bool(release(running)["stopped"]))[1], "control to see it")
    until(lambda: not on_disk(running), "it is on the disk")


def test_stop_that_could_not_be_written_survives_a_kill(running: GatewayProcess, tmp_path: Path) -> None:
    """It was in force and confirmed; only who ordered it is lost."""
    state = tmp_path / "state"
    for name in ("decisions.jsonl", "stops.json"):
        (state / name).unlink(missing_ok=True)
    blocked = [state / name for name in ("decisions.jsonl", "stops.json.new")]
    for path in blocked:  # as a full disk: as root, permissions keep no one out
        path.mkdir()
    assert send_command(running, "stop").status_code == 200
    killed = workers_too(running)
    kill_control(running)
    killed()
    for path in blocked:
        path.rmdir()
    start_new_gateway(running, tmp_path)
    assert release(running)["stopped"]
    assert release(running)["stop"]["by"] == "control"


def test_memory_of_a_killed_gateway_without_trips_stops_nothing(running: GatewayProcess, tmp_path: Path) -> None:
    killed = workers_too(running)
    kill_control(running)
    killed()
    start_new_gateway(running, tmp_path)
    assert not release(running)["stopped"]
    assert isinstance(running.process, subprocess.Popen)
