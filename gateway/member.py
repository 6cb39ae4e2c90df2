"""One worker process as control sees it."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from multiprocessing.connection import Connection

from gateway.orders import Heard, Plan, RunsOn, Start
from gateway.pipe import pipe


class WorkerState(StrEnum):
    """The life of a worker."""

    STARTING = "starting"
    WARM = "warm"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class Member:
    """One worker process as control sees it. Raises RuntimeError where there is no thread to speak to it."""

    def __init__(self, index: int, process: "subprocess.Popen[bytes]", pipe: Connection, plan: Plan) -> None:
        self.index = index
        self.process = process
        self.pipe = pipe
        self.plan = plan
        self.state = WorkerState.STARTING
        self.waiting: dict[int, asyncio.Future[str]] = {}
        self.left_out: Mapping[tuple[str, int], str] = {}
        self.runs_on: Mapping[tuple[str, int], RunsOn] = {}
        self._mouth = ThreadPoolExecutor(1, f"to-worker-{index}")
        self._mouth.submit(int)  # has the thread started: what is said later is not lost for want of one

    def tell(self, word: "Start | Heard") -> None:
        """Send it, in order, without waiting: a plan is larger than a pipe, and a worker may be busy or suspended."""
        with contextlib.suppress(RuntimeError):  # it has died since it asked
            self._mouth.submit(self._send, word)

    def hang_up(self) -> None:
        """The process has died."""
        self.pipe.close()
        self._mouth.shutdown(wait=False, cancel_futures=True)

    def _send(self, word: "Start | Heard") -> None:
        with contextlib.suppress(OSError, ValueError):  # it has died, which is heard elsewhere
            self.pipe.send(word)


def launched(index: int, plan: Plan) -> Member:
    """A new worker process. Raises OSError or RuntimeError where there is no descriptor, process or thread for it."""
    with contextlib.ExitStack() as undo:
        ours, theirs = pipe()
        undo.callback(ours.close)
        with theirs:
            command = [sys.executable, "-m", "gateway.worker", str(theirs.fileno())]
            process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        undo.callback(process.wait)
        undo.callback(process.kill)
        member = Member(index, process, ours, plan)
        undo.pop_all()
        return member
