"""The worker processes: starts them, hears them, replaces those that die, gives orders to all of them at once."""

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from enum import StrEnum
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from gateway.orders import Done, Failed, Granted, Order, Plan, Ready, Report, RunsOn, Start, Wish
from gateway.priority import hurried
from gateway.shm.process import born

BACK_OFF_S: Final = (
    0.0,
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
)  # after so many deaths in a row without ever being ready
ORDER_WITHIN_S: Final = 600.0  # loading large models takes long
log: Final = logging.getLogger("gateway.fleet")

StartOf = Callable[[int, Plan], Start]
OnWish = Callable[[Wish], "asyncio.Future[str]"]


class WorkerState(StrEnum):
    """The life of a worker."""

    STARTING = "starting"
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

    def tell(self, word: "Start | Order | Granted") -> None:
        """Send it, in order, without waiting: a plan is larger than a pipe, and a worker may be busy or suspended."""
        with contextlib.suppress(RuntimeError):  # it has died since it asked
            self._mouth.submit(self._send, word)

    def hang_up(self) -> None:
        """The process has died."""
        self.pipe.close()
        self._mouth.shutdown(wait=False, cancel_futures=True)

    def _send(self, word: "Start | Order | Granted") -> None:
        with contextlib.suppress(OSError, ValueError):  # it has died, which is heard elsewhere
            self.pipe.send(word)


class Fleet:
    """`size` workers under the plan in force. Lives on control's event loop.

    `failed` is set when a worker says that it cannot serve before any has been ready: no other could either.
    """

    def __init__(self, size: int, plan: Plan, start_of: StartOf, on_wish: OnWish, on_death: Callable[[Member], None]):
        self.size = size
        self.plan = plan
        self.restarts = 0
        self.members: dict[int, Member] = {}
        self.ready = asyncio.Event()
        self.failed: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._start_of = start_of
        self._on_wish = on_wish
        self._on_death = on_death
        self._orders = itertools.count(1)
        self._deaths = [0] * size
        self._stopping = False
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self) -> None:
        """Start all workers."""
        for index in range(self.size):
            self._spawn(index)

    def states(self) -> dict[WorkerState, int]:
        """How many workers are in each state."""
        states = [member.state for member in self.members.values()]
        return {state: states.count(state) for state in WorkerState}

    def pids(self) -> list[int]:
        """The processes that are not known to be dead."""
        return [member.process.pid for member in self.members.values() if member.state is not WorkerState.DEAD]

    def alive(self, index: int) -> bool:
        """Whether the worker may still send an answer."""
        member = self.members.get(index)
        return member is not None and member.state in (WorkerState.READY, WorkerState.DRAINING)

    def hurried(self, indices: Iterable[int]) -> AbstractContextManager[None]:
        """While control waits for these workers, they run before the load that holds them off their cores."""
        return hurried(self.members[index].process.pid for index in indices)

    def kill(self, indices: Iterable[int]) -> None:
        """End these workers at once; new ones take their places."""
        for index in indices:
            _signal(self.members[index].process, signal.SIGKILL)

    def ready_members(self) -> list[Member]:
        """Those that serve."""
        return [member for member in self.members.values() if member.state is WorkerState.READY]

    async def order(self, make: Callable[[int], Order], members: Sequence[Member] | None = None) -> list[str]:
        """Give every ready worker, or these, an order and wait until each has carried it out or died.

        Returns the errors they reported.
        """
        number = next(self._orders)
        order = make(number)
        answers = []
        for member in self.ready_members() if members is None else members:
            if member.state is WorkerState.READY:
                answer = member.waiting[number] = asyncio.get_running_loop().create_future()
                answers.append(answer)
                member.tell(order)
        if answers:
            await asyncio.wait(answers, timeout=ORDER_WITHIN_S)
        return sorted(
            {answer.result() if answer.done() else "a worker did not answer in time" for answer in answers} - {""}
        )

    def replace_all_but(self, members: Sequence[Member]) -> None:
        """Let the ready workers that are none of `members` end, and start others: they are out of step."""
        for member in self.ready_members():
            if member not in members:
                log.warning("worker %d came while the configuration changed: a new one takes its place", member.index)
                _signal(member.process, signal.SIGTERM)

    async def stop(self, drain_s: float, hurry: asyncio.Event) -> None:
        """Let all drain; kill those that have not ended a while after they should have, or at once on `hurry`."""
        self._stopping = True
        for member in self.members.values():
            member.state = WorkerState.DRAINING
            _signal(member.process, signal.SIGTERM)
        end = time.monotonic() + drain_s + 2
        while any(member.process.poll() is None for member in self.members.values()) and time.monotonic() < end:
            if hurry.is_set():
                end = min(end, time.monotonic() + 2)
                for member in self.members.values():
                    _signal(member.process, signal.SIGTERM)
                hurry.clear()
            await asyncio.sleep(0.02)
        for member in self.members.values():
            _signal(member.process, signal.SIGKILL)
            member.process.wait()

    def _spawn(self, index: int) -> None:
        ours, theirs = Pipe()
        command = [sys.executable, "-m", "gateway.worker", str(theirs.fileno())]
        process = subprocess.Popen(command, pass_fds=[theirs.fileno()])
        theirs.close()
        member = self.members[index] = Member(index, process, ours, self.plan)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._hear, member)
        member.tell(self._start_of(index, self.plan))

    def _hear(self, member: Member) -> None:
        try:
            report: Report = member.pipe.recv()
        except (EOFError, OSError):
            self._died(member)
            return
        match report:
            case Ready():
                self._is_ready(member, report)
            case Failed():
                log.error("worker %d cannot serve: %s", member.index, report.error)
                if not self.failed.done() and not self.ready.is_set():
                    self.failed.set_result(report.error)
            case Done():
                member.runs_on = report.runs_on
                answer = member.waiting.pop(report.order, None)
                if answer is not None and not answer.done():
                    answer.set_result(report.error)
            case Wish():
                granted = self._on_wish(report)
                granted.add_done_callback(lambda result: member.tell(Granted(report.wish, result.result())))

    def _is_ready(self, member: Member, report: Ready) -> None:
        if member.plan.generation != self.plan.generation:  # the configuration has changed while it was loading
            _signal(member.process, signal.SIGTERM)
            return
        member.left_out = report.left_out
        member.runs_on = report.runs_on
        member.state = WorkerState.READY
        if all(other.state is WorkerState.READY for other in self.members.values()):
            self.ready.set()

    def _died(self, member: Member) -> None:
        if member.state is WorkerState.DEAD:
            return
        asyncio.get_running_loop().remove_reader(member.pipe.fileno())
        member.hang_up()
        never_ready = member.state is WorkerState.STARTING
        member.state = WorkerState.DEAD
        for answer in member.waiting.values():
            if not answer.done():
                answer.set_result("")
        if self._stopping:
            return
        self._deaths[member.index] = self._deaths[member.index] + 1 if never_ready else 1
        task = asyncio.get_running_loop().create_task(self._replace(member))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, member: Member) -> None:
        code = await asyncio.to_thread(member.process.wait)
        if self._stopping:
            return
        self._on_death(member)
        deaths = self._deaths[member.index]
        pause_s = BACK_OFF_S[min(deaths - 1, len(BACK_OFF_S) - 1)]
        log.warning("worker %d ended with %d; a new one starts in %g s", member.index, code, pause_s)
        await asyncio.sleep(pause_s)
        if not self._stopping:
            self.restarts += 1
            self._spawn(member.index)


class Orphans:
    """Workers of a control process that was killed. They serve stable until new ones are ready to take over."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found = [(pid, birth) for pid, birth in _read(file) if 0 < birth == born(pid)]

    def __len__(self) -> int:
        return len(self._found)

    def release(self) -> None:
        """Let them drain and end."""
        for pid, birth in self._found:
            if born(pid) == birth:
                os.kill(pid, signal.SIGTERM)
        self._found = []

    def remember(self, pids: Iterable[int]) -> None:
        """Write down who would be orphaned now: these, and those of before that have not been released."""
        unfinished = self._file.with_suffix(".new")
        try:
            unfinished.write_text(json.dumps([*self._found, *((pid, born(pid)) for pid in pids)]))
            unfinished.replace(self._file)
        except OSError as error:
            log.error(
                "%s cannot be written: were control killed, its workers would have to be, too: %s", unfinished, error
            )


def _read(file: Path) -> list[tuple[int, int]]:
    try:
        return [(int(pid), int(birth)) for pid, birth in json.loads(file.read_text())]
    except (OSError, ValueError, TypeError):
        return []


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
