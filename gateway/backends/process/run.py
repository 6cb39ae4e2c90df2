"""The process that runs one version for all workers, forked from the template (`__main__`).

Control passes a listening socket, which control keeps open when the process ends, and one end of a socket pair. Over
the pair the process reports whether the version has loaded, its log and a heartbeat. If control closes the pair, the
process serves the connected workers and ends with the last one.
"""

import asyncio
import contextlib
import gc
import logging
import os
import select
import socket
import threading
from pathlib import Path
from typing import Any, Final

import orjson
import uvloop

from gateway.backends.batcher import Batcher
from gateway.backends.in_worker import batcher, candidate_run
from gateway.backends.loaded_version import LoadedVersion, load_version
from gateway.backends.process.alone import AloneWatch
from gateway.backends.process.server import Server
from gateway.backends.process.start import ProcessStart
from gateway.backends.repository import Repository
from gateway.backends.run_threads import RunThreads
from gateway.errors import GatewayError
from gateway.shm.tally import Tally
from gateway.system.scheduling import lower_priority

ALIVE_S: Final = 0.25  # between two heartbeats
FIRST_TO_GO: Final = b"1000"  # oom_score_adj: when memory is short, the kernel kills this process first
log: Final = logging.getLogger("gateway.backends")


class _ToControl(logging.Handler):
    """Sends log records and reports to control. If the socket's buffer is full, they are dropped."""

    def __init__(self, control: socket.socket) -> None:
        super().__init__()
        self._control = control
        self._rest = b""  # of a message that was sent in part
        self._saying = threading.Lock()

    def emit(self, record: logging.LogRecord) -> None:
        self.say({"log": [record.levelno, self.format(record)]})

    def say(self, news: dict[str, Any]) -> None:
        """Send without waiting, or drop the message."""
        with self._saying, contextlib.suppress(OSError):
            if self._rest:
                self._rest = self._rest[self._control.send(self._rest, socket.MSG_DONTWAIT) :]
            if not self._rest:
                line = orjson.dumps(news) + b"\n"
                self._rest = line[self._control.send(line, socket.MSG_DONTWAIT) :]


def _loaded(start: ProcessStart) -> LoadedVersion:
    repository = Repository(Path(start.repository))
    file = repository.model_file(start.name, start.version)
    return load_version(file, repository.settings(start.name), repository.sample(start.name))


def _batcher(start: ProcessStart, loaded: LoadedVersion) -> Batcher:
    """Short runs are executed on the event loop, as a stable version's are in a worker: a thread would take as long to
    be woken. If one blocks the loop, there are no heartbeats, and control ends the process.
    """
    threads = RunThreads(loaded.rules.concurrency, f"{start.name}-{start.version}")
    on_loop = not loaded.loop_limits.off_loop_reason
    if not on_loop:
        threads.start()
    run = candidate_run(loaded, start.version, lambda: False) if start.checked else loaded.runner.run
    label = f"version {start.version} of '{start.name}'"
    made = batcher(label, loaded, run, Tally(), threads, on_loop=on_loop, trusted=True)
    made.set_watch(AloneWatch())
    return made


def _server(start: ProcessStart, listening: socket.socket, found: LoadedVersion | str) -> Server:
    if isinstance(found, str):
        return Server(listening, {"error": found}, None)
    return Server(listening, found.dump(), _batcher(start, found), [one.name for one in found.signature.outputs])


async def _serve(
    start: ProcessStart,
    listening: socket.socket,
    control: socket.socket,
    said: _ToControl,
    found: LoadedVersion | str,
) -> None:
    loop = asyncio.get_running_loop()
    over = asyncio.Event()
    listening.setblocking(False)
    try:
        server = _server(start, listening, found)
    except GatewayError as error:  # there are no threads for it
        found = str(error)
        server = _server(start, listening, found)

    def alone() -> None:
        """When control is gone, or drops this process: serve the connected workers, then end."""
        loop.remove_reader(control.fileno())
        accepting.cancel()
        server.none_left = over.set
        if not server.connections:
            over.set()

    state = {"error": found} if isinstance(found, str) else {"loaded": found.providers}

    def alive() -> None:
        """Send a heartbeat. Each one repeats whether the version has loaded, since a message may be lost."""
        said.say(state)
        loop.call_later(ALIVE_S, alive)

    accepting = loop.create_task(server.serve())
    loop.add_reader(control.fileno(), alone)  # control sends nothing: readable means that it has closed its end
    alive()
    await over.wait()


def _end_with(control: socket.socket, loaded: threading.Event) -> None:
    """End this process if control is gone before the version is loaded: no worker is connected yet."""
    poll = select.poll()
    poll.register(control, 0)  # hang-ups are always reported
    while not loaded.is_set():
        if poll.poll(ALIVE_S * 1e3) and not loaded.is_set():
            os._exit(0)


def run(start: ProcessStart, listening: socket.socket, control: socket.socket) -> None:
    """Run the version until it is no longer needed, in a process forked for it."""
    if start.behind:
        lower_priority(0, for_good=True)
    if start.first_to_go:
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_bytes(FIRST_TO_GO)
    said = _ToControl(control)
    logging.basicConfig(handlers=[said], level=logging.INFO)
    loaded = threading.Event()
    threading.Thread(target=_end_with, args=(control, loaded), daemon=True).start()
    try:
        found: LoadedVersion | str = _loaded(start)
    except GatewayError as error:
        found = str(error)
    loaded.set()
    gc.collect()
    gc.freeze()
    uvloop.run(_serve(start, listening, control, said, found))
