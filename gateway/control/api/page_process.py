"""Pages of a thousand releases are made in a process of their own: a thread would share the interpreter with the stop.

A job is as many messages as it has pieces, and one that says what to make of them; the answer is one message.
"""

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import generate_latest

from gateway.backends.repository import Repository
from gateway.control.api.rendering import release_document
from gateway.control.metrics.prometheus import GatewayCollector, GatewayMetrics
from gateway.control.record_status import ClassLabels
from gateway.control.release.overview import ReleaseStatus
from gateway.control.status import release_metrics
from gateway.errors import NotReady
from gateway.shm.tally import Totals
from gateway.system.pipe import PatientPipe, pipe
from gateway.system.scheduling import reset_priority, stand_back

PIECE: Final = 16  # releases or versions in a message: pickling more would keep the interpreter from control's loop
TRIES: Final = 2
WITHIN_S: Final = 30.0  # a thousand models take two
START: Final = f"from {__name__} import main; main()"  # by its name: what is sent must be of the same module


@dataclass(frozen=True, slots=True)
class Documents:
    """Make each release's document: the pieces are Overviews."""

    def made(self, pieces: Sequence[Any], press: "Press") -> Any:
        return {one.model: orjson.dumps(release_document(one)) for one in pieces}


@dataclass(frozen=True, slots=True)
class Metrics:
    """Make the text for Prometheus: the pieces are Overviews, and versions with their Totals. `rest`: all else."""

    rest: GatewayMetrics

    def made(self, pieces: Sequence[Any], press: "Press") -> Any:
        versions: list[tuple[str, int, Totals]] = [one for one in pieces if not isinstance(one, ReleaseStatus)]
        releases = [
            release_metrics(one) for one in pieces if isinstance(one, ReleaseStatus) and one.candidate is not None
        ]
        labels = {(name, number): press.labels.of(name, number) for name, number, _ in versions}
        press.seen = replace(self.rest, versions=versions, releases=releases, labels=labels)
        return generate_latest(press.registry)


class Printer:
    """Control's side, for one thread. The process is started when it is needed, and anew where it has ended."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._pipe: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def printed(self, job: Documents | Metrics, pieces: Sequence[object]) -> Any:
        """What the job makes of the pieces; raises NotReady where the process ends again and again."""
        for _ in range(TRIES):
            with contextlib.suppress(OSError, EOFError):
                return self._asked(job, pieces)
            self.close()
        raise NotReady("the process that makes this page has ended; try again")

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None and self._process is not None:
            self._pipe.close()
            self._pipe = None
            self._process.kill()
            self._process.wait()

    def _asked(self, job: Documents | Metrics, pieces: Sequence[object]) -> Any:
        self._pipe = ours = self._pipe or self._started()
        assert self._process is not None
        clock = threading.Timer(WITHIN_S, self._process.kill)  # else one that hangs would keep all readers for ever
        clock.start()
        try:
            for begin in range(0, len(pieces), PIECE):
                ours.send(pieces[begin : begin + PIECE])
            ours.send(job)
            return ours.recv()
        finally:
            clock.cancel()

    def _started(self) -> Connection:
        ours, theirs = pipe()
        arguments = [str(theirs.fileno()), str(self._repository), str(os.getpid())]
        command = [sys.executable, "-c", START, *arguments]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        return ours


class Press:
    """The process's side: what outlives a job. `pid`: whose memory and descriptors are told."""

    def __init__(self, repository: Path, pid: int) -> None:
        self.labels = ClassLabels(Repository(repository))
        self.seen: GatewayMetrics
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(GatewayCollector(lambda: self.seen))
        ProcessCollector(pid=lambda: pid, registry=self.registry)
        PlatformCollector(registry=self.registry)

    def work(self, pipe: Connection) -> None:
        """Until control has no more jobs."""
        pieces: list[Any] = []
        while True:
            message = pipe.recv()
            if isinstance(message, Documents | Metrics):
                pipe.send(message.made(pieces, self))
                pieces = []
            else:
                pieces += message


def main() -> None:
    """The process, given its pipe to control, the repository's path and control's pid. It ends when control does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    reset_priority()
    stand_back(os.getpid(), for_good=True)  # whoever reads without a pause must not take half a core from the workers
    handle, repository, pid = sys.argv[1:]
    with contextlib.suppress(EOFError, OSError):
        Press(Path(repository), int(pid)).work(PatientPipe(int(handle)))
