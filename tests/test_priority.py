"""Who gets a core first. Each in a process of its own, since it changes that process."""

import os
import subprocess
import sys

from gateway import priority


def allowed() -> bool:
    """Whether the system allows real-time scheduling here."""
    return printed("go_first(); print(os.sched_getscheduler(0) != os.SCHED_OTHER)") == "True"


def printed(code: str) -> str:
    program = f"import os, time, threading, subprocess, sys\nfrom gateway.priority import *\n{code}"
    return subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout.strip()


def test_control_goes_first_and_what_it_starts_does_not() -> None:
    child = "[sys.executable, '-c', 'import os; print(os.sched_getscheduler(0))']"
    assert printed(f"go_first(); print(subprocess.check_output({child}).decode())") == str(os.SCHED_OTHER)
    thread = "threading.Thread(target=lambda: print(os.sched_getscheduler(0)))"
    assert printed(f"go_first(); thread = {thread}; thread.start(); thread.join()") == str(os.SCHED_OTHER)


def test_one_that_holds_a_core_becomes_ordinary() -> None:
    spin = "end = time.monotonic() + 20\nwhile os.sched_getscheduler(0) and time.monotonic() < end: pass"
    code = f"give_way_when_wild(); go_first()\n{spin}\nprint(os.sched_getscheduler(0))"
    assert printed(code) == str(os.SCHED_OTHER)


def test_one_that_gave_way_goes_first_again_after_a_while() -> None:
    before = "from gateway import priority; be_ordinary(); priority._gave_way_s.append(time.monotonic() - {})"
    told = "go_first_again(); print(os.sched_getscheduler(0) != os.SCHED_OTHER)"
    assert printed(f"{before.format(priority.AGAIN_S + 1)}; {told}") == str(allowed())
    assert printed(f"{before.format(priority.AGAIN_S - 5)}; {told}") == "False"
    assert printed(told) == "False", "one that never went first does not begin to"


def test_a_process_that_is_waited_for_is_hurried_and_then_as_before() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        os.setpriority(os.PRIO_PROCESS, child.pid, 3)
        with priority.hurried([child.pid]):
            if allowed():
                assert os.sched_getscheduler(child.pid) & 15 == os.SCHED_RR
                assert os.sched_getparam(child.pid).sched_priority < priority.CONTROL
        assert os.sched_getscheduler(child.pid) == os.SCHED_OTHER
        assert os.getpriority(os.PRIO_PROCESS, child.pid) == 3
        assert child.stdin is not None
        child.stdin.write(b"\n")


def test_a_process_that_has_gone_is_no_matter() -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait()
    with priority.hurried([child.pid]):
        pass
