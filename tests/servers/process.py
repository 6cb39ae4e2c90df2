"""An inference server of another make, in a process of its own, on a port that stays the same when it starts again."""

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final

import httpx

from loadtests.free_port import free_port

READY_WITHIN_S: Final = 60.0


class ServerProcess:
    """As a context manager: ready on entry; it and its children have ended on exit.

    In `command`, what starts it, and in the values of `environment`, PORT stands for its port. Ready is it once
    `health` answers 200, which takes `ready_within_s` at most.
    """

    ready_within_s = READY_WITHIN_S
    health = "/v2/health/ready"

    def __init__(self, folder: Path, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.url = f"http://{self.address}"
        self._folder = folder
        self._command = [word.replace("PORT", str(self.port)) for word in command]
        given = {name: value.replace("PORT", str(self.port)) for name, value in environment.items()}
        self._environment = {**os.environ, **given}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return (self._folder / "server.log").read_text(errors="replace")

    def __enter__(self) -> "ServerProcess":
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def start(self) -> None:
        """Start it, and wait until it is ready."""
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment, cwd=self._folder, start_new_session=True
            )
        end = time.monotonic() + self.ready_within_s
        while not self.ready():
            assert self._process.poll() is None, f"the server ended by itself:\n{self.log}"
            assert time.monotonic() < end, f"the server is not ready after {self.ready_within_s:g} s:\n{self.log}"
            time.sleep(0.05)

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}{self.health}").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        """SIGKILL, to it and its children at once."""
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def suspend(self) -> None:
        """It and its children do nothing, its connections stay open."""
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)
