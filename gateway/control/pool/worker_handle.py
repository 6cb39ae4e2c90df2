"""One worker process as control sees it."""

import asyncio
import contextlib
import math
import subprocess
import sys
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection

from gateway.messages import ConfigGeneration, Heard, RunsOn, Start
from gateway.system.pipe import pipe
from gateway.system.scheduling import raise_niceness, stand_back


class WorkerState(StrEnum):
    """The life of a worker."""

    STARTING = "starting"
    WARM = "warm"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Obituary:
    """What a worker was at when it died: the version that it was loading, and the candidates that ran."""

    loading: tuple[str, int] | None = None
    running: tuple[tuple[str, int], ...] = ()


class WorkerHandle:
    """One worker process as control sees it. Raises RuntimeError where there is no thread to speak to it."""

    def __init__(
        self, index: int, process: "subprocess.Popen[bytes]", pipe: Connection, plan: ConfigGeneration
    ) -> None:
        self.index = index
        self.process = process
        self.pipe = pipe
        self.plan = plan
        self.state = WorkerState.STARTING
        self.waiting: dict[int, asyncio.Future[str | None]] = {}  # None: it has died
        self.ready_s = math.inf  # when it began to serve, on the monotonic clock
        self.given_up = ""  # why it is being ended: nothing is asked of it any more
        self.overdue = False  # it is ended since it loads a version for too long
        self.obituary = Obituary()
        self.left_out: Mapping[tuple[str, int], str] = {}
        self.runs_on: Mapping[tuple[str, int], RunsOn] = {}
        self._mouth = ThreadPoolExecutor(1, f"to-worker-{index}", initializer=raise_niceness)
        self._mouth.submit(int)  # has the thread started: what is said later is not lost for want of one

    def send(self, word: "Start | Heard") -> None:
        """Send it, in order, without waiting: a plan is larger than a pipe, and a worker may be busy or suspended."""
        with contextlib.suppress(RuntimeError):  # it has died since it asked
            self._mouth.submit(self._send, word)

    @property
    def follows(self) -> bool:
        """Whether it takes orders: from the moment on that it is warm."""
        return self.state in (WorkerState.WARM, WorkerState.READY) and not self.given_up

    def expect_nothing(self) -> None:
        """It will not answer."""
        for answer in self.waiting.values():
            if not answer.done():
                answer.set_result(None)

    def close(self) -> None:
        """The process has died."""
        self.pipe.close()
        self._mouth.shutdown(wait=False, cancel_futures=True)

    def _send(self, word: "Start | Heard") -> None:
        with contextlib.suppress(OSError, ValueError):  # it has died, which is heard elsewhere
            self.pipe.send(word)


def launched(index: int, plan: ConfigGeneration, beside: bool) -> WorkerHandle:
    """A new worker process, `beside` others that serve. Raises OSError or RuntimeError where there is no descriptor,
    process or thread for it.
    """
    with contextlib.ExitStack() as undo:
        ours, theirs = pipe()
        undo.callback(ours.close)
        with theirs:
            command = [sys.executable, "-m", "gateway.worker", str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        if beside:
            stand_back(process.pid)
        undo.callback(process.wait)
        undo.callback(process.kill)
        handle = WorkerHandle(index, process, ours, plan)
        undo.pop_all()
        return handle


def left_out(handles: Iterable[WorkerHandle]) -> dict[tuple[str, int], str]:
    """The versions that some of them could not load, and why."""
    return {key: why for handle in handles for key, why in handle.left_out.items()}


def runs_on(handles: Iterable[WorkerHandle], key: tuple[str, int]) -> RunsOn | None:
    """What runs the version, in the worker that has most to complain of; None where none serves it."""
    found = [handle.runs_on.get(key) for handle in handles]
    return max(filter(None, found), key=lambda one: len(one.warning), default=None)
