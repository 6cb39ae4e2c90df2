"""A worker process: one event loop with its own listening socket, its ONNX sessions and the data plane.

`python -m gateway.worker FD`: FD is the pipe to the control process.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, NoReturn

import uvicorn
import uvloop

from gateway.auth.fleet_rate_limit import attach_fleet_rate_limiter
from gateway.auth.keyring import Keyring
from gateway.auth.rate_limit import attach_rate_limiter
from gateway.auth.tls import Tls, ssl_context_factory
from gateway.backends.repository import Repository
from gateway.errors import GatewayError
from gateway.logs import configure
from gateway.messages import (
    Ack,
    AdoptKeys,
    CloseConnections,
    Command,
    Commit,
    ControlMessage,
    CountReply,
    DiedAlone,
    Discard,
    Failed,
    Listen,
    Load,
    LoadReply,
    Prepare,
    Ready,
    Start,
    Warm,
    WorkerEvent,
)
from gateway.records.trips import Trip, save_trip
from gateway.settings.gateway import ServerSettings
from gateway.shm.scoreboard import HEARTBEATS, Scoreboard
from gateway.shm.switchboard import Switchboard
from gateway.system.background_tasks import retry_forever
from gateway.system.pipe import RetryingPipe
from gateway.system.scheduling import reset_priority, restore_priority
from gateway.web.server import Server
from gateway.web.sockets import listener
from gateway.worker.assembly import recorder_of, spans_of
from gateway.worker.http.access import Access
from gateway.worker.http.app import data_app
from gateway.worker.http.connection import InferConnection
from gateway.worker.http.connection_share import ConnectionShare
from gateway.worker.load_requests import NO_CONTROL, LoadRequests
from gateway.worker.models.catalog import ModelCatalog
from gateway.worker.models.load_options import LoadOptions
from gateway.worker.models.shared_state import SharedState
from gateway.worker.pipeline import Pipeline
from gateway.worker.rate_counting import RateCounting

BACKLOG: Final = 2048
HEARTBEAT_S: Final = 0.25
log: Final = logging.getLogger("gateway.worker")
EXIT_FAILED: Final = 3  # the worker said why it cannot serve: starting another one would be no use


class Worker:
    """One worker process, from loading its models until it has drained."""

    def __init__(self, start: Start, pipe: RetryingPipe) -> None:
        self._pipe = pipe
        self._server_settings = start.settings.server
        self._start = start
        config = start.config
        self._shared_state = SharedState(
            Switchboard.attach(start.switchboard, start.workers),
            Scoreboard.attach(start.scoreboard, start.workers),
            start.worker,
            heartbeat_timeout_ns=int(start.settings.control.heartbeat_timeout * 1e9),
            versions=config.versions,
            releases=config.releases,
            on_trip=self._tripped,
        )
        self._repository = Repository(Path(start.settings.models.path))
        self._catalog = ModelCatalog(
            self._repository,
            config.routing,
            self._shared_state,
            unavailable=config.unavailable,
            generation=config.generation,
            configured=config.configured,
            unloaded=config.unloaded,
            sockets=config.sockets,
        )
        self._spans = spans_of(start, self._shared_state.head)
        recorder = recorder_of(start, self._shared_state, self._spans)
        recorder.on_died_alone = self._died_alone
        self._pipeline = Pipeline(self._catalog, start.settings.limits, self._shared_state, recorder)
        settings = start.settings
        head = self._shared_state.head
        self._keyring = Keyring(Path(settings.auth.keys)) if settings.auth.keys else None
        attach = attach_rate_limiter if settings.fleet is None else attach_fleet_rate_limiter
        limiter = attach(settings.limits.rate, start.scoreboard, start.workers, start.worker, head)
        self._rate_counting = RateCounting(self._send)
        self._access = Access(self._keyring, limiter, count=self._rate_counting.count)
        self._tls = Tls(settings.server.tls) if settings.server.tls else None
        self._load_requests = LoadRequests(self._repository, self._pipeline, self._send)
        self._tasks: set[asyncio.Task[None]] = set()
        self._may_listen: asyncio.Future[bool]
        self._connection_share: ConnectionShare

    def _tripped(self, name: str, candidate: int, found: str, holds: Callable[[], bool]) -> None:
        save_trip(Path(self._start.settings.state), Trip(name, candidate, self._start.worker, found), holds)

    def _died_alone(self, name: str, version: int, prediction_id: bytes) -> None:
        self._send(DiedAlone((name, version), prediction_id.decode()))

    async def run(self) -> None:
        """Load the models, wait for control's command to listen, serve until SIGTERM, then answer what has begun, for
        `server.drain` at most.
        """
        loop = asyncio.get_running_loop()
        self._may_listen = loop.create_future()
        if self._pipe.peer_gone:  # then the memory may be the next one's: it must not write a word there
            _end_alone()
        loop.add_reader(self._pipe.fileno(), self._receive)
        self._heartbeat(loop)
        await self._catalog.start()
        server = Server(self._configuration())
        loop.add_signal_handler(signal.SIGTERM, self._drain, server)
        if self._tls:
            self._shared_state.gate.defer_exit(loop.call_soon)
        self._tasks.update(
            loop.create_task(retry_forever(f"following {kept.watcher}", kept.watcher.watch))
            for kept in (self._keyring, self._tls)
            if kept
        )
        if self._spans:
            self._spans.start()
        gc.collect()
        gc.freeze()  # what start-up made lives as long as the process: no collection need look at it again
        bound = listener(self._server_settings.host, self._start.port)
        self._connection_share = ConnectionShare(
            server.server_state.connections, self._shared_state, self._server_settings
        )
        self._connection_share.count()
        self._send(Warm(self._catalog.unavailable(), self._catalog.runs_on()))
        if await self._may_listen:
            if self._start.low_priority:
                restore_priority()
            bound.listen(BACKLOG)
            self._send(Ready())
            await server.serve(sockets=[bound])
        await self._catalog.close()
        if self._spans:
            self._spans.close()

    def _heartbeat(self, loop: asyncio.AbstractEventLoop) -> None:
        """Count on: a loop that does not come here is one that does nothing else either."""
        self._shared_state.head[HEARTBEATS] += 1
        loop.call_later(HEARTBEAT_S, self._heartbeat, loop)

    def _drain(self, server: Server) -> None:
        server.force_exit = server.should_exit  # asked a second time: do not wait for those in flight
        server.should_exit = True
        self._pipeline.draining = True
        self._listen(False)

    def _listen(self, may: bool) -> None:
        if not self._may_listen.done():
            self._may_listen.set_result(may)

    def _receive(self) -> None:
        try:
            message: ControlMessage = self._pipe.recv()
        except (EOFError, OSError):
            self._orphaned()
            return
        match message:
            case LoadReply():
                self._load_requests.answer(message)
            case CountReply():
                self._rate_counting.answer(message)
            case Listen():
                self._listen(True)
            case CloseConnections():
                self._connection_share.close_connections(message.count)
            case AdoptKeys():
                self._pipeline.recorder.signer.adopt(message.keys.pairs())
            case _:
                task = asyncio.get_running_loop().create_task(self._handle(message))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _orphaned(self) -> None:
        """Control is dead. Its heartbeat stops every candidate; stable goes on until a new control takes over."""
        if not self._may_listen.done():
            _end_alone()  # no one would ever tell it to listen, and what it loads may never end
        asyncio.get_running_loop().remove_reader(self._pipe.fileno())
        reset_priority()  # it may have died while it hurried us
        self._load_requests.refuse_all()
        self._rate_counting.give_up()

    async def _handle(self, command: Command) -> None:
        error = ""
        try:
            await self._dispatch(command)
        except GatewayError as refused:
            error = str(refused)
        except Exception as broken:
            error = f"{type(broken).__name__}: {broken}"
        self._send(Ack(command.number, error, self._catalog.runs_on(), self._catalog.unavailable()))

    async def _dispatch(self, command: Command) -> None:
        match command:
            case Prepare():
                config = command.config
                self._shared_state.update_slots(config.versions, config.releases)
                how = LoadOptions(
                    config.unavailable, config.sockets, command.catch_up, config.unloaded, command.reload, config.kept
                )
                await self._catalog.prepare(config.routing, config.generation, config.configured, how)
            case Commit():
                self._catalog.commit()
            case Discard():
                self._catalog.discard()
            case Load():
                self._shared_state.update_slots(command.config.versions, command.config.releases)
                config = command.config
                how = LoadOptions(config.unavailable, config.sockets)
                await self._catalog.load(command.name, command.config.routing, how)
            case _:
                await self._catalog.unload(command.name)

    def _send(self, report: WorkerEvent) -> bool:
        """Send an event to control; False if the pipe is closed."""
        try:
            self._pipe.send(report)
        except OSError:
            return False
        return True

    def _configuration(self) -> uvicorn.Config:
        server: ServerSettings = self._server_settings
        return uvicorn.Config(
            data_app(self._pipeline, server.max_body, self._load_requests, self._access),
            http=InferConnection,
            interface="asgi3",
            proxy_headers=False,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            date_header=False,
            backlog=BACKLOG,
            timeout_graceful_shutdown=max(1, round(server.drain)),
            ssl_context_factory=ssl_context_factory(self._tls),
        )


def _end_alone() -> NoReturn:
    """End at once: it has not served anyone."""
    log.warning("%s before this worker served; it exits", NO_CONTROL)
    os._exit(0)


def main() -> None:
    """Run the process. Ctrl-C in a terminal signals every process of the group: control alone handles it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGXCPU, signal.SIG_IGN)  # control's own limit, inherited (gateway.system.scheduling)
    reset_priority()
    pipe = RetryingPipe(int(sys.argv[1]))
    try:
        start: Start = pipe.recv()
    except (EOFError, OSError):
        _end_alone()
    configure(start.settings.server.log, "worker", start.worker)
    try:
        uvloop.run(Worker(start, pipe).run())
    except GatewayError as error:
        with contextlib.suppress(OSError):  # control is gone
            pipe.send(Failed(str(error)))
        sys.exit(EXIT_FAILED)
    sys.stdout.flush()
    os._exit(0)  # a thread that still runs a model is not waited for: its callers have been given their time


if __name__ == "__main__":
    main()
