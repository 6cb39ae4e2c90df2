"""A real gateway in a process of its own."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import httpx
import yaml

from loadtests.free_port import free_port

READY_WITHIN_S = 120.0
STOPPED_WITHIN_S = 60.0


class GatewayProcess:
    """`gateway serve` on a free port, configured in `folder`.

    As a context manager: all workers are ready on entry, and all processes have ended on exit.
    `arguments`: more of them for the command. `inherit`: called in the process before the command, for what its starter
    may leave it."""

    arguments: tuple[str, ...] = ()
    inherit: Callable[[], object] | None = None

    def __init__(self, folder: Path, models: Path, routing: Any = None, **settings: Any) -> None:
        self.port = free_port()
        server = {"port": self.port, "workers": 1, **settings.pop("server", {})}
        control = {"host": "127.0.0.1", "port": free_port(), **settings.pop("control", {})}
        self.url = f"{_scheme(server)}://127.0.0.1:{self.port}"
        self.address = f"127.0.0.1:{self.port}"
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "routing.yaml").write_text(yaml.safe_dump(routing or {}))
        self.config = folder / "gateway.yaml"
        self.control_url = f"{_scheme(control)}://{control['host']}:{control['port']}"
        document = {
            "server": server,
            "control": control,
            "state": str(folder / "state"),
            "models": {"path": str(models)},
            "routing": str(folder / "routing.yaml"),
            **settings,
        }
        self.config.write_text(yaml.safe_dump(document))
        self._log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> str:
        return self._log.read_text(errors="replace")

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def __enter__(self) -> "GatewayProcess":
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(self.config), *self.arguments]
        with self._log.open("wb") as log:
            environment = os.environ | {"COLUMNS": "200"}
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, preexec_fn=self.inherit)
        try:
            self._wait_until_ready(self.process)
        except BaseException:  # no `__exit__` follows
            self.stop()
            raise
        return self

    def _wait_until_ready(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        while not (self.ready() and self.complete()):
            assert process.poll() is None, f"the gateway ended by itself:\n{self.log}"
            assert time.monotonic() < deadline, f"the gateway is not ready after {READY_WITHIN_S} s:\n{self.log}"
            time.sleep(0.05)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        code = self.stop()
        assert code == 0 or kind is not None, f"the gateway ended with {code}:\n{self.log}"

    def ready(self) -> bool:
        try:
            return httpx.get(f"{self.url}/v2/health/ready", verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def complete(self) -> bool:
        """Whether all workers are ready."""
        try:
            return httpx.get(f"{self.control_url}/health", verify=False).status_code == 200
        except httpx.TransportError:
            return False

    def terminate(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)

    def stop(self) -> int:
        """SIGTERM, and the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.terminate()
        try:
            return self.process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def resident_mib(self) -> float:
        """The process's resident memory."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024


def _scheme(plane: dict[str, Any]) -> str:
    return "https" if plane.get("tls") else "http"
