"""The control process: reserves the data port, starts the workers, watches the files, serves the control plane's HTTP
API and shuts everything down.
"""

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final

import uvicorn

from gateway.auth.keyring import Keyring
from gateway.auth.tls import Tls, ssl_context_factory
from gateway.backends.run_threads import REMEDY
from gateway.control.api.app import control_app
from gateway.control.api.connection import ControlConnection
from gateway.control.config.startup import open_state
from gateway.control.control_plane import ControlPlane
from gateway.control.fleet_tasks import close_fleet, fleet_tasks, leave_fleet
from gateway.control.garbage_collection import PacedCollector, without_collection
from gateway.control.plane_sockets import control_socket, metrics_socket, reserve_port, url_of
from gateway.control.pool.orphans import OrphanedWorkers
from gateway.control.propose import Proposals
from gateway.control.registry.assembly import open_registry
from gateway.control.registry.webhook import Webhook
from gateway.control.release.release_status import ReleaseStatus
from gateway.control.status import collect_status
from gateway.errors import SettingsError
from gateway.settings.gateway import GatewaySettings, ServerSettings
from gateway.shm.claim import claim
from gateway.system.background_tasks import retry_forever
from gateway.system.bounded_call import run_bounded
from gateway.system.descriptors import raise_descriptor_limit
from gateway.system.permissions import owner_remedy
from gateway.system.scheduling import demote_on_cpu_overrun, raise_niceness, restore_realtime, set_realtime
from gateway.web.server import Server

TICK_S: Final = 0.05
FILE_POLL_S: Final = 0.1
PROCESS_END_TIMEOUT_S: Final = 2.0  # for a version's process, once no worker is connected to it
MAX_THREADS: Final = 32  # some may block on a disk for ever
CLOSE_TIMEOUT_S: Final = 12.0  # includes the record writer, which gives up after ten
SWITCH_INTERVAL_S: Final = (
    0.0002  # the longest that a computing thread may hold the interpreter while control's loop is ready
)
log: Final = logging.getLogger("gateway.control")
Ready = Callable[[ControlPlane, Sequence[ReleaseStatus], str, str], None]


def worker_count(server: ServerSettings) -> int:
    """The number of workers to run: `server.workers`, or for "auto" one for each core that this process may use."""
    if server.workers != "auto":
        return server.workers
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1


async def supervise(settings: GatewaySettings, ready: Ready) -> None:
    """Run the gateway until SIGTERM or SIGINT, then drain. Raises SettingsError if it cannot start.

    `ready` is called in a thread once all workers serve, with control, the releases, and the URLs of the data and
    control planes.
    """
    raise_descriptor_limit()
    state = Path(settings.state)
    keyring = Keyring(Path(settings.auth.keys)) if settings.auth.keys else None
    tls = Tls(settings.control.tls) if settings.control.tls else None
    control: ControlPlane | None = None
    with _lock_state(state), contextlib.ExitStack() as stack:
        try:
            memory = await asyncio.to_thread(claim, state)
            stack.callback(memory.close)
            orphans = await asyncio.to_thread(OrphanedWorkers, memory.name)
            held = reserve_port(settings.server, shared=len(orphans) > 0)
            stack.callback(held.close)
            plane, metrics = control_socket(settings), metrics_socket(settings)
            planes = [plane] if metrics is None else [plane, metrics]
            for bound in planes:
                stack.callback(bound.close)
            with without_collection():
                opening = await asyncio.to_thread(open_state, settings, memory)
                stack.callback(_close_with_timeout, lambda: (control or opening.decision_log).close())
                control = ControlPlane(settings, opening, worker_count(settings.server), held.getsockname()[1])
        except ValueError as error:
            raise SettingsError(str(state), [str(error)]) from None
        except PermissionError as error:
            problem = f"cannot be used: {error.strerror}{owner_remedy(error)}"
            raise SettingsError(str(error.filename or state), [problem]) from None
        except RuntimeError as error:
            raise SettingsError("server", [f"{error}: no more threads can be started; {REMEDY}"]) from None
        urls = url_of(held, settings.server.tls), url_of(plane, settings.control.tls)
        running = _Supervisor(settings, control, orphans, planes, keyring, tls)
        await running.run(urls[1], lambda seen: ready(control, seen, *urls))


class _Supervisor:
    def __init__(
        self,
        settings: GatewaySettings,
        control: ControlPlane,
        orphans: OrphanedWorkers,
        planes: Sequence[socket.socket],
        keyring: Keyring | None,
        tls: Tls | None,
    ) -> None:
        self._settings = settings
        self._control = control
        self._orphans = orphans
        self._control_sockets = planes
        self._keyring = keyring
        self._tls = tls
        self._end = asyncio.Event()
        self._skip_drain = asyncio.Event()
        self._reload_now = asyncio.Event()
        self._proposals = Proposals(control, control.editor, self._end.is_set)
        self._webhook: Webhook | None = None

    async def run(self, url: str, ready: Callable[[Sequence[ReleaseStatus]], None]) -> None:
        loop = asyncio.get_running_loop()
        registry = open_registry(self._settings, self._control, self._proposals, url)
        self._webhook = registry.webhook if registry is not None else None
        demote_on_cpu_overrun()
        sys.setswitchinterval(SWITCH_INTERVAL_S)
        set_realtime()  # a stop must not wait for a core that the load occupies
        loop.set_default_executor(ThreadPoolExecutor(MAX_THREADS, "control", initializer=raise_niceness))
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._on_stop_signal)
        loop.add_signal_handler(signal.SIGHUP, self._reload_now.set)
        lasting = {"the control loop": self._tick, "the control plane": self._serve}
        lasting |= fleet_tasks(self._control)
        lasting |= {f"following {kept.watcher}": kept.watcher.watch for kept in (self._keyring, self._tls) if kept}
        tasks = [loop.create_task(retry_forever(what, act)) for what, act in lasting.items()]
        self._control.pool.orphans_serve = len(self._orphans) > 0
        ending: list[asyncio.Task[None]] = []
        try:
            starting = loop.create_task(self._control.start())
            asked = loop.create_task(self._end.wait())
            await asyncio.wait((starting, asked), return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                self._control.pool.orphans_serve = False
                ending.append(loop.create_task(self._end_orphans()))
                tasks.append(loop.create_task(self._announce(ready)))
                later = {"following the routing file": self._watch_files}
                if self._control.fleet_routing is not None:
                    later["the fleet's routing edits"] = self._control.fleet_routing.run_forever
                if registry is not None:
                    later["following the registry"] = registry.run_forever
                tasks += [loop.create_task(retry_forever(what, act)) for what, act in later.items()]
                await asked
            starting.cancel()
        finally:
            self._control.end_trials()
            if self._end.is_set() and not ending:  # else it cannot start, and they go on serving
                ending.append(loop.create_task(self._end_orphans()))
            ending.append(loop.create_task(leave_fleet(self._control)))
            await asyncio.gather(self._control.pool.stop(self._settings.server.drain, self._skip_drain), *ending)
            if self._control.rates is not None:
                await self._control.rates.leave()  # no worker admits anything any more
            await self._control.processes.close(PROCESS_END_TIMEOUT_S)
            for task in tasks:
                task.cancel()
            await close_fleet(self._control, tasks, PROCESS_END_TIMEOUT_S)
            loop.set_default_executor(ThreadPoolExecutor(1))  # threads still blocked on a disk are not waited for

    async def _announce(self, ready: Callable[[Sequence[ReleaseStatus]], None]) -> None:
        """Call `ready`. Nothing waits for it: what it writes to may be full, closed, or read by no one."""
        try:
            await asyncio.to_thread(ready, (await collect_status(self._control)).releases)
        except Exception as error:
            log.warning("that the gateway serves could not be shown: %s: %s", type(error).__name__, error)

    async def _end_orphans(self) -> None:
        await retry_forever("ending the orphans", lambda: self._orphans.end(self._settings.server.drain))
        if self._control.rates is not None:
            self._control.rates.orphans_ended()

    async def _serve(self) -> None:
        await self._server().serve(sockets=list(self._control_sockets))

    def _server(self) -> Server:
        application = control_app(
            self._control,
            self._proposals,
            self._end,
            self._keyring,
            metrics_port=self._settings.control.metrics_port,
            webhook=self._webhook,
        )
        tls = ssl_context_factory(self._tls)
        return Server(
            uvicorn.Config(
                application,
                http=ControlConnection,
                lifespan="off",
                log_config=None,
                access_log=False,
                ssl_context_factory=tls,
            )
        )

    def _on_stop_signal(self) -> None:
        if self._end.is_set():
            self._skip_drain.set()
            self._orphans.skip_drain.set()
        self._end.set()

    async def _tick(self) -> None:
        trouble, collector = "", PacedCollector()
        while True:
            try:
                for _ in self._control.tick():
                    await self._control.command_priority.yield_to_commands()
                trouble = ""
                restore_realtime()
            except Exception as error:  # the heartbeat is not written then, which stops all candidates (Switch.stopped)
                if str(error) != trouble:
                    log.exception(
                        "the periodic work of the control process fails; after"
                        " control.heartbeat_timeout candidates get no traffic"
                    )
                trouble = str(error)
            await self._control.command_priority.yield_to_commands()
            collector.step()
            await asyncio.sleep(TICK_S)

    async def _watch_files(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(FILE_POLL_S):  # wait_for of 3.11 may swallow a cancellation
                    await self._reload_now.wait()
            await self._reload_if_changed()

    async def _reload_if_changed(self) -> None:
        # in a thread: a folder that hangs must not block control's loop
        if self._reload_now.is_set():
            self._reload_now.clear()
            await self._control.reload()
        elif await asyncio.to_thread(self._control.routing_file.changed):
            await self._control.reload(settled=True)
        await self._control.acceptance.retry_write()


def _close_with_timeout(close: Callable[[], None]) -> None:
    if not run_bounded(close, CLOSE_TIMEOUT_S):
        log.error(
            "the disk did not accept the remaining writes within %g s; the gateway exits without them", CLOSE_TIMEOUT_S
        )


@contextlib.contextmanager
def _lock_state(state: Path) -> Iterator[None]:
    """Hold the lock that allows one gateway for each state folder; the OS releases it however the process ends."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)  # records hold what customers have sent
        lock = (state / "lock").open("w")
    except OSError as error:
        remedy = owner_remedy(error, "it and all that is in it")
        raise SettingsError("gateway.yaml", [f"state: {state} cannot be written: {error.strerror}{remedy}"]) from None
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            problem = f"state: another gateway is using {state}; stop it, or give this one its own state folder"
            raise SettingsError("gateway.yaml", [problem]) from None
        yield
