"""A gateway on a host of its own: started, killed, restarted, and its control plane, which listens inside only."""

import http.client
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import orjson
import yaml

from loadtests.fleet.rig.namespaces import Namespace
from loadtests.leftovers import MARK, Leftovers
from loadtests.servers import with_descendants

DATA_PORT: Final = 8000
CONTROL_PORT: Final = 8001
MODEL: Final = "double"
READY_WITHIN_S: Final = 60.0
ENDED_WITHIN_S: Final = 30.0  # longer than it drains
IDLE_S: Final = 4.0  # the gateway closes a connection that was idle for 5 s
JSON: Final = {"content-type": "application/json"}


@dataclass(frozen=True, slots=True)
class Told:
    """What control answered, and how long it took."""

    status: int
    document: dict[str, Any]
    ms: float

    @property
    def confirmed(self) -> bool:
        """Of a stop: whether no host answers from the candidate any more."""
        return self.status == 200 and bool((self.document.get("fleet") or {}).get("confirmed"))

    def __str__(self) -> str:
        said = self.document.get("error") or self.document.get("fleet") or self.document
        return f"{self.status} after {self.ms:.0f} ms: {said!s:.300}"


class Control(http.client.HTTPConnection):
    """Requests to control from inside its namespace, over one connection that is opened anew when it is old."""

    def __init__(self, namespace: Namespace) -> None:
        super().__init__("127.0.0.1", CONTROL_PORT)
        self._namespace = namespace
        self._used_s = 0.0

    def connect(self) -> None:
        self.sock = self._namespace.connected(CONTROL_PORT, 30.0)

    def ask(self, method: str, path: str, document: Any = None) -> Told:
        """Raises OSError or HTTPException if there is no answer."""
        if time.monotonic() - self._used_s > IDLE_S:
            self.close()
        begun = time.perf_counter()
        try:
            self.request(method, path, None if document is None else orjson.dumps(document), JSON)
            answer = self.getresponse()
            body = answer.read()
        except BaseException:
            self.close()
            raise
        self._used_s = time.monotonic()
        return Told(answer.status, orjson.loads(body), (time.perf_counter() - begun) * 1e3)


class Host:
    """`settings`: more of gateway.yaml than the ports and folders. `models`, `routing`: the same for all hosts.
    `checkout`: the folder of another checkout to run it from; None: of this one.
    """

    def __init__(
        self,
        name: str,
        namespace: Namespace,
        folder: Path,
        models: Path,
        routing: Any,
        settings: Mapping[str, Any],
        checkout: Path | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self.control = Control(namespace)
        self._checkout = checkout
        self._folder = folder
        self._state = folder / "state"
        self._process: subprocess.Popen[bytes] | None = None
        folder.mkdir(parents=True)
        (folder / "routing.yaml").write_text(yaml.safe_dump(routing))
        document = {
            "server": {"host": "0.0.0.0", "port": DATA_PORT, "workers": 1},
            "control": {"port": CONTROL_PORT},
            "models": {"path": str(models)},
            "routing": str(folder / "routing.yaml"),
            "state": str(self._state),
            **settings,
        }
        (folder / "gateway.yaml").write_text(yaml.safe_dump(document))

    @property
    def data(self) -> str:
        """Its data plane as it is reached from outside."""
        return f"{self.namespace.address}:{DATA_PORT}"

    @property
    def log(self) -> str:
        return (self._folder / "log").read_text(errors="replace")

    def start(self, *, empty: bool = False) -> None:
        """Start it with the state folder that it had, or an empty one; `wait_ready` waits."""
        if empty:
            shutil.rmtree(self._state, ignore_errors=True)
        config = str(self._folder / "gateway.yaml")
        command = self.namespace.command(sys.executable, "-m", "gateway", "serve", "--config", config)
        environment = {**os.environ, MARK: str(self._state)}
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, env=environment, start_new_session=True, cwd=self._checkout
            )

    def upgrade(self, settings: Mapping[str, Any]) -> None:
        """Run it from this checkout when it is started next, with these settings besides the others."""
        self._checkout = None
        file = self._folder / "gateway.yaml"
        file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | dict(settings)))

    def wait_ready(self) -> None:
        """Wait until its worker serves."""
        end = time.monotonic() + READY_WITHIN_S
        while not self.healthy():
            if self._process is None or self._process.poll() is not None or time.monotonic() > end:
                raise SystemExit(f"{self.name} does not serve:\n{self.log[-4000:]}")
            time.sleep(0.05)

    def healthy(self) -> bool:
        """Whether control says that all workers serve."""
        with suppress(OSError, http.client.HTTPException):
            told = self.control.ask("GET", "/health")
            return told.status == 200 and told.document["serving"] == told.document["workers"]
        return False

    def stop(self) -> Told:
        """Stop the candidate."""
        return self.control.ask("POST", f"/api/releases/{MODEL}/stop", {"reason": f"loadtest on {self.name}"})

    def resume(self) -> Told:
        """Resume the candidate."""
        return self.control.ask("POST", f"/api/releases/{MODEL}/resume", {"reason": f"loadtest on {self.name}"})

    def stopped(self) -> bool:
        """Whether this host says that the candidate is stopped."""
        return bool(self.control.ask("GET", f"/api/releases/{MODEL}").document["stopped"])

    def kill(self) -> None:
        """SIGKILL to all its processes."""
        if self._process is not None and self._process.poll() is None:
            for pid in list(with_descendants(self._process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            self._process.wait()
        self.control.close()

    def terminate(self) -> None:
        """SIGTERM: it leaves the fleet and drains; `wait_ended` waits."""
        if self._process is not None:
            self._process.terminate()

    def wait_ended(self) -> None:
        """Wait until it has ended; what has not after 30 s, or was left by a control that died, is killed."""
        with suppress(subprocess.TimeoutExpired):
            if self._process is not None:
                self._process.wait(ENDED_WITHIN_S)
        self.kill()
        with suppress(OSError, ValueError):  # it never started
            Leftovers(self._state, ()).end()
