"""CPU scheduling priorities when all cores are busy: control first, then workers that control waits for, then the load.

Uses real-time scheduling if the system allows it (root, or CAP_SYS_NICE), else a raised priority by niceness, else
nothing. When an ordinary task wakes up, it waits for the running task's time slice to end, milliseconds on a busy core;
a real-time task does not.
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

CONTROL_PRIORITY: Final = (
    2  # real-time priority, above WAITED_FOR_PRIORITY: a waiting control must be able to see that its wait is over
)
WAITED_FOR_PRIORITY: Final = 1
HIGHEST_NICENESS: Final = 19  # the highest niceness
STARTING_NICENESS: Final = 5  # added niceness: a third of a serving process's CPU time if both want all of it
RAISED_NICENESS: Final = -10  # of raised threads, which counts if there is no real-time scheduling
MAX_REALTIME_US: Final = 500_000  # CPU time without a pause in the real-time class after which a thread is demoted
RESTORE_REALTIME_AFTER_S: Final = (
    10.0  # from a demotion to real-time again: a recurring bug then takes a twentieth of a core
)
_demotions_s: Final[list[float]] = []  # times of demotions since real-time was last set again
log: Final = logging.getLogger("gateway.system")


def set_realtime() -> None:
    """Run the calling thread before all ordinary ones. What it starts does not inherit real-time scheduling."""
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, RAISED_NICENESS)
    _set_realtime(0, CONTROL_PRIORITY)


def raise_niceness() -> None:
    """Raise the calling thread's priority by niceness. For helper threads of control, so that they seldom lose their
    core: one may hold the GIL, and a thread that needs it waits for that one, whatever its own priority.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, RAISED_NICENESS)


def set_realtime_helper() -> None:
    """Make the calling thread real-time, just below control's main thread. For helper threads with short tasks.

    If a thread that holds the GIL loses its core, control waits too: on a busy host the slowest stop in a hundred
    waited 50 ms for the log thread with raised niceness, and 3 ms with this.
    """
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, RAISED_NICENESS)
    _set_realtime(0, WAITED_FOR_PRIORITY)


def demote_on_cpu_overrun() -> None:
    """Reset the main thread's priority if a real-time thread of this process runs for MAX_REALTIME_US without a pause.

    Called once, in control's main thread: otherwise a bug in control could hold a core that stable needs. See
    `restore_realtime`.
    """
    if not hasattr(signal, "SIGXCPU") or not hasattr(os, "SCHED_RR"):
        return
    import resource

    def give_way(number: int, frame: FrameType | None) -> None:
        reset_priority()
        _demotions_s.append(time.monotonic())
        log.error("control has held a core for %g s: it gives its precedence up", MAX_REALTIME_US / 1e6)

    signal.signal(signal.SIGXCPU, give_way)
    with contextlib.suppress(OSError, ValueError, AttributeError):
        hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
        resource.setrlimit(resource.RLIMIT_RTTIME, (MAX_REALTIME_US, hard))


def restore_realtime() -> None:
    """Make a demoted main thread real-time again, RESTORE_REALTIME_AFTER_S after the demotion. Called by it
    periodically.

    If it gets here, the overrun has ended. So one burst of work does not cost control its priority for good.
    """
    if _demotions_s and time.monotonic() - _demotions_s[-1] > RESTORE_REALTIME_AFTER_S:
        _demotions_s.clear()
        set_realtime()


def reset_priority() -> None:
    """Make the calling thread an ordinary one. A lowered priority (see `lower_priority`) is kept."""
    if hasattr(os, "SCHED_RR"):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(0) & ~os.SCHED_RESET_ON_FORK == os.SCHED_RR:
                os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    with contextlib.suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, max(0, os.getpriority(os.PRIO_PROCESS, 0)))


def lower_priority(pid: int, *, for_good: bool = False) -> None:
    """Lower the priority of a process that does not serve (yet) below those that do. On Linux only.

    Called right after its start, usually by its parent: imports take most of its time. `for_good`: `restore_priority`
    will not be called; otherwise niceness is raised only if the system allows to lower it again.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    with contextlib.suppress(OSError):  # a batch task that wakes up does not preempt a running one
        os.sched_setscheduler(pid, os.SCHED_BATCH, os.sched_param(0))
    if for_good or _may_restore_niceness():
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, pid, max(0, os.getpriority(os.PRIO_PROCESS, pid)) + STARTING_NICENESS)


def restore_priority() -> None:
    """Undo `lower_priority` for the calling process, which now begins to serve; not for threads after
    `set_lowest_priority`.
    """
    if not hasattr(os, "SCHED_BATCH"):
        return
    for thread in _threads(os.getpid()):
        with contextlib.suppress(OSError):
            if os.sched_getscheduler(thread) == os.SCHED_BATCH:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
            if STARTING_NICENESS <= (niceness := os.getpriority(os.PRIO_PROCESS, thread)) < HIGHEST_NICENESS:
                os.setpriority(os.PRIO_PROCESS, thread, niceness - STARTING_NICENESS)


@functools.cache
def _may_restore_niceness() -> bool:
    """Whether the system lets a thread lower its niceness again after raising it, tried once in a thread of ours."""
    able = []

    def attempt() -> None:
        with contextlib.suppress(OSError):
            niceness = os.getpriority(os.PRIO_PROCESS, 0)
            os.setpriority(os.PRIO_PROCESS, 0, niceness + 1)
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
            able.append(True)

    with contextlib.suppress(RuntimeError):  # no thread can be started
        attempting = threading.Thread(target=attempt)
        attempting.start()
        attempting.join()
    return bool(able)


def set_lowest_priority(thread: int) -> None:
    """Give the thread (native id; 0: none) the lowest priority for the rest of its life, such as for a hung run."""
    if thread:
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, thread, HIGHEST_NICENESS)


@contextlib.contextmanager
def boosted_priority(pids: Iterable[int]) -> Iterator[None]:
    """Run all threads of these processes before ordinary ones, inside this context, while control waits for them.

    Priority inheritance (Sha, Rajkumar & Lehoczky, 1990): otherwise control would wait for the load that keeps them off
    their cores. All threads are raised, because any may hold the GIL.
    """
    raised = [
        (thread, niceness)
        for pid in pids
        for thread in _threads(pid)
        if (niceness := _raise_priority(thread)) is not None
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


def _raise_priority(thread: int) -> int | None:
    """Raise the thread's priority; return the niceness it had, or None if that is not permitted."""
    try:
        own = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, min(own, os.getpriority(os.PRIO_PROCESS, 0)))
    except OSError:
        return None
    _set_realtime(thread, WAITED_FOR_PRIORITY)
    return own


def _set_realtime(pid: int, priority: int) -> None:
    if hasattr(os, "SCHED_RR"):
        with contextlib.suppress(OSError):
            os.sched_setscheduler(pid, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(priority))
