"""The pool of worker processes: starts them, receives their events, replaces those that die, sends commands to all."""

import asyncio
import logging
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final

from gateway.control.pool.broadcast import Broadcaster
from gateway.control.pool.shutdown import send_signal, shut_down
from gateway.control.pool.worker_handle import WorkerActivity, WorkerHandle, WorkerState, launch, loaded_versions
from gateway.messages import (
    Ack,
    Command,
    ConfigGeneration,
    CountRequest,
    DiedAlone,
    Failed,
    Listen,
    LoadReply,
    LoadRequest,
    Ready,
    Start,
    Warm,
    WorkerEvent,
)
from gateway.system.background_tasks import retry_forever
from gateway.system.scheduling import boosted_priority
from gateway.version_key import VersionKey

FIRST_BACKOFF_S: Final = 0.1  # before restarting a worker that died early twice in a row; doubled each time
MAX_BACKOFF_S: Final = 5.0
EARLY_DEATH_S: Final = 10.0  # after it began to serve: a death before that counts as early
MOST_EARLY_DEATHS: Final = 2  # deaths of a worker that was never warm, after which the others listen without it
WAIT_FACTOR: Final = 3  # once the first is warm, the others get so many times its start-up time
MIN_WAIT_S: Final = 15.0
log: Final = logging.getLogger("gateway.control.pool")

StartOf = Callable[[int, ConfigGeneration], Start]
OnLoad = Callable[[LoadRequest], "asyncio.Future[str]"]
OnDeath = Callable[[WorkerHandle, int], Awaitable[bool]]  # with the exit code; returns whether the cause was removed
Activity = Callable[[WorkerHandle], WorkerActivity]


class WorkerPool:
    """`size` workers that serve the generation in force, `config`. Runs on control's event loop.

    None listens before all are warm: clients often connect at once and keep their connections, so the first worker
    would get them all. `ready` is set once all that were warm then listen, except those silent for MIN_WAIT_S.
    `failed` is set if a worker reports that it cannot serve before any has been ready: no other could either.
    """

    def __init__(
        self,
        size: int,
        config: ConfigGeneration,
        start_of: StartOf,
        on_load: OnLoad,
        on_death: OnDeath,
        activity: Activity,
    ) -> None:
        self.size = size
        self.config = config
        self.restarts = 0
        self.orphans_serve = False  # orphans of a killed control process serve
        self.handles: dict[int, WorkerHandle] = {}
        self.ready = asyncio.Event()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._start_of = start_of
        self._on_load = on_load
        self._on_death = on_death
        self._activity_of = activity
        self._broadcaster = Broadcaster()
        self.changing = asyncio.Lock()  # held while a command changes what is served
        self.on_died_alone: Callable[[DiedAlone], None] = lambda _: None
        self.on_count: Callable[[WorkerHandle, CountRequest], None] = lambda *_: None
        self.killed: Counter[str] = Counter()  # workers ended by this process, by reason
        self._deaths = [0] * size
        self._stopping = False
        self.listening = False  # the warm workers have been told to listen
        self._unconfirmed: set[WorkerHandle] = set()  # told to listen first, and have not confirmed it
        self._began_s = time.monotonic()
        self._timer_started = False  # the first worker is warm; the timer for the others runs
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start all workers."""
        for index in range(self.size):
            self._spawn(index)

    def states(self) -> dict[WorkerState, int]:
        """How many workers are in each state."""
        counts = Counter(handle.state for handle in self.handles.values())
        return {state: counts[state] for state in WorkerState}

    def alive(self, index: int) -> bool:
        """Whether the worker may still send an answer."""
        handle = self.handles.get(index)
        return handle is not None and handle.state in (WorkerState.READY, WorkerState.DRAINING)

    def boosted_priority(self, indices: Iterable[int]) -> AbstractContextManager[None]:
        """A context in which these workers run at raised priority, since control waits for them."""
        return boosted_priority(self.handles[index].process.pid for index in indices)

    def acknowledged(self) -> int:
        """How many workers serve the configuration in force."""
        return sum(self.alive(m.index) and m.config.generation == self.config.generation for m in self.handles.values())

    def kill(self, indices: Iterable[int]) -> None:
        """Kill these workers at once; new ones replace them."""
        for index in indices:
            send_signal(self.handles[index].process, signal.SIGKILL)

    def ready_handles(self) -> list[WorkerHandle]:
        """The workers that serve."""
        return [handle for handle in self.handles.values() if handle.state is WorkerState.READY]

    def accepting_handles(self) -> list[WorkerHandle]:
        """The workers that accept commands: those that serve, or are warm and will listen when told to."""
        return [handle for handle in self.handles.values() if handle.accepts_commands]

    async def broadcast(
        self,
        make: Callable[[int], Command],
        handles: Sequence[WorkerHandle] | None = None,
        *,
        staged: bool = False,
        may_die: bool = True,
    ) -> list[str]:
        """Send a command as `Broadcaster.broadcast` does, to these workers or to all that accept commands."""
        chosen = self.accepting_handles() if handles is None else handles
        return await self._broadcaster.broadcast(make, chosen, staged=staged, may_die=may_die)

    def end_worker(self, handle: WorkerHandle, kind: str, why: str, drain_s: float | None = None) -> None:
        """End a failing worker; no one waits for its answers then. `drain_s`: seconds to finish requests, else none."""
        log.error("worker %d %s: it is killed and replaced", handle.index, why)
        handle.end_reason = why
        handle.last_activity = self._activity_of(handle)
        self.killed[kind] += 1
        handle.resolve_pending()
        if drain_s is not None:
            send_signal(handle.process, signal.SIGTERM)
        asyncio.get_running_loop().call_later(drain_s or 0, send_signal, handle.process, signal.SIGKILL)

    def loaded(self) -> set[VersionKey]:
        """The versions that every worker has loaded, whatever their files contain by now."""
        return loaded_versions(self.config, self.handles.values())

    async def stop(self, drain_s: float, hurry: asyncio.Event) -> None:
        """Shut all workers down, as `shut_down` does; none is replaced any more."""
        self._stopping = True
        for handle in self.handles.values():
            handle.state = WorkerState.DRAINING
        await shut_down([handle.process for handle in self.handles.values()], drain_s, hurry)

    def _spawn(self, index: int) -> None:
        """Start a worker. Raises OSError or RuntimeError if the system lacks the resources."""
        others_serve = self.orphans_serve or bool(self.ready_handles())
        start = replace(self._start_of(index, self.config), low_priority=others_serve)
        handle = self.handles[index] = launch(index, self.config, start.low_priority)
        asyncio.get_running_loop().add_reader(handle.pipe.fileno(), self._receive, handle)
        handle.send(start)

    def _receive(self, handle: WorkerHandle) -> None:
        try:
            report: WorkerEvent = handle.pipe.recv()
        except (EOFError, OSError):
            self._on_exit(handle)
            return
        match report:
            case Warm():
                handle.runs_on, handle.unavailable = report.runs_on, report.unavailable
                self._start_task(self._join(handle))
            case Ready():
                self._on_ready(handle)
            case Failed():
                log.error("worker %d cannot serve: %s", handle.index, report.error)
                if not self.failed.done() and not self.ready.is_set():
                    self.failed.set_result(report.error)
            case Ack():
                handle.runs_on, handle.unavailable = report.runs_on, report.unavailable
                answer = handle.pending.pop(report.number, None)
                if answer is not None and not answer.done():
                    answer.set_result(report.error)
            case DiedAlone():
                self.on_died_alone(report)
            case LoadRequest():
                self._on_load(report).add_done_callback(lambda ran: handle.send(LoadReply(report.number, ran.result())))
            case CountRequest():
                self.on_count(handle, report)

    async def _join(self, handle: WorkerHandle) -> None:
        """Bring a warm worker up to the generation in force, then let it listen."""
        async with self.changing:
            if handle.config is not self.config and (errors := await self._broadcaster.catch_up(handle, self.config)):
                log.error("worker %d cannot load edits made while it started: %s", handle.index, "; ".join(errors))
                send_signal(handle.process, signal.SIGTERM)
                return
            if handle.state is not WorkerState.STARTING:
                return  # it has died, or the pool is shutting down
            handle.state = WorkerState.WARM
            self._may_listen(handle)

    def _may_listen(self, handle: WorkerHandle) -> None:
        if self.listening:
            handle.send(Listen())
            return
        if not self._timer_started:
            self._timer_started = True
            patience_s = max(MIN_WAIT_S, (time.monotonic() - self._began_s) * WAIT_FACTOR)
            asyncio.get_running_loop().call_later(patience_s, self._let_listen)
        self._listen_if_all()

    def _listen_if_all(self) -> None:
        """Let the workers listen once all are warm, except those that die repeatedly while loading."""
        if all(m.state is WorkerState.WARM for m in self.handles.values() if self._deaths[m.index] < MOST_EARLY_DEATHS):
            self._let_listen()

    def _let_listen(self) -> None:
        warm = [handle for handle in self.handles.values() if handle.state is WorkerState.WARM]
        if self.listening or self._stopping:
            return
        if not warm:
            self._timer_started = False  # the warm worker has died: the next one restarts the timer
            return
        if len(warm) < self.size:
            log.error("%d of %d workers are ready; serving starts without the others", len(warm), self.size)
        self.listening = True
        self._unconfirmed = set(warm)
        for handle in warm:
            handle.send(Listen())
        asyncio.get_running_loop().call_later(MIN_WAIT_S, self._stop_waiting)

    def _stop_waiting(self) -> None:
        """Stop waiting for workers told to listen that have not confirmed it: they may be suspended."""
        self._unconfirmed.clear()
        self._set_ready_if_all()

    def _on_ready(self, handle: WorkerHandle) -> None:
        if handle.state is WorkerState.WARM:
            handle.state = WorkerState.READY
            handle.ready_s = time.monotonic()
        self._unconfirmed.discard(handle)
        self._set_ready_if_all()

    def _set_ready_if_all(self) -> None:
        if self.listening and not self._unconfirmed and self.ready_handles():
            self.ready.set()

    def _on_exit(self, handle: WorkerHandle) -> None:
        if handle.state is WorkerState.DEAD:
            return
        asyncio.get_running_loop().remove_reader(handle.pipe.fileno())
        handle.close()
        early = time.monotonic() - handle.ready_s < EARLY_DEATH_S  # also if it never served
        if not handle.end_reason:
            handle.last_activity = self._activity_of(handle)
        handle.state = WorkerState.DEAD
        handle.resolve_pending()
        if self._stopping:
            return
        self._deaths[handle.index] = self._deaths[handle.index] + 1 if early else 1
        self._unconfirmed.discard(handle)
        self._set_ready_if_all()
        self._listen_if_all()
        self._start_task(self._replace(handle))

    def _start_task(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, handle: WorkerHandle) -> None:
        ended = f"waiting for the end of worker {handle.index}"
        code = await retry_forever(ended, lambda: asyncio.to_thread(handle.process.wait))
        if self._stopping:
            return
        try:
            if await self._on_death(handle, code):
                self._deaths[handle.index] = 1
        except Exception:  # such as no free descriptors: the versions can be tried later
            log.exception("why worker %d died cannot be determined; it is replaced nevertheless", handle.index)
        pause_s = _backoff_s(self._deaths[handle.index])
        log.warning("worker %d exited with code %d; a new one starts in %g s", handle.index, code, pause_s)
        await asyncio.sleep(pause_s)
        await retry_forever(f"starting worker {handle.index}", lambda: self._start_again(handle.index))

    async def _start_again(self, index: int) -> None:
        if not self._stopping:
            self._spawn(index)
            self.restarts += 1


def _backoff_s(deaths: int) -> float:
    """The pause in seconds before the next start, after so many early deaths in a row."""
    return min(FIRST_BACKOFF_S * 2.0 ** min(deaths - 2, 10), MAX_BACKOFF_S) if deaths > 1 else 0.0
