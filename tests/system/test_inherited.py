"""What a starter may leave a process. Each test uses a process of its own, since it changes that process."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


def ended(code: str, inherit: Callable[[], object] | None = None) -> "subprocess.CompletedProcess[str]":
    program = f"import os, signal, subprocess, sys\nfrom gateway.system.inherited import repair_inherited\n{code}"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, preexec_fn=inherit)


def printed(code: str, inherit: Callable[[], object]) -> str:
    run = ended(code, inherit)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_blocked_signals_are_unblocked_also_for_children() -> None:
    def block() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)

    mask = "import signal; print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ())))"
    child = f"print(subprocess.check_output([sys.executable, '-c', {mask!r}], text=True).strip())"
    assert printed(child, block) == str(sorted(SIGNALS)), "what the test sets up"
    assert printed(f"repair_inherited(); {child}", block) == "[]"


def test_exit_code_of_a_child_is_known_although_sigchld_was_ignored() -> None:
    def ignore() -> None:
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)

    child = "print(subprocess.call([sys.executable, '-c', 'import os; os.abort()']))"
    assert printed(child, ignore) == "0", "what the test sets up"
    assert printed(f"repair_inherited(); {child}", ignore) == str(-signal.SIGABRT)


@pytest.mark.parametrize("closed", [(0,), (2,), (0, 2)])
def test_closed_standard_descriptors_are_the_null_device(closed: tuple[int, ...]) -> None:
    def close() -> None:
        for descriptor in closed:
            os.close(descriptor)

    shown = "repair_inherited(); sys.stdout.write(' '.join(os.readlink(f'/proc/self/fd/{n}') for n in range(3)))"
    found = printed(shown, close).split()
    assert [found[descriptor] for descriptor in closed] == [os.devnull] * len(closed)
    opened = "repair_inherited(); print(os.open(os.devnull, os.O_RDONLY))"
    assert int(printed(opened, close)) > 2


def test_first_process_of_a_container_ends_at_sigterm() -> None:
    kill = "signal.raise_signal(signal.SIGTERM)"
    assert ended(f"os.getpid = lambda: 1\nrepair_inherited()\n{kill}\nsignal.pause()").returncode == 143
    assert ended(f"repair_inherited()\n{kill}\nsignal.pause()").returncode == -signal.SIGTERM, "an ordinary one"
