"""Makes data sets, analyses and traces for clients, each in a process of its own (gateway/offline/job.py).

One is made at a time; results are sent to several clients at once, at the pace of each. Nothing of it runs on control's
loop but passing on the bytes.
"""

import asyncio
import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import uuid4

from gateway.errors import Conflict, InvalidRequest, NotFound, NotReady, Overloaded, RequestError, Unimplemented
from gateway.records.job import JobHead, RecordsJob, parse_head
from gateway.system.scheduling import lower_priority

FOLDER: Final = "jobs"  # in the state folder
MODULE: Final = "gateway.offline.job"
MAX_ADMITTED: Final = 8  # clients at once: one whose result is made, those before whom it is, and those who receive
MAX_TRACES: Final = 4  # of them: scripts ask for thousands, and would leave no place for a data set
MAKE_TIMEOUT_S: Final = 1800.0
RETRY_AFTER_S: Final = 10
PIPE_BYTES: Final = 1 << 16  # read from the process at a time
ERRORS: Final[dict[int, type[RequestError]]] = {
    error.status: error for error in (InvalidRequest, NotFound, Conflict, Unimplemented, NotReady)
}


@dataclass(frozen=True, slots=True)
class JobResult:
    """A result of `size` bytes, which `stream` gives, to be sent with an HTTP `status`."""

    status: int
    size: int
    stream: asyncio.StreamReader


class RecordsJobs:
    """The jobs of one gateway. `state`: its state folder."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER
        self._leftovers = list(self._folder.iterdir()) if self._folder.is_dir() else []
        self._admitted: list[RecordsJob] = []
        self._making = asyncio.Lock()
        self._ending: set[asyncio.Task[None]] = set()

    def scratch(self) -> str:
        """A new job's folder."""
        return str(self._folder / uuid4().hex)

    @contextlib.asynccontextmanager
    async def run(self, job: RecordsJob) -> AsyncIterator[JobResult]:
        """Have the job done; the process ends and its folder is removed with this context. Raises RequestError."""
        if len(self._admitted) >= MAX_ADMITTED:
            raise _busy(f"{MAX_ADMITTED} data sets, analyses and traces are being made or sent, which is the limit")
        if job.kind == "trace" and sum(one.kind == "trace" for one in self._admitted) >= MAX_TRACES:
            raise _busy(f"{MAX_TRACES} traces are being made or sent, which is the limit")
        self._admitted.append(job)
        process = JobProcess(job)
        try:
            async with self._making:
                await process.start()
                head = await _made(process, job.remedy)
            yield JobResult(head.status, head.size, process.stream)
        finally:
            self._admitted.remove(job)
            ending = asyncio.get_running_loop().create_task(process.end())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    def remove_leftovers(self) -> None:
        """Remove what was there when this was made, of a gateway that was killed. For a thread."""
        for leftover in self._leftovers:
            shutil.rmtree(leftover, ignore_errors=True)

    def close(self) -> None:
        """Remove the folders of all jobs, since the gateway ends."""
        shutil.rmtree(self._folder, ignore_errors=True)


async def _made(process: "JobProcess", remedy: str) -> JobHead:
    """The head of the result, once it is there. Raises RequestError."""
    try:
        async with asyncio.timeout(MAKE_TIMEOUT_S):
            head = await process.head()
    except TimeoutError:
        raise NotReady(f"it was not ready within {MAKE_TIMEOUT_S / 60:g} minutes; {remedy}") from None
    if not head.size:
        raise ERRORS.get(head.status, RequestError)(head.error)
    return head


class JobProcess:
    """The process of one job."""

    def __init__(self, job: RecordsJob) -> None:
        self.stream = asyncio.StreamReader(PIPE_BYTES)
        self._job = job
        self._starting: asyncio.Future[subprocess.Popen[bytes]] | None = None
        self._reading: asyncio.ReadTransport | None = None

    async def start(self) -> None:
        """Start it. Raises NotReady."""
        loop = asyncio.get_running_loop()
        self._starting = loop.run_in_executor(None, _popen, self._job)
        try:
            process = await asyncio.shield(self._starting)
        except OSError as error:
            raise NotReady(f"the process that makes it cannot be started: {error.strerror}") from None
        protocol = asyncio.StreamReaderProtocol(self.stream)
        self._reading, _ = await loop.connect_read_pipe(lambda: protocol, process.stdout)

    async def head(self) -> JobHead:
        """How the job has ended. Raises NotReady if the process has."""
        try:
            return parse_head(await self.stream.readline())
        except (ValueError, TypeError):  # it has come to a part of it, if at all
            raise NotReady(
                f"the process that makes it has been killed; if memory is short, {self._job.remedy}"
            ) from None

    async def end(self) -> None:
        """Kill it, if it runs, and remove its folder."""
        if self._reading is not None:
            self._reading.close()
        if self._starting is not None:
            with contextlib.suppress(OSError):
                process = await self._starting
                process.kill()
                await asyncio.to_thread(_finish, process, self._job.scratch)


def _popen(job: RecordsJob) -> "subprocess.Popen[bytes]":
    command, line = [sys.executable, "-m", MODULE], job.line()
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0)
    lower_priority(process.pid, for_good=True)
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line)
    return process


def _finish(process: "subprocess.Popen[bytes]", scratch: str) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.wait()
    shutil.rmtree(scratch, ignore_errors=True)


def _busy(problem: str) -> Overloaded:
    error = Overloaded(f"{problem}; try again")
    error.headers = {"retry-after": str(RETRY_AFTER_S)}
    return error
