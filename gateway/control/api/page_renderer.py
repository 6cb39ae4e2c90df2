"""Renders large pages (all releases, the metrics) in a separate process: a thread would share the interpreter lock with
control's event loop and delay stops.

For one job control sends the data in several messages and then the job itself; the answer is one message.
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
from gateway.control.api.provenance_rendering import ProvenanceCache
from gateway.control.api.rendering import release_document
from gateway.control.class_names import ClassLabels, ClassNames
from gateway.control.metrics.prometheus import GatewayCollector, GatewayMetrics
from gateway.control.release.release_status import ReleaseStatus
from gateway.control.status import release_metrics
from gateway.errors import NotReady
from gateway.shm.tally import Totals
from gateway.system.pipe import RetryingPipe, pipe
from gateway.system.scheduling import lower_priority, reset_priority

ITEMS_PER_MESSAGE: Final = 16  # releases or versions in a message: pickling more at once would block control's loop
MAX_ATTEMPTS: Final = 2
TIMEOUT_S: Final = 30.0  # a thousand models take two
PROCESS_CODE: Final = f"from {__name__} import main; main()"  # so that pickled classes are of this module


@dataclass(frozen=True, slots=True)
class RenderReleases:
    """The job that renders each release's JSON document, from pieces of type ReleaseStatus."""

    def run(self, items: Sequence[Any], process: "RenderProcess") -> Any:
        return {
            one.model: orjson.dumps(release_document(one, process.labels.of, process.provenance.of)) for one in items
        }


@dataclass(frozen=True, slots=True)
class RenderMetrics:
    """The job that renders the Prometheus text, from pieces that are ReleaseStatus or (model, version, Totals). `rest`:
    all other metrics.
    """

    rest: GatewayMetrics

    def run(self, items: Sequence[Any], process: "RenderProcess") -> Any:
        versions: list[tuple[str, int, Totals]] = [one for one in items if not isinstance(one, ReleaseStatus)]
        releases = [
            release_metrics(one) for one in items if isinstance(one, ReleaseStatus) and one.candidate is not None
        ]
        named = {one[:2] for one in (*versions, *self.rest.data.outcomes.classes)}
        labels = {key: process.labels.of(*key) for key in named}
        process.metrics = replace(self.rest, versions=versions, releases=releases, labels=labels)
        return generate_latest(process.registry)


@dataclass(frozen=True, slots=True)
class AdoptNames:
    """The names of these versions' classes from now on."""

    names: ClassNames


class PageRenderer:
    """Control's side; use it from one thread. Starts the process when it is needed, and again if it has ended."""

    def __init__(self, repository: Path) -> None:
        self._repository = repository
        self._pipe: Connection | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._sent: ClassNames = {}

    def render(self, job: RenderReleases | RenderMetrics, items: Sequence[object], names: ClassNames) -> Any:
        """The job's result for these pieces. `names`: those of `LoadedClassNames`. Raises NotReady if the process ends
        in each of MAX_ATTEMPTS attempts.
        """
        for _ in range(MAX_ATTEMPTS):
            with contextlib.suppress(OSError, EOFError):
                return self._send_job(job, items, names)
            self.close()
        raise NotReady("the process that renders this page has ended; try again")

    def close(self) -> None:
        """End the process."""
        if self._pipe is not None and self._process is not None:
            self._pipe.close()
            self._pipe = None
            self._process.kill()
            self._process.wait()

    def _send_job(self, job: RenderReleases | RenderMetrics, items: Sequence[object], names: ClassNames) -> Any:
        self._pipe = ours = self._pipe or self._start_process()
        assert self._process is not None
        clock = threading.Timer(TIMEOUT_S, self._process.kill)  # else a hung process would block all readers for ever
        clock.start()
        try:
            if names is not self._sent:
                self._send_names(ours, names)
            for begin in range(0, len(items), ITEMS_PER_MESSAGE):
                ours.send(items[begin : begin + ITEMS_PER_MESSAGE])
            ours.send(job)
            return ours.recv()
        finally:
            clock.cancel()

    def _send_names(self, ours: Connection, names: ClassNames) -> None:
        """Send those that have changed."""
        changed = [(key, one) for key, one in names.items() if self._sent.get(key) is not one]
        for begin in range(0, len(changed), ITEMS_PER_MESSAGE):
            ours.send(AdoptNames(dict(changed[begin : begin + ITEMS_PER_MESSAGE])))
        self._sent = names

    def _start_process(self) -> Connection:
        self._sent = {}
        ours, theirs = pipe()
        arguments = [str(theirs.fileno()), str(self._repository), str(os.getpid())]
        command = [sys.executable, "-c", PROCESS_CODE, *arguments]
        self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        return ours


class RenderProcess:
    """The rendering process's side: its state across jobs. `pid`: the process whose memory and descriptors are
    reported.
    """

    def __init__(self, repository: Path, pid: int) -> None:
        self.labels = ClassLabels(Repository(repository))
        self.provenance = ProvenanceCache(Repository(repository))
        self.metrics: GatewayMetrics
        self.registry = CollectorRegistry(auto_describe=False)
        self.registry.register(GatewayCollector(lambda: self.metrics))
        ProcessCollector(pid=lambda: pid, registry=self.registry)
        PlatformCollector(registry=self.registry)

    def serve(self, pipe: Connection) -> None:
        """Render jobs until control closes the pipe."""
        items: list[Any] = []
        while True:
            message = pipe.recv()
            if isinstance(message, RenderReleases | RenderMetrics):
                pipe.send(message.run(items, self))
                items = []
            elif isinstance(message, AdoptNames):
                self.labels.adopt(message.names)
            else:
                items += message


def main() -> None:
    """Entry point of the rendering process; arguments: pipe descriptor, the repository's path, control's pid. It ends
    when control does.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)
    reset_priority()
    lower_priority(os.getpid(), for_good=True)  # constant polling must not take half a core from the workers
    handle, repository, pid = sys.argv[1:]
    with contextlib.suppress(EOFError, OSError):
        RenderProcess(Path(repository), int(pid)).serve(RetryingPipe(int(handle)))
