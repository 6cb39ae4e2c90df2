"""The servers under test: each a process of its own on core 0, gone when its context ends."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import httpx
import yaml

from loadtests.free_port import free_port
from loadtests.leftovers import MARK

SERVER_CORE = 0
READY_WITHIN_S = 60.0


@dataclass(frozen=True, slots=True)
class Started:
    """A server that listens."""

    url: str
    process: "subprocess.Popen[bytes]"

    def cpu_s(self) -> float:
        """Processor time that it and its descendants have taken so far, in seconds."""
        return sum(map(_cpu_s, with_descendants(self.process.pid)))


@contextmanager
def bare(model: Path, *mode: str) -> Iterator[str]:
    """The bare server; yields its URL."""
    port = free_port()
    with started([sys.executable, "-m", "loadtests.bare", str(model), str(port), *mode], port) as server:
        yield f"{server.url}/"


@contextmanager
def gateway(folder: Path, models: Path, routing: Any, model: str, **more: Any) -> Iterator[str]:
    """The gateway with this routing; yields the URL that `model` is inferred at. `more`: settings of gateway.yaml."""
    with pinned_gateway(folder, models, routing, **more) as server:
        yield f"{server.url}/v2/models/{model}/infer"


@contextmanager
def pinned_gateway(
    folder: Path, models: Path, routing: Any, checkout: Path | None = None, **more: Any
) -> Iterator[Started]:
    """The gateway with this routing and one worker; `checkout`: the folder of another checkout to run it from."""
    port = free_port()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "routing.yaml").write_text(yaml.safe_dump(routing))
    settings = {
        "server": {"port": port, "workers": 1},
        "control": {"port": free_port()},
        "models": {"path": str(models)},
        "routing": str(folder / "routing.yaml"),
        "state": str(folder / "state"),
        **more,
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml")]
    with started(command, port, folder=checkout) as server:
        yield server


@dataclass(frozen=True, slots=True)
class Running:
    """A gateway of several workers, on all cores."""

    address: tuple[str, int]
    control_url: str
    process: "subprocess.Popen[bytes]"
    routing_file: Path
    environment: Mapping[str, str]

    @property
    def ports(self) -> tuple[int, int]:
        """Those of the data and control planes."""
        return self.address[1], int(self.control_url.rpartition(":")[2])

    def worker_pids(self) -> list[int]:
        """The workers that live now; trials and the process that renders pages are children too, and none."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        return [int(pid) for pid in children if _is_worker(int(pid))]


def healthy(running: Running) -> bool:
    """Whether control says that all workers serve; its status alone says so of one."""
    try:
        answer = httpx.get(f"{running.control_url}/health")
    except httpx.TransportError:
        return False
    return answer.status_code == 200 and answer.json()["serving"] == answer.json()["workers"]


def ready(running: Running) -> bool:
    """Whether a worker says so: what a load balancer asks."""
    return _answers("http://{}:{}/v2/health/ready".format(*running.address))


@contextmanager
def fleet(
    folder: Path,
    models: Path,
    routing: Any,
    workers: int,
    begun: Callable[[Running], bool] = healthy,
    within_s: float = READY_WITHIN_S,
    environment: Mapping[str, str] = MappingProxyType({}),
    load_timeout: str = "300s",
    **settings: Any,
) -> Iterator[Running]:
    """The gateway with `workers` workers, unpinned, once it has `begun`; `environment`: variables more than ours;
    `settings` are more of gateway.yaml.
    """
    folder.mkdir(parents=True, exist_ok=True)
    routing_file = folder / "routing.yaml"
    routing_file.write_text(yaml.safe_dump(routing))
    port, control = free_port(), free_port()
    document = {
        "server": {"port": port, "workers": workers},
        "control": {"port": control},
        "models": {"path": str(models), "load_timeout": load_timeout},
        "routing": str(routing_file),
        "state": str(folder / "state"),
        **settings,
    }
    (folder / "gateway.yaml").write_text(yaml.safe_dump(document))
    process = _serve(folder, environment)
    running = Running(("127.0.0.1", port), f"http://127.0.0.1:{control}", process, routing_file, environment)
    try:
        _wait_until(begun, running, folder / "log", within_s)
        yield running
    finally:
        end(running)


def begin_again(ended: Running, folder: Path) -> Running:
    """The same gateway, in a new process, which may not serve yet."""
    return replace(ended, process=_serve(folder, ended.environment))


def end(running: Running) -> None:
    """Have it end in good order; nothing where it has ended already."""
    running.process.terminate()
    try:
        running.process.wait(30)
    except subprocess.TimeoutExpired:
        running.process.kill()
        running.process.wait()


def _serve(folder: Path, environment: Mapping[str, str]) -> "subprocess.Popen[bytes]":
    environment = {**os.environ, **environment, MARK: str(folder / "state")}
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(folder / "gateway.yaml")]
    with (folder / "log").open("ab") as log:
        return subprocess.Popen(command, stdout=log, stderr=log, env=environment)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False


def _wait_until(begun: Callable[[Running], bool], running: Running, log: Path, within_s: float) -> None:
    end = time.monotonic() + within_s
    while True:
        if running.process.poll() is not None or time.monotonic() > end:
            raise SystemExit(f"the gateway does not serve:\n{log.read_text()}")
        if begun(running):
            return
        time.sleep(0.02)


@contextmanager
def started(command: list[str], port: int, core: int = SERVER_CORE, folder: Path | None = None) -> Iterator[Started]:
    """What `command` starts, on one core and in `folder`, once it listens on `port`."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=folder)
    try:
        os.sched_setaffinity(process.pid, {core})
        _wait_for(port, process)
        for thread in os.listdir(f"/proc/{process.pid}/task"):
            os.sched_setaffinity(int(thread), {core})
        yield Started(f"http://127.0.0.1:{port}", process)
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    end = time.monotonic() + READY_WITHIN_S
    while True:
        if process.poll() is not None:
            assert process.stdout is not None
            raise SystemExit(f"the server ended with {process.returncode}:\n{process.stdout.read().decode()}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.monotonic() > end:
            raise SystemExit(f"no server on port {port} within {READY_WITHIN_S} s")
        time.sleep(0.05)


def with_descendants(pid: int) -> Iterator[int]:
    """It, its children, theirs, and so on."""
    yield pid
    with suppress(OSError):  # it has ended
        for thread in os.listdir(f"/proc/{pid}/task"):
            for child in Path(f"/proc/{pid}/task/{thread}/children").read_text().split():
                yield from with_descendants(int(child))


def _cpu_s(pid: int) -> float:
    with suppress(OSError):  # it has ended
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return 0.0


def _is_worker(pid: int) -> bool:
    with suppress(OSError):  # it has ended
        return b"gateway.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False
