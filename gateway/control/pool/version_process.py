"""One version's process as control sees it: started again, after a growing pause, whenever it has died."""

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

FIRST_PAUSE_S: Final = 0.1  # before the start after the second early death in a row; doubled each time
LONGEST_PAUSE_S: Final = 10.0
EARLY_S: Final = 60.0  # after it has loaded its version: a death before that counts as early
BACKLOG: Final = 1024
PAGE: Final = os.sysconf("SC_PAGE_SIZE")
log: Final = logging.getLogger("gateway.control.pool")


class ProcessState(StrEnum):
    """The states of a version's process."""

    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"  # the version cannot be loaded, and the process says why to whoever connects
    DEAD = "dead"


class Role(StrEnum):
    """What a version's process runs it as. A baseline is a stable version that runs in the workers too."""

    STABLE = "stable"
    CANDIDATE = "candidate"
    BASELINE = "baseline"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version's process as it should be. `behind`: it runs at lower priority than what serves. `memory`: its ceiling
    in bytes, None: none. `content`: of the version's files.
    """

    key: VersionKey
    role: Role
    behind: bool
    memory: int | None
    content: object


class VersionProcess:
    """The process of one version, and the socket at `where` that outlives it, so that workers can connect at any time.

    `died` is called with the reason when it has died after it had loaded its version.
    """

    def __init__(
        self,
        wanted: Wanted,
        repository: Path,
        name: str,
        template: ProcessTemplate,
        died: Callable[["VersionProcess", str], None],
    ) -> None:
        self.wanted = wanted
        self._template = template
        self.state = ProcessState.STARTING
        self.starts = 0
        self.told = 0  # the start that `take_late` has told of
        self.memory_bytes = 0
        self.silent_s = 0.0  # since its last sign of life, as `VersionProcesses` counts it
        self.settled: asyncio.Future[str] = (
            asyncio.get_running_loop().create_future()
        )  # the first load: its error or ""
        self._repository = repository
        self._died = died
        self._why = ""  # why control has killed it
        self._early = 0  # deaths in a row
        self._ready_s = 0.0
        self._was_ready = False
        self._listening, self.where = _listening(name)
        self._process: ForkedProcess | None = None
        self._control: socket.socket | None = None
        self._rest = b""
        self._closed = False
        self.closed_s = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._begin(retry_forever(f"starting the process of {self}", self._start))

    def __str__(self) -> str:
        return f"version {self.wanted.key[1]} of '{self.wanted.key[0]}'"

    @property
    def pid(self) -> int | None:
        """Its process id; None while there is none."""
        return None if self._process is None else self._process.pid

    def measure_memory(self) -> None:
        """Set `memory_bytes`: what it takes for itself, without what it shares; 0 if the system does not say."""
        try:
            _, resident, shared, *_ = Path(f"/proc/{self.pid}/statm").read_text().split()
            self.memory_bytes = (int(resident) - int(shared)) * PAGE
        except (OSError, ValueError):
            self.memory_bytes = 0

    def kill(self, why: str) -> None:
        """End it at once; a new one is started."""
        if self._process is not None and not self._why:
            self._why = why
            self._process.kill()

    def close(self) -> None:
        """Do without it: it serves the workers that are connected, and ends with the last of them."""
        self._closed = True
        self.closed_s = time.monotonic()
        self._listening.close()
        _unlink(self.where)
        self._hang_up()
        for task in self._tasks:
            task.cancel()
        if not self.settled.done():
            self.settled.set_result("it is not wanted any more")

    def has_ended(self) -> bool:
        """Whether a closed process is gone."""
        return self._process is None or self._process.ended.done()

    async def ended(self, within_s: float) -> None:
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
                checked, behind = self.wanted.role is Role.CANDIDATE, self.wanted.behind
                first_to_go = self.wanted.role is not Role.STABLE
                start = ProcessStart(
                    str(self._repository), *self.wanted.key, checked=checked, behind=behind, first_to_go=first_to_go
                )
                self._process = await self._template.fork(start, self._listening.fileno(), theirs.fileno())
            undo.pop_all()
        ours.setblocking(False)
        self.starts += 1
        self.state, self._control, self._rest, self._why, self.silent_s = ProcessState.STARTING, ours, b"", "", 0.0
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
            self._hang_up()
            self._begin(self._over())
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self._hear(orjson.loads(line))

    def _hear(self, news: dict[str, Any]) -> None:
        if "log" in news:
            level, text = news["log"]
            log.log(int(level), "%s, in its process: %s", self, text)
            return
        self.silent_s = 0.0
        if self.state is not ProcessState.STARTING:
            return
        if "error" in news:
            self.state = ProcessState.FAILED
            self._is_settled(str(news["error"]))
        elif "loaded" in news:
            self.state = ProcessState.READY
            self._ready_s, self._was_ready = time.monotonic(), True
            self._is_settled("")

    def _is_settled(self, error: str) -> None:
        if not self.settled.done():
            self.settled.set_result(error)

    def _hang_up(self) -> None:
        if self._control is not None:
            asyncio.get_running_loop().remove_reader(self._control.fileno())
            self._control.close()
            self._control = None

    async def _over(self) -> None:
        """It has ended: say so, and start the next one."""
        process, before = self._process, self.state
        assert process is not None
        code = await asyncio.shield(process.ended)
        self.state, self._process = ProcessState.DEAD, None
        why = self._why or _how(code)
        early = before is not ProcessState.READY or time.monotonic() - self._ready_s < EARLY_S
        self._early = self._early + 1 if early else 1
        pause_s = min(FIRST_PAUSE_S * 2.0 ** min(self._early - 2, 10), LONGEST_PAUSE_S) if self._early > 1 else 0.0
        log.error("the process of %s %s; a new one starts in %g s", self, why, pause_s)
        if self._was_ready:
            try:
                self._died(self, why)
            except Exception:
                log.exception("the end of the process of %s cannot be counted: it is started again all the same", self)
        if before is not ProcessState.READY:
            self._refuse(f"its process {why} while loading it")
        await asyncio.sleep(pause_s)
        await retry_forever(f"starting the process of {self}", self._start)

    def _refuse(self, why: str) -> None:
        """It cannot be loaded: say so to whoever waits for it."""
        self._is_settled(why)
        self._listening.setblocking(False)
        with contextlib.suppress(OSError):  # there are no more that wait
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    connection.send(REFUSAL + why.encode())

    def _begin(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _how(code: int) -> str:
    if code == UNKNOWN:
        return "ended"
    if code < 0:
        named = -code in signal.valid_signals()
        return f"died by {signal.Signals(-code).name if named else f'signal {-code}'}"
    if code == HUNG:
        return "ended itself, since a run did not end when it was told to"
    return f"ended with code {code}"


def _listening(name: str) -> tuple[socket.socket, str]:
    """A socket that listens, and where: an abstract name on Linux, which leaves no file behind."""
    where = f"\0{name}-{secrets.token_hex(8)}"
    if not sys.platform.startswith("linux"):
        where = f"{tempfile.mkdtemp(dir='/tmp')}/socket"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.bind(where)
    listening.listen(BACKLOG)
    return listening, where


def _unlink(where: str) -> None:
    if not where.startswith("\0"):
        with contextlib.suppress(OSError):
            os.unlink(where)
            os.rmdir(os.path.dirname(where))
