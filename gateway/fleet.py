"""The worker processes: starts them, hears them, replaces those that die, gives orders to all of them at once."""

import asyncio
import itertools
import logging
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Final

from gateway.member import Member, WorkerState, launched
from gateway.orders import (
    Done,
    Failed,
    Granted,
    Listen,
    Order,
    Plan,
    Ready,
    Report,
    Start,
    Warm,
    Wish,
)
from gateway.priority import hurried
from gateway.tasks import persistent

BACK_OFF_S: Final = (
    0.0,
    0.1,
    0.5,
    1.0,
    2.0,
    5.0,
)  # after so many deaths in a row without ever being ready
ORDER_WITHIN_S: Final = 600.0  # loading large models takes long
GIVEN_UP: Final = 2  # deaths of a worker that has never been warm: the others then listen without it
WAIT_FACTOR: Final = 3  # how much longer than the first another worker may take to be warm, and the others wait
WAIT_LEAST_S: Final = 15.0
log: Final = logging.getLogger("gateway.fleet")

StartOf = Callable[[int, Plan], Start]
OnWish = Callable[[Wish], "asyncio.Future[str]"]


class Fleet:
    """`size` workers under the plan in force. Lives on control's event loop.

    None listens before all are warm: connections are often made at once and kept for ever, and would all be the first
    one's. `ready` is set once all listen that were warm then, but for those that do not say so for WAIT_LEAST_S.

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
        self._open = False  # those that are warm listen
        self._opening: set[Member] = set()  # of those that were warm then: who does not listen yet
        self._began_s = time.monotonic()
        self._patient = False  # the first is warm, and waits for the others
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

    def acknowledged(self) -> int:
        """How many workers serve the configuration in force."""
        return sum(self.alive(m.index) and m.plan.generation == self.plan.generation for m in self.members.values())

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
        """Raises OSError or RuntimeError where the system has nothing to spare for one."""
        start = self._start_of(index, self.plan)
        member = self.members[index] = launched(index, self.plan)
        asyncio.get_running_loop().add_reader(member.pipe.fileno(), self._hear, member)
        member.tell(start)

    def _hear(self, member: Member) -> None:
        try:
            report: Report = member.pipe.recv()
        except (EOFError, OSError):
            self._died(member)
            return
        match report:
            case Warm():
                self._is_warm(member, report)
            case Ready():
                self._is_ready(member)
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

    def _is_warm(self, member: Member, report: Warm) -> None:
        if not self._in_step(member):
            return
        member.left_out = report.left_out
        member.runs_on = report.runs_on
        member.state = WorkerState.WARM
        if self._open:
            member.tell(Listen())
            return
        if not self._patient:
            self._patient = True
            patience_s = max(WAIT_LEAST_S, (time.monotonic() - self._began_s) * WAIT_FACTOR)
            asyncio.get_running_loop().call_later(patience_s, self._let_listen)
        self._listen_if_all()

    def _listen_if_all(self) -> None:
        """Once no one is waited for: a worker that dies again and again while it loads must not hold the others."""
        waited_for = (m for m in self.members.values() if self._deaths[m.index] < GIVEN_UP)
        if all(member.state is WorkerState.WARM for member in waited_for):
            self._let_listen()

    def _let_listen(self) -> None:
        warm = [member for member in self.members.values() if member.state is WorkerState.WARM]
        if self._open or self._stopping:
            return
        if not warm:
            self._patient = False  # the one that waited has died: the next one waits anew
            return
        if len(warm) < self.size:
            log.error(
                "%d of %d workers are ready; the others do not come, and are not waited for", len(warm), self.size
            )
        self._open = True
        self._opening = set(warm)
        for member in warm:
            member.tell(Listen())
        asyncio.get_running_loop().call_later(WAIT_LEAST_S, self._wait_no_longer)

    def _wait_no_longer(self) -> None:
        """For those that were told to listen and have not said that they do: suspended, perhaps."""
        self._opening.clear()
        self._are_open()

    def _is_ready(self, member: Member) -> None:
        if self._in_step(member):
            member.state = WorkerState.READY
        self._opening.discard(member)
        self._are_open()

    def _are_open(self) -> None:
        if self._open and not self._opening and self.ready_members():
            self.ready.set()

    def _in_step(self, member: Member) -> bool:
        """Whether the worker serves the configuration in force; one that does not, since that changed, ends."""
        if member.plan.generation != self.plan.generation:
            _signal(member.process, signal.SIGTERM)
            return False
        return True

    def _died(self, member: Member) -> None:
        if member.state is WorkerState.DEAD:
            return
        asyncio.get_running_loop().remove_reader(member.pipe.fileno())
        member.hang_up()
        never_ready = member.state in (WorkerState.STARTING, WorkerState.WARM)
        overtaken = (
            member.plan.generation != self.plan.generation
        )  # by an edit while it loaded, which is no fault of its
        member.state = WorkerState.DEAD
        for answer in member.waiting.values():
            if not answer.done():
                answer.set_result("")
        if self._stopping:
            return
        self._deaths[member.index] = self._deaths[member.index] + 1 if never_ready and not overtaken else 1
        self._opening.discard(member)
        self._are_open()
        self._listen_if_all()
        task = asyncio.get_running_loop().create_task(self._replace(member))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _replace(self, member: Member) -> None:
        ended = f"waiting for the end of worker {member.index}"
        code = await persistent(ended, lambda: asyncio.to_thread(member.process.wait))
        if self._stopping:
            return
        self._on_death(member)
        deaths = self._deaths[member.index]
        pause_s = BACK_OFF_S[min(deaths - 1, len(BACK_OFF_S) - 1)]
        log.warning("worker %d ended with %d; a new one starts in %g s", member.index, code, pause_s)
        await asyncio.sleep(pause_s)
        await persistent(f"starting worker {member.index}", lambda: self._start_again(member.index))

    async def _start_again(self, index: int) -> None:
        if not self._stopping:
            self._spawn(index)
            self.restarts += 1


def _signal(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(number)
