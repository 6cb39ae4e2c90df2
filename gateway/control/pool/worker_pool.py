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

from gateway.control.pool.broadcast import Orders
from gateway.control.pool.shutdown import end_all, send_signal
from gateway.control.pool.worker_handle import Obituary, WorkerHandle, WorkerState, launched, left_out
from gateway.messages import (
    Ack,
    Command,
    ConfigGeneration,
    Failed,
    Listen,
    LoadReply,
    LoadRequest,
    Ready,
    Start,
    Warm,
    WorkerEvent,
)
from gateway.system.background_tasks import persistent
from gateway.system.scheduling import boosted_priority
from gateway.version_key import VersionKey

FIRST_PAUSE_S: Final = 0.1  # before restarting a worker that died early twice in a row; doubled each time
LONGEST_PAUSE_S: Final = 5.0
EARLY_S: Final = 10.0  # after it began to serve: a death before that counts as early
GIVEN_UP: Final = 2  # deaths of a worker that was never warm, after which the others listen without it
WAIT_FACTOR: Final = 3  # once the first is warm, the others get so many times its start-up time
WAIT_LEAST_S: Final = 15.0
log: Final = logging.getLogger("gateway.control.pool")

StartOf = Callable[[int, ConfigGeneration], Start]
OnWish = Callable[[LoadRequest], "asyncio.Future[str]"]
OnDeath = Callable[
    [WorkerHandle, int], Awaitable[bool]
]  # with the exit code; returns whether the cause of the death was removed
Autopsy = Callable[[WorkerHandle], Obituary]


class WorkerPool:
    """`size` workers that serve the generation in force, `plan`. Runs on control's event loop.

    None listens before all are warm: clients often connect at once and keep their connections, so the first worker
    would get them all. `ready` is set once all that were warm then listen, except those silent for WAIT_LEAST_S.

    `failed` is set if a worker reports that it cannot serve before any has been ready: no other could either.
    """

    def __init__(
        self, size: int, plan: ConfigGeneration, start_of: StartOf, on_wish: OnWish, on_death: OnDeath, autopsy: Autopsy
    ) -> None:
        self.size = size
        self.plan = plan
        self.restarts = 0
        self.others_serve = False  # orphans of a killed control process serve
        self.handles: dict[int, WorkerHandle] = {}
        self.ready = asyncio.Event()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._start_of = start_of
        self._on_wish = on_wish
        self._on_death = on_death
        self._autopsy = autopsy
        self._orders = Orders()
        self.changing = asyncio.Lock()  # held while a command changes what is served
        self.killed: Counter[str] = Counter()  # workers ended by this process, by reason
        self._deaths = [0] * size
        self._stopping = False
        self._open = False  # the warm workers have been told to listen
        self._opening: set[WorkerHandle] = set()  # workers that were told to listen first and have not confirmed it
        self._began_s = time.monotonic()
        self._patient = False  # the first worker is warm; the timer for the others runs
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start all workers."""
        for index in range(self.size):
            self._spawn(index)

    def states(self) -> dict[WorkerState, int]:
        """How many workers are in each state."""
        states = [handle.state for handle in self.handles.values()]
        return {state: states.count(state) for state in WorkerState}

    def pids(self) -> list[int]:
        """The process ids of the workers not known to be dead."""
        return [handle.process.pid for handle in self.handles.values() if handle.state is not WorkerState.DEAD]

    def alive(self, index: int) -> bool:
        """Whether the worker may still send an answer."""
        handle = self.handles.get(index)
        return handle is not None and handle.state in (WorkerState.READY, WorkerState.DRAINING)

    def boosted_priority(self, indices: Iterable[int]) -> AbstractContextManager[None]:
        """A context in which these workers run at raised priority, since control waits for them."""
        return boosted_priority(self.handles[index].process.pid for index in indices)

    def acknowledged(self) -> int:
        """How many workers serve the configuration in force."""
        return sum(self.alive(m.index) and m.plan.generation == self.plan.generation for m in self.handles.values())

    def kill(self, indices: Iterable[int]) -> None:
        """Kill these workers at once; new ones replace them."""
        for index in indices:
            send_signal(self.handles[index].process, signal.SIGKILL)

    def ready_handles(self) -> list[WorkerHandle]:
        """The workers that serve."""
        return [handle for handle in self.handles.values() if handle.state is WorkerState.READY]

    def followers(self) -> list[WorkerHandle]:
        """The workers that accept commands: those that serve, or are warm and will listen when told to."""
        return [handle for handle in self.handles.values() if handle.follows]

    async def order(
        self,
        make: Callable[[int], Command],
        handles: Sequence[WorkerHandle] | None = None,
        *,
        staged: bool = False,
        may_die: bool = True,
    ) -> list[str]:
        """Send a command as `Orders.give` does, to these workers or to all followers."""
        chosen = self.followers() if handles is None else handles
        return await self._orders.give(make, chosen, staged=staged, may_die=may_die)

    def give_up(self, handle: WorkerHandle, kind: str, why: str, drain_s: float | None = None) -> None:
        """End a failing worker; no one waits for its answers any more. `drain_s`: seconds to finish requests, else
        none.
        """
        log.error("worker %d %s: it is ended and replaced", handle.index, why)
        handle.given_up = why
        handle.obituary = self._autopsy(handle)
        self.killed[kind] += 1
        handle.expect_nothing()
        if drain_s is not None:
            send_signal(handle.process, signal.SIGTERM)
        asyncio.get_running_loop().call_later(drain_s or 0, send_signal, handle.process, signal.SIGKILL)

    def loaded(self) -> set[VersionKey]:
        """The versions that every worker has loaded, whatever their files contain by now."""
        loaded = {key for key in self.plan.versions if key[0] not in self.plan.unloaded}
        return loaded - set(left_out(self.handles.values())) - set(self.plan.left_out)

    async def stop(self, drain_s: float, hurry: asyncio.Event) -> None:
        """Shut all workers down, as `end_all` does; none is replaced any more."""
        self._stopping = True
        await end_all(self.handles.values(), drain_s, hurry)

    def _spawn(self, index: int) -> None:
        """Start a worker. Raises OSError or RuntimeError if the system lacks the resources."""
        start = replace(self._start_of(index, self.plan), beside=self.others_serve or bool(self.ready_handles()))
        handle = self.handles[index] = launched(index, self.plan, start.beside)
        asyncio.get_running_loop().add_reader(handle.pipe.fileno(), self._receive, handle)
        handle.send(start)

    def _receive(self, handle: WorkerHandle) -> None:
        try:
            report: WorkerEvent = handle.pipe.recv()
        except (EOFError, OSError):
            self._died(handle)
            return
        match report:
            case Warm():
                self._is_warm(handle, report)
            case Ready():
                self._is_ready(handle)
            case Failed():
                log.error("worker %d cannot serve: %s", handle.index, report.error)
                if not self.failed.done() and not self.ready.is_set():
                    self.failed.set_result(report.error)
            case Ack():
                handle.runs_on, handle.left_out = report.runs_on, report.left_out
                answer = handle.waiting.pop(report.order, None)
                if answer is not None and not answer.done():
                    answer.set_result(report.error)
            case LoadRequest():
                granted = self._on_wish(report)
                granted.add_done_callback(lambda result: handle.send(LoadReply(report.load_request, result.result())))

    def _is_warm(self, handle: WorkerHandle, report: Warm) -> None:
        handle.left_out = report.left_out
        handle.runs_on = report.runs_on
        self._begin(self._join(handle))

    async def _join(self, handle: WorkerHandle) -> None:
        """Bring a warm worker up to the generation in force, then let it listen."""
        async with self.changing:
            if handle.plan is not self.plan and (errors := await self._orders.bring_up(handle, self.plan)):
                log.error("worker %d cannot load edits made while it started: %s", handle.index, "; ".join(errors))
                send_signal(handle.process, signal.SIGTERM)
                return
            if handle.state is not WorkerState.STARTING:
                return  # it has died, or the pool is shutting down
            handle.state = WorkerState.WARM
            self._may_listen(handle)

    def _may_listen(self, handle: WorkerHandle) -> None:
        if self._open:
            handle.send(Listen())
            return
        if not self._patient:
            self._patient = True
            patience_s = max(WAIT_LEAST_S, (time.monotonic() - self._began_s) * WAIT_FACTOR)
            asyncio.get_running_loop().call_later(patience_s, self._let_listen)
        self._listen_if_all()

    def _listen_if_all(self) -> None:
        """Let the workers listen once all are warm, except those that die repeatedly while loading."""
        waited_for = (m for m in self.handles.values() if self._deaths[m.index] < GIVEN_UP)
        if all(handle.state is WorkerState.WARM for handle in waited_for):
            self._let_listen()

    def _let_listen(self) -> None:
        warm = [handle for handle in self.handles.values() if handle.state is WorkerState.WARM]
        if self._open or self._stopping:
            return
        if not warm:
            self._patient = False  # the warm worker has died: the next one restarts the timer
            return
        if len(warm) < self.size:
            log.error("%d of %d workers are ready; serving starts without the others", len(warm), self.size)
        self._open = True
        self._opening = set(warm)
        for handle in warm:
            handle.send(Listen())
        asyncio.get_running_loop().call_later(WAIT_LEAST_S, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        """Stop waiting for workers told to listen that have not confirmed it: they may be suspended."""
        self._opening.clear()
        self._are_open()

    def _is_ready(self, handle: WorkerHandle) -> None:
        if handle.state is WorkerState.WARM:
            handle.state = WorkerState.READY
            handle.ready_s = time.monotonic()
        self._opening.discard(handle)
        self._are_open()

    def _are_open(self) -> None:
        if self._open and not self._opening and self.ready_handles():
            self.ready.set()

    def _died(self, handle: WorkerHandle) -> None:
        if handle.state is WorkerState.DEAD:
            return
        asyncio.get_running_loop().remove_reader(handle.pipe.fileno())
        handle.close()
        early = time.monotonic() - handle.ready_s < EARLY_S  # also if it never served
        if not handle.given_up:
            handle.obituary = self._autopsy(handle)
        handle.state = WorkerState.DEAD
        handle.expect_nothing()
        if self._stopping:
            return
        self._deaths[handle.index] = self._deaths[handle.index] + 1 if early else 1
        self._opening.discard(handle)
        self._are_open()
        self._listen_if_all()
        self._begin(self._replace(handle))

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, handle: WorkerHandle) -> None:
        ended = f"waiting for the end of worker {handle.index}"
        code = await persistent(ended, lambda: asyncio.to_thread(handle.process.wait))
        if self._stopping:
            return
        try:
            if await self._on_death(handle, code):
                self._deaths[handle.index] = 1
        except Exception:  # such as no free descriptors: the versions can be tried later
            log.exception("why worker %d died cannot be determined; it is replaced nevertheless", handle.index)
        pause_s = _pause_s(self._deaths[handle.index])
        log.warning("worker %d exited with code %d; a new one starts in %g s", handle.index, code, pause_s)
        await asyncio.sleep(pause_s)
        await persistent(f"starting worker {handle.index}", lambda: self._start_again(handle.index))

    async def _start_again(self, index: int) -> None:
        if not self._stopping:
            self._spawn(index)
            self.restarts += 1


def _pause_s(deaths: int) -> float:
    """The pause in seconds before the next start, after so many early deaths in a row."""
    return min(FIRST_PAUSE_S * 2.0 ** (deaths - 2), LONGEST_PAUSE_S) if deaths > 1 else 0.0
