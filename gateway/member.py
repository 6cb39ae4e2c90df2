"""One worker process as control sees it."""

import asyncio
import contextlib
import subprocess
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from enum import StrEnum
from multiprocessing.connection import Connection

from gateway.orders import Heard, Plan, RunsOn, Start


class WorkerState(StrEnum):
    """The life of a worker."""

    STARTING = "starting"
    WARM = "warm"
    READY = "ready"
    DRAINING = "draining"
    DEAD = "dead"


class Member:
    """One worker process as control sees it."""

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
