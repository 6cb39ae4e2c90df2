"""The process of one version, as control runs it: whenever it dies, it is restarted after a growing pause."""

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import orjson

from gateway.backends.process.start import HUNG, REFUSAL, ProcessStart
from gateway.control.pool.process_template import UNKNOWN, ForkedProcess, ProcessTemplate
from gateway.system.background_tasks import retry_forever
from gateway.version_key import VersionKey

FIRST_BACKOFF_S: Final = 0.1  # before the start after the second early death in a row; doubled each time
MAX_BACKOFF_S: Final = 10.0
EARLY_DEATH_S: Final = 60.0  # after it has loaded its version: a death before that counts as early
BACKLOG: Final = 1024
PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
log: Final = logging.getLogger("gateway.control.pool")


class ProcessState(StrEnum):
    """The states of a version's process."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # the version cannot be loaded; workers that connect get the reason
    DEAD = "dead"


class Role(StrEnum):
    """The role of a version in its process. A baseline is a stable version that also runs in the workers."""

    STABLE = "stable"
    CANDIDATE = "candidate"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """The process that a version needs. `low_priority`: it runs at a lower priority than what serves.
    `memory_limit_bytes`: None if there is no limit. `fingerprint`: of the version's files.
    """

    key: VersionKey
    role: Role
    low_priority: bool
    memory_limit_bytes: int | None
    fingerprint: object


class VersionProcess:
    """The process of one version, and the socket at `address`, which outlives it so that workers can always connect.

    `on_death` is called with the reason when the process has died after it had loaded its version.
    """

    def __init__(
        self,
        spec: ProcessSpec,
        repository: Path,
        name: str,
        template: ProcessTemplate,
        on_death: Callable[["VersionProcess", str], None],
    ) -> None:
        self.spec = spec
        self._template = template
        self.state = ProcessState.STARTING
        self.starts = 0
        self.reported_start = 0  # the start that `take_newly_ready` has reported
        self.memory_bytes = 0
        self.silent_s = 0.0  # since its last sign of life, as `VersionProcesses` counts it
        self.first_load: asyncio.Future[str] = asyncio.get_running_loop().create_future()  # its error, or ""
        self._repository = repository
        self._on_death = on_death
        self._kill_reason = ""  # why control has killed it
        self._early_deaths = 0  # in a row
        self._ready_s = 0.0
        self._was_ready = False
        self._listening, self.address = _listening(name)
        self._process: ForkedProcess | None = None
        self._control: socket.socket | None = None
        self._rest = b""
        self._closed = False
        self.closed_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._spawn(retry_forever(f"starting the process of {self}", self._start))

    def __str__(self) -> str:
        return f"version {self.spec.key[1]} of '{self.spec.key[0]}'"

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return None if self._process is None else self._process.pid

    def measure_memory(self) -> None:
        """Set `memory_bytes` to the process's unshared resident memory; 0 if the system does not report it."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self.pid}/statm").read_text().split()
            self.memory_bytes = (int(resident) - int(shared)) * PAGE_BYTES
        except (OSError, ValueError):
            self.memory_bytes = 0

    def kill(self, why: str) -> None:
        """Kill the process; a new one is started. `why`: for the log."""
        if self._process is not None and not self._kill_reason:
            self._kill_reason = why
            self._process.kill()

    def close(self) -> None:
        """Accept no more workers. The process serves those connected, and ends when the last one disconnects."""
        self._closed = True
        self.closed_s = time.monotonic()
        self._listening.close()
        _unlink(self.address)
        self._close_control()
        for task in self._tasks:
            task.cancel()
        if not self.first_load.done():
            self.first_load.set_result("it is no longer needed")

    def has_ended(self) -> bool:
        """Whether a closed process has ended."""
        return self._process is None or self._process.ended.done()

    async def wait_ended(self, within_s: float) -> None:
        """Wait until a closed process has ended; kill it after `within_s` seconds."""
        if self._process is not None:
            done, _ = await asyncio.wait([self._process.ended], timeout=within_s)
            if not done:
                self._process.kill()

    async def _start(self) -> None:
        with contextlib.ExitStack() as undo:
            ours, theirs = socket.socketpair()
            undo.callback(ours.close)
            with theirs:
                checked, behind = self.spec.role is Role.CANDIDATE, self.spec.low_priority
                first_to_go = self.spec.role is not Role.STABLE
                start = ProcessStart(
                    str(self._repository), *self.spec.key, checked=checked, behind=behind, first_to_go=first_to_go
                )
                self._process = await self._template.fork(start, self._listening.fileno(), theirs.fileno())
            undo.pop_all()
        ours.setblocking(False)
        self.starts += 1
        self.state, self._control, self._rest = ProcessState.STARTING, ours, b""
        self._kill_reason, self.silent_s = "", 0.0
        asyncio.get_running_loop().add_reader(ours.fileno(), self._read)

    def _read(self) -> None:
        assert self._control is not None
        try:
            data = self._control.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._close_control()
            self._spawn(self._on_end())
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._handle(orjson.loads(line))

    def _handle(self, message: dict[str, Any]) -> None:
        if "log" in message:
            level, text = message["log"]
            log.log(int(level), "%s, in its process: %s", self, text)
            return
        self.silent_s = 0.0
        if self.state is not ProcessState.STARTING:
            return
        if "error" in message:
            self.state = ProcessState.FAILED
            self._finish_first_load(str(message["error"]))
        elif "loaded" in message:
            self.state = ProcessState.READY
            self._ready_s, self._was_ready = time.monotonic(), True
            self._finish_first_load("")

    def _finish_first_load(self, error: str) -> None:
        if not self.first_load.done():
            self.first_load.set_result(error)

    def _close_control(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None

    async def _on_end(self) -> None:
        """Report that the process has ended, and start the next one."""
        process, before = self._process, self.state
        assert process is not None
        code = await asyncio.shield(process.ended)
        self.state, self._process = ProcessState.DEAD, None
        why = self._kill_reason or _exit_text(code)
        early = before is not ProcessState.READY or time.monotonic() - self._ready_s < EARLY_DEATH_S
        self._early_deaths = self._early_deaths + 1 if early else 1
        doublings = min(self._early_deaths - 2, 10)
        pause_s = min(FIRST_BACKOFF_S * 2.0**doublings, MAX_BACKOFF_S) if doublings >= 0 else 0.0
        log.error("the process of %s %s; a new one starts in %g s", self, why, pause_s)
        if self._was_ready:
            try:
                self._on_death(self, why)
            except Exception:
                log.exception("the death of the process of %s cannot be counted; it is restarted all the same", self)
        if before is not ProcessState.READY:
            self._refuse_callers(f"its process {why} while loading it")
        await asyncio.sleep(pause_s)
        await retry_forever(f"starting the process of {self}", self._start)

    def _refuse_callers(self, why: str) -> None:
        """Send the error to all that wait for the version: the first load, and workers that are connecting."""
        self._finish_first_load(why)
        self._listening.setblocking(False)
        with contextlib.suppress(OSError):  # no more connections are waiting
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    connection.send(REFUSAL + why.encode())

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _exit_text(code: int) -> str:
    if code == UNKNOWN:
        return "ended"
    if code < 0:
        known = -code in signal.valid_signals()
        return f"died by {signal.Signals(-code).name if known else f'signal {-code}'}"
    if code == HUNG:
        return "ended itself, since a run did not end when it was cancelled"
    return f"ended with code {code}"


def _listening(name: str) -> tuple[socket.socket, str]:
    """A listening socket and its address: an abstract name on Linux, which leaves no file behind."""
    address = f"\0{name}-{secrets.token_hex(8)}"
    if not sys.platform.startswith("linux"):
        address = f"{tempfile.mkdtemp(dir='/tmp')}/socket"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(address)
    listening.listen(BACKLOG)
    return listening, address


def _unlink(address: str) -> None:
    if not address.startswith("\0"):
        with contextlib.suppress(OSError):
            os.unlink(address)
            os.rmdir(os.path.dirname(address))
