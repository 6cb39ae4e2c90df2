"""Whatever the shell, the init system or the container leaves to `gateway serve`, it serves, or says why it cannot."""

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes.flawed import gateway, kill, send_command, until, workers

pytestmark = pytest.mark.slow
FEW_FILES = 32


def inherit_the_worst() -> None:
    """As of a starter that has closed its descriptors, ignores its children, and blocks signals."""
    for descriptor in range(3):
        os.close(descriptor)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def test_gateway_of_a_careless_starter_serves_and_ends(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    running.inherit = inherit_the_worst
    with running:
        for pid in (running.pid, *workers(running)):
            for descriptor in range(3):
                assert os.readlink(f"/proc/{pid}/fd/{descriptor}") == os.devnull
        assert send_command(running, "stop").status_code == 200


def test_death_of_a_worker_is_known_although_sigchld_was_ignored(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    running.inherit = lambda: signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with running:
        (worker, *_) = workers(running)
        kill(worker)
        until(lambda: "exited with code -9" in running.log, "its signal, by which crashes are blamed on candidates")


def test_too_few_descriptors_are_told_in_a_sentence(tmp_path: Path) -> None:
    running = gateway(tmp_path)
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(running.config)]
    ended = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (FEW_FILES, FEW_FILES)),
    )
    *_, last = ended.stderr.splitlines()
    assert ended.returncode == 1
    assert "no more files can be opened" in last or "Too many open files" in last
    assert not last.startswith("OSError"), ended.stderr
