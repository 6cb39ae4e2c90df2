"""Scheduling priorities. Each test uses a process of its own, since it changes that process."""

import os
import subprocess
import sys

from gateway.system import scheduling as priority


def allowed() -> bool:
    """Whether the system allows real-time scheduling here."""
    return printed("set_realtime(); print(os.sched_getscheduler(0) != os.SCHED_OTHER)") == "True"


def printed(code: str) -> str:
    program = (
        "import os, time, threading, subprocess, sys\nfrom gateway.system import scheduling as priority\n"
        f"from gateway.system.scheduling import *\n{code}"
    )
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_set_realtime_is_not_inherited_by_children_and_threads() -> None:
    child = "[sys.executable, '-c', 'import os; print(os.sched_getscheduler(0))']"
    assert printed(f"set_realtime(); print(subprocess.check_output({child}).decode())") == str(os.SCHED_OTHER)
    thread = "threading.Thread(target=lambda: print(os.sched_getscheduler(0)))"
    assert printed(f"set_realtime(); thread = {thread}; thread.start(); thread.join()") == str(os.SCHED_OTHER)


def test_realtime_process_that_holds_a_core_is_demoted() -> None:
    spin = "end = time.monotonic() + 20\nwhile os.sched_getscheduler(0) and time.monotonic() < end: pass"
    code = f"demote_on_cpu_overrun(); set_realtime()\n{spin}\nprint(os.sched_getscheduler(0))"
    assert printed(code) == str(os.SCHED_OTHER)


def test_demoted_process_becomes_realtime_again_after_a_while() -> None:
    before = "reset_priority(); priority._demotions_s.append(time.monotonic() - {})"
    told = "restore_realtime(); print(os.sched_getscheduler(0) != os.SCHED_OTHER)"
    assert printed(f"{before.format(priority.RESTORE_REALTIME_AFTER_S + 1)}; {told}") == str(allowed())
    assert printed(f"{before.format(priority.RESTORE_REALTIME_AFTER_S - 5)}; {told}") == "False"
    assert printed(told) == "False", "one that never went first does not begin to"


def test_boosted_priority_raises_a_process_and_restores_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.setpriority(os.PRIO_PROCESS, child.pid, 3)
        with priority.boosted_priority([child.pid]):
            raised = os.sched_getscheduler(child.pid) & 15, os.sched_getparam(child.pid).sched_priority
            assert raised == ((os.SCHED_RR, priority.WAITED_FOR_PRIORITY) if allowed() else (os.SCHED_OTHER, 0))
            assert priority.WAITED_FOR_PRIORITY < priority.CONTROL_PRIORITY
        assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 3
        assert child.stdin is not None
        child.stdin.write(b"\n")


def test_boosted_priority_ignores_exited_process() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    with priority.boosted_priority([child.pid]):
        pass


def test_stand_back_lowers_a_starting_process_until_it_serves() -> None:
    """With all its threads, but those that run an endless model keep their low niceness."""
    program = (
        "import os, sys, threading; from gateway.system.scheduling import *; sys.stdin.readline()\n"
        "given = threading.Event(); done = threading.Event(); numbers = []\n"
        "def hang():\n numbers.append(threading.get_native_id()); set_lowest_priority(numbers[0])\n"
        " given.set(); done.wait()\n"
        "threading.Thread(target=hang).start(); given.wait(); other = threading.Thread(target=done.wait)\n"
        "other.start()\n"
        "def look(): print(*(f'{os.getpriority(os.PRIO_PROCESS, t)},{os.sched_getscheduler(t)}' for t in"
        " (0, other.native_id, numbers[0])))\n"
        "reset_priority(); look(); restore_priority(); look(); done.set()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", program], text=True, **pipes) as child:
        priority.lower_priority(child.pid)
        before, after = child.communicate("\n")[0].splitlines()
    back = priority.STARTING_NICENESS if printed("print(priority._may_restore_niceness())") == "True" else 0
    assert before == f"{back},{os.SCHED_BATCH} {back},{os.SCHED_BATCH} {priority.HIGHEST_NICENESS},{os.SCHED_BATCH}"
    assert after == f"0,{os.SCHED_OTHER} 0,{os.SCHED_OTHER} {priority.HIGHEST_NICENESS},{os.SCHED_OTHER}"


def test_stand_back_changes_only_the_class_where_niceness_is_irrevocable() -> None:
    """As for a user without privileges."""
    alone = "os.setuid(65534)\n" if os.geteuid() == 0 else ""
    child = "subprocess.Popen(['cat'], stdin=subprocess.PIPE)"
    look = "print(os.getpriority(os.PRIO_PROCESS, child.pid), os.sched_getscheduler(child.pid))"
    ended = "child.communicate()"
    assert printed(f"{alone}child = {child}; lower_priority(child.pid); {look}; {ended}") == f"0 {os.SCHED_BATCH}"


def test_stand_back_for_good_stays_low() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        priority.lower_priority(child.pid, for_good=True)
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == priority.STARTING_NICENESS
        child.communicate(b"\n")
    priority.lower_priority(child.pid)  # it has gone
