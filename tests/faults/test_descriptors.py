"""File descriptors run out, or idle clients hold many: dead processes are replaced, and a stop is accepted."""

import os
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.processes.flawed import gateway, kill, metric, release, send_command, until, workers
from tests.running import GatewayProcess
from tests.security.guarded import bearer, guarded
from tests.security.test_commands import command

pytestmark = pytest.mark.slow

NONE_FOR_S = 2.0
CROWD = 300
FEW = 256


@contextmanager
def limited(pid: int, kind: int, most: int) -> Iterator[None]:
    """Set a soft resource limit of the process to `most` for a while."""
    before = resource.prlimit(pid, kind)
    resource.prlimit(pid, kind, (most, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, kind, before)


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


NONE_AT_ALL = 3  # lower than any that could be given back for a moment


@pytest.mark.parametrize("victims", [1, 2])
def test_worker_that_dies_without_free_descriptors_is_replaced(tmp_path: Path, victims: int) -> None:
    with gateway(tmp_path) as running:
        before = workers(running)
        with limited(running.pid, resource.RLIMIT_NOFILE, NONE_AT_ALL):
            for pid in before[:victims]:
                kill(pid)
            spent_s = processor_s(running.pid)
            with socket.create_connection(("127.0.0.1", _control_port(running))):  # which cannot be accepted
                time.sleep(NONE_FOR_S)
            assert processor_s(running.pid) - spent_s < NONE_FOR_S / 2, "control spins"
            assert len(workers(running)) == len(before) - victims
            said = running.log.count("starting worker")
            assert victims <= said <= 2 * victims, running.log
        until(lambda: metric(running, "gateway_workers", state="ready") == 2, "the workers are back")
        assert not set(before[:victims]) & set(workers(running))
        assert send_command(running, "stop").status_code == 200
        assert "succeeded at attempt" in running.log


def _control_port(running: GatewayProcess) -> int:
    return int(running.control_url.rpartition(":")[2])


def test_worker_accepts_connections_again_after_descriptors_ran_out(tmp_path: Path) -> None:
    with gateway(tmp_path, server={"workers": 1}) as running:
        (worker,) = workers(running)
        with limited(worker, resource.RLIMIT_NOFILE, NONE_AT_ALL):
            spent_s = processor_s(worker)
            with socket.create_connection(("127.0.0.1", running.port)):
                time.sleep(NONE_FOR_S)
            assert processor_s(worker) - spent_s < NONE_FOR_S / 2, "the worker spins"
            assert running.log.count("file descriptors have run out") == 1
        until(running.ready, "it answers again")
        assert workers(running) == [worker]


@pytest.mark.parametrize("idle", [0, 20])
def test_stop_is_accepted_while_others_hold_all_descriptors(tmp_path: Path, idle: int) -> None:
    """Idle connections hold them, and whatever else may: the limit is lowered to what is open just now."""
    with gateway(tmp_path) as running, ExitStack() as stack:
        held = fewest(lambda: _connections(running))
        for _ in range(idle):
            stack.enter_context(socket.create_connection(("127.0.0.1", _control_port(running))))
        until(lambda: _connections(running) >= held + idle, "they are accepted")
        with limited(running.pid, resource.RLIMIT_NOFILE, fewest(lambda: _open_descriptors(running.pid))):
            for _ in range(idle + CROWD):  # those that are free below the limit go first
                stack.enter_context(socket.create_connection(("127.0.0.1", _control_port(running))))
                time.sleep(0.1)
                if "file descriptors have run out" in running.log:
                    break
            command(running.config, "stop", "flawed")
            for what in ("resume", "stop"):
                assert send_command(running, what).status_code == 200
        until(lambda: "file descriptors are available again" in running.log, "the need is over")
        assert running.log.count("file descriptors have run out") == 1


def _connections(running: GatewayProcess) -> int:
    """Sockets that the process holds."""
    there = Path(f"/proc/{running.pid}/fd").iterdir()
    return sum(link.startswith("socket:") for file in there if (link := _target(file)))


def _target(file: Path) -> str:
    try:
        return os.readlink(file)
    except OSError:  # it has been closed meanwhile
        return ""


def _open_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def fewest(count: Callable[[], int]) -> int:
    """The least that is counted within a second: without what is there for a moment only."""
    counted = []
    for _ in range(20):
        counted.append(count())
        time.sleep(0.05)
    return min(counted)


def test_health_says_when_no_worker_serves(tmp_path: Path) -> None:
    with gateway(tmp_path) as running:
        assert httpx.get(f"{running.control_url}/health").json().items() >= {"workers": 2, "serving": 2}.items()
        with limited(running.pid, resource.RLIMIT_NOFILE, 8 + _open_descriptors(running.pid)):
            for pid in workers(running):
                os.kill(pid, 19)
                kill(pid)
            until(lambda: _health(running) == 503, "it says that none serves")
        until(running.complete, "it serves again")


def _health(running: GatewayProcess) -> int:
    answer = httpx.get(f"{running.control_url}/health")
    assert answer.status_code == 200 or "none of 2 workers serves" in answer.text
    return answer.status_code


@contextmanager
def crowd(port: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Clients that connect, send part of a request, and nothing more."""
    with ExitStack() as stack:
        there = []
        for _ in range(CROWD):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.sendall(sent)
            there.append(client)
        yield there


HALVES = {
    "nothing": b"",
    "half a head": b"GET /met",
    "half a body": b"POST /api/releases/flawed/stop HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{",
    "one request": b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
}


@pytest.mark.parametrize("sent", HALVES.values(), ids=HALVES)
def test_stop_is_accepted_beside_a_crowd_without_a_key(tmp_path: Path, sent: bytes) -> None:
    guarded_ = guarded(tmp_path)
    with guarded_.gateway as running, few(running.pid), crowd(_control_port(running), sent):
        command(running.config, "stop", "flawed", key=guarded_.keys["all"])
        for what in ("resume", "stop"):
            url = f"{running.control_url}/api/releases/flawed/{what}"
            began_s = time.monotonic()
            assert httpx.post(url, headers=bearer(guarded_.keys["all"])).status_code == 200
            assert time.monotonic() - began_s < 5
        (worker, *_) = workers(running)
        kill(worker)
        until(lambda: worker not in workers(running) and _serving(running) == 2, "the worker is replaced meanwhile")
        stopped = httpx.get(f"{running.control_url}/api/releases/flawed", headers=bearer(guarded_.keys["all"]))
        assert stopped.json()["stopped"]


@contextmanager
def few(pid: int) -> Iterator[None]:
    """Lower `ulimit -n` to 256 for connections from then on."""
    with limited(pid, resource.RLIMIT_NOFILE, FEW):
        yield


def _serving(running: GatewayProcess) -> int:
    serving: int = httpx.get(f"{running.control_url}/health").json().get("serving", 0)
    return serving


def test_active_client_is_answered_in_a_crowd_of_idle_ones(tmp_path: Path) -> None:
    """New connections without a request never displace one that has sent a request."""
    with (
        gateway(tmp_path) as running,
        few(running.pid),
        httpx.Client(base_url=running.control_url) as client,
        crowd(_control_port(running), b""),
    ):
        assert client.get("/health").status_code == 200
        for _ in range(3):
            assert release(running)["stable"] == 1


def test_descriptor_limit_is_raised_to_the_hard_limit(tmp_path: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (FEW, before[1]))
    try:
        with gateway(tmp_path, server={"workers": 1}) as running:
            for pid in (running.pid, *workers(running)):
                soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                assert soft == min(hard, 1 << 20) > FEW
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
