"""One worker process as control sees it: its state, its pipe, and how to start it."""

import asyncio
import contextlib
import math
import subprocess
import sys
from collections.abc import Collection, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection

from gateway.messages import ConfigGeneration, ControlMessage, RunsOn, Start
from gateway.system.pipe import pipe
from gateway.system.scheduling import lower_priority, raise_niceness
from gateway.version_key import VersionKey


class WorkerState(StrEnum):
    """The states of a worker process, in the order of its life."""

    STARTING = "starting"
    WARM = "warm"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class WorkerActivity:
    """What a worker was doing when it died: the version that it was loading, and the candidates that it was running."""

    loading: tuple[str, int] | None = None
    running: tuple[tuple[str, int], ...] = ()


class WorkerHandle:
    """Control's handle for one worker process: its pipe, state and pending commands. Raises RuntimeError if no sender
    thread can be started.
    """

    def __init__(
        self, index: int, process: "subprocess.Popen[bytes]", pipe: Connection, config: ConfigGeneration
    ) -> None:
        self.index = index
        self.process = process
        self.pipe = pipe
        self.config = config
        self.state = WorkerState.STARTING
        self.pending: dict[int, asyncio.Future[str | None]] = {}  # by command number; None: the worker has died
        self.ready_s = math.inf  # when it began to serve, on the monotonic clock
        self.end_reason = ""  # why it is being ended, else empty; it gets no further commands then
        self.load_timed_out = False  # it is being ended because it takes too long to load a version
        self.last_activity = WorkerActivity()
        self.unavailable: Mapping[tuple[str, int], str] = {}
        self.runs_on: Mapping[tuple[str, int], RunsOn] = {}
        self._sender = ThreadPoolExecutor(1, f"to-worker-{index}", initializer=raise_niceness)
        self._sender.submit(int)  # starts the thread now, so that no later message is lost for lack of one

    def send(self, message: "Start | ControlMessage") -> None:
        """Queue the message and return at once. A thread sends in order: a generation is larger than a pipe's buffer,
        and the worker may be busy or suspended.
        """
        with contextlib.suppress(RuntimeError):  # the worker has died meanwhile
            self._sender.submit(self._send, message)

    @property
    def accepts_commands(self) -> bool:
        """Whether it accepts commands: it is warm or ready, and has not been given up."""
        return self.state in (WorkerState.WARM, WorkerState.READY) and not self.end_reason

    def resolve_pending(self) -> None:
        """Resolve all pending commands with None: the worker will not answer."""
        for answer in self.pending.values():
            if not answer.done():
                answer.set_result(None)

    def close(self) -> None:
        """Close the pipe and stop the sender thread; call when the process has died."""
        self.pipe.close()
        self._sender.shutdown(wait=False, cancel_futures=True)

    def _send(self, message: "Start | ControlMessage") -> None:
        with contextlib.suppress(OSError, ValueError):  # the worker has died, which WorkerPool notices by itself
            self.pipe.send(message)


def launch(index: int, config: ConfigGeneration, low_priority: bool) -> WorkerHandle:
    """Start a worker process; `low_priority`: at lower priority, since others serve. Raises OSError or RuntimeError if
    the system has no descriptor, process or thread for it.
    """
    with contextlib.ExitStack() as undo:
        ours, theirs = pipe()
        undo.callback(ours.close)
        with theirs:
            command = [sys.executable, "-m", "gateway.worker", str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        if low_priority:
            lower_priority(process.pid)
        undo.callback(process.wait)
        undo.callback(process.kill)
        handle = WorkerHandle(index, process, ours, config)
        undo.pop_all()
        return handle


def unavailable_versions(handles: Iterable[WorkerHandle]) -> dict[tuple[str, int], str]:
    """The versions that some of these workers could not load, with the reason."""
    return {key: why for handle in handles for key, why in handle.unavailable.items()}


def loaded_versions(config: ConfigGeneration, handles: Collection[WorkerHandle]) -> set[VersionKey]:
    """The versions of `config` that each of these workers has loaded. A worker does not report one that it could not
    keep for an undo as unavailable, since nobody is to be served by it.
    """
    lost = {*unavailable_versions(handles), *config.unavailable}
    accepting = [handle for handle in handles if handle.accepts_commands]
    lost |= {key for key in config.kept.items() if any(key not in handle.runs_on for handle in accepting)}
    return {key for key in config.versions if key[0] not in config.unloaded} - lost


def runs_on(handles: Iterable[WorkerHandle], key: tuple[str, int]) -> RunsOn | None:
    """The version's execution providers, from the worker with the longest warning; None if no worker serves it."""
    found = [handle.runs_on.get(key) for handle in handles]
    return max(filter(None, found), key=lambda one: len(one.warning), default=None)
