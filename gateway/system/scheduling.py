"""Who gets a core first when all are busy: control before the load, and a worker that control waits for right after it.

Real-time scheduling where the system allows it (root, or CAP_SYS_NICE), else a raised niceness, else nothing. A task of
the ordinary class that wakes up waits for the slice of the one that runs, milliseconds on a busy core; one of the
real-time class does not.
"""

import contextlib
import functools
import logging
import os
import signal
import threading
import time
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Final

CONTROL: Final = 2  # real-time priorities: whoever waits must be able to look whether the wait is over
WAITED_FOR: Final = 1
LEAST: Final = 19
BEHIND: Final = 5  # niceness: a third of the time of one that serves, where both want all of it
NICENESS: Final = -10  # where there is no real-time scheduling
LONGEST_US: Final = 500_000  # of running without a pause in the real-time class: then something has gone wrong
AGAIN_S: Final = 10.0  # after it had to give way: a bug that comes again and again takes a twentieth of a core
_gave_way_s: Final[list[float]] = []  # when, since it went first last
log: Final = logging.getLogger("gateway.system")


def set_realtime() -> None:
    """The calling thread runs before all ordinary ones. Real-time scheduling is not handed on to what it starts."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    _real_time(0, CONTROL)


def raise_niceness() -> None:
    """The calling thread, one beside control's main one, is seldom kept off its core.

    It may hold the interpreter's lock, and whoever needs that waits until it has a core again, whatever its priority.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)


def go_along() -> None:
    """The calling thread, which does a little at a time for control's main one, is kept off its core only by that.

    While it holds the interpreter's lock, who takes its core from it takes it from control too: of stops beside a busy
    host the hundredth waited 50 ms for the log's thread, ordinary though raised, and waits 3 for one that goes along.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, NICENESS)
    _real_time(0, WAITED_FOR)


def demote_on_cpu_overrun() -> None:
    """A real-time thread of this process that runs for half a second without a pause becomes an ordinary one.

    For the main thread: else a bug in control would hold a core that stable needs. See `go_first_again`.
    """
    if not hasattr(signal, "SIGXCPU") or not hasattr(os, "SCHED_RR"):
        return
    import resource

    def give_way(number: int, frame: FrameType | None) -> None:
        reset_priority()
        _gave_way_s.append(time.monotonic())
        log.error("control has held a core for %g s: it gives its precedence up", LONGEST_US / 1e6)

    signal.signal(signal.SIGXCPU, give_way)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
        resource.setrlimit(resource.RLIMIT_RTTIME, (LONGEST_US, hard))


def go_first_again() -> None:
    """To be called by the main thread every so often: what held a core once has ended since, or it would not come here.

    So a control that had much to do once is not the last one to get a core for as long as it lives.
    """
    if _gave_way_s and time.monotonic() - _gave_way_s[-1] > AGAIN_S:
        _gave_way_s.clear()
        set_realtime()


def reset_priority() -> None:
    """The calling thread waits its turn. It goes on to stand back where it does."""
    if hasattr(os, "SCHED_RR"):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))


def stand_back(pid: int, *, for_good: bool = False) -> None:
    """A process that was just started does not serve, or not yet: those that do get a core before it. On Linux only.

    Called by who has started it: to import what it needs takes most of its time. `for_good`: it never comes forward;
    else its niceness stays where the system would not let it come back.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    with contextlib.suppress(OSError):  # it takes no core from one that runs when it wakes up
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    if for_good or _may_come_back():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, max(0, os.getpriority(os.PRIO_PROCESS, pid)) + BEHIND)


def come_forward() -> None:
    """The calling process, which has stood back, serves from now on; all threads but those that `yield_core`."""
    if not hasattr(os, "SCHED_BATCH"):
        return
    for thread in _threads(os.getpid()):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(thread) == os.SCHED_BATCH:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            if BEHIND <= (niceness := os.getpriority(os.PRIO_PROCESS, thread)) < LEAST:
                os.setpriority(os.PRIO_PROCESS, thread, niceness - BEHIND)


@functools.cache
def _may_come_back() -> bool:
    """Whether the system lets a thread raise its niceness again: one of ours has tried."""
    able = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, niceness + 1)
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
            able.append(True)

    with contextlib.suppress(RuntimeError):  # there are no threads to be had
        attempting = threading.Thread(target=attempt)
        attempting.start()
        attempting.join()
    return bool(able)


def yield_core(thread: int) -> None:
    """The thread (its native id; 0: none) gets only the time that no one else wants, for as long as it lives."""
    if thread:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, LEAST)


@contextlib.contextmanager
def boosted_priority(pids: Iterable[int]) -> Iterator[None]:
    """While control waits for these processes, they run before all ordinary ones.

    Priority inheritance (Sha, Rajkumar & Lehoczky, 1990): else control would wait behind the load that holds them off
    their cores. All of their threads: any may hold the interpreter's lock.
    """
    raised = [
        (thread, niceness) for pid in pids for thread in _threads(pid) if (niceness := _raised(thread)) is not None
    ]
    try:
        yield
    finally:
        for thread, niceness in raised:
            with contextlib.suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, thread, niceness)
            with contextlib.suppress(OSError, AttributeError):
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))


def _threads(pid: int) -> list[int]:
    try:
        return [int(thread) for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return [pid]


def _raised(thread: int) -> int | None:
    """The niceness that it had; None where it could not be raised."""
    try:
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(own, os.getpriority(os.PRIO_PROCESS, 0)))
    except OSError:
        return None
    _real_time(thread, WAITED_FOR)
    return own


def _real_time(pid: int, priority: int) -> None:
    if hasattr(os, "SCHED_RR"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
