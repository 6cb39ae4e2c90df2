"""The fleet's store: a real redis-server or etcd in a namespace, to be suspended, killed and restarted."""

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from gateway.system.scheduling import CONTROL_PRIORITY
from loadtests.fleet.rig.namespaces import Namespace, program

STARTED_WITHIN_S: Final = 20.0
PORTS: Final = {"redis": 6379, "etcd": 2379}
PROGRAMS: Final = {"redis": "redis-server", "etcd": "etcd"}
KINDS: Final = tuple(PROGRAMS)


def url_of(kind: str, address: str, port: int) -> str:
    """As it stands in the gateway's settings."""
    return f"{kind}://{address}:{port}" + ("/0" if kind == "redis" else "")


def first_in_line(pid: int) -> None:
    """It stands for another machine: its wait for a core is no part of what is measured, where the system allows it."""
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            os.sched_setscheduler(int(thread), os.SCHED_RR, os.sched_param(CONTROL_PRIORITY))


class Store:
    """`kind`: one of KINDS. Redis syncs each write before it answers, as etcd always does."""

    def __init__(self, kind: str, namespace: Namespace, folder: Path) -> None:
        self.namespace = namespace
        self.port = PORTS[kind]
        self._kind = kind
        self._folder = folder
        self._data = folder / "data"
        self._process: subprocess.Popen[bytes] | None = None
        self._data.mkdir(parents=True)

    @property
    def url(self) -> str:
        return url_of(self._kind, self.namespace.address, self.port)

    def start(self, *, empty: bool = False) -> None:
        """Start it, with the data that it had or without; returns once it listens."""
        if empty:
            shutil.rmtree(self._data)
            self._data.mkdir()
        with (self._folder / "log").open("ab") as log:
            command = self.namespace.command(*self._words())
            self._process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
        end = time.monotonic() + STARTED_WITHIN_S
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"the store does not start:\n{(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.01)
        first_in_line(self._process.pid)

    def suspend(self) -> None:
        """SIGSTOP."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """SIGCONT."""
        self._signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL; does nothing if it has ended."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def fsync_ms(self) -> float:
        """How long an appended line takes to the disk, in a file beside its data."""
        descriptor = os.open(self._folder / "fsync", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        try:
            os.write(descriptor, bytes(200))
            begun = time.perf_counter()
            os.fdatasync(descriptor)
            return (time.perf_counter() - begun) * 1e3
        finally:
            os.close(descriptor)

    def _signal(self, number: int) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def _listens(self) -> bool:
        try:
            self.namespace.connected(self.port, 1.0).close()
        except OSError:
            return False
        return True

    def _words(self) -> list[str]:
        path, data = program(PROGRAMS[self._kind]) or PROGRAMS[self._kind], str(self._data)
        if self._kind == "redis":
            durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
            return [path, "--port", str(self.port), "--bind", "0.0.0.0", "--protected-mode", "no", "--dir", data,
                    *durable]  # fmt: skip
        everywhere = f"http://0.0.0.0:{self.port}"
        return [path, "--data-dir", data, "--listen-client-urls", everywhere, "--advertise-client-urls",
                f"http://{self.namespace.address}:{self.port}", "--log-level", "warn"]  # fmt: skip
