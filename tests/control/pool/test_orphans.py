"""Which processes are workers of a killed control on our memory, and that all of them end."""

import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.pool import orphans
from gateway.control.pool.orphans import OrphanedWorker, OrphanedWorkers
from gateway.shm.segment import memory_folder

# It has a file mapped and starts a process of its own kind, which is another's child here; that one ignores SIGTERM.
USES = """
import mmap, pathlib, signal, subprocess, sys
path, how = pathlib.Path(sys.argv[1]), sys.argv[2]
if how == "parent":
    child = subprocess.Popen([sys.executable, "-c", sys.argv[3], str(path), *sys.argv[4:]])
    input()
else:
    if how == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with path.open("r+b") as file:
        held = mmap.mmap(file.fileno(), 0)
    print(flush=True)
    signal.pause()
"""


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of memory files, in memory: of other file systems, /proc may name another device."""
    with tempfile.TemporaryDirectory(dir=memory_folder()) as folder:
        monkeypatch.setattr(orphans, "memory_folder", lambda: Path(folder))
        yield Path(folder)


@contextlib.contextmanager
def worker(path: Path, how: str = "obedient", name: str = "gateway.worker") -> Iterator[int]:
    """A process of that name, not our child, that has the file mapped."""
    path.write_bytes(bytes(8))
    command = [sys.executable, "-c", USES, str(path), "parent", USES, how, name]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        parent.stdout.readline()
        pid = int(Path(f"/proc/{parent.pid}/task/{parent.pid}/children").read_text())
        try:
            yield pid
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)


def gone(pid: int) -> bool:
    """It may be a zombie: its parent does not wait for it."""
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rpartition(")")[2].split()[0] in "ZX"


def end(found: OrphanedWorkers, drain_s: float) -> None:
    asyncio.run(found.end(drain_s))


def test_one_is_found_by_its_memory_and_told_to_end(memory: Path) -> None:
    with worker(memory / "canary-gateway-ours.1-events-0.ring") as pid:
        found = OrphanedWorkers("canary-gateway-ours")
        assert len(found) == 1
        end(found, 20.0)
        assert gone(pid)
        assert len(OrphanedWorkers("canary-gateway-ours")) == 0


def test_files_that_were_removed_or_renamed_are_still_its_memory(memory: Path) -> None:
    for name, then in (("canary-gateway-ours.scoreboard", None), ("canary-gateway-lost.1-events-0.ring", "ours")):
        with worker(memory / name):
            if then is None:
                (memory / name).unlink()
            else:
                (memory / name).rename(memory / name.replace("lost", then))
            assert len(OrphanedWorkers("canary-gateway-ours")) == 1


@pytest.mark.parametrize("name", ["canary-gateway-theirs.scoreboard", "canary-gateway-ours2.scoreboard"])
def test_workers_on_memory_of_another_name_are_another_gateways(memory: Path, name: str) -> None:
    with worker(memory / name) as pid:
        found = OrphanedWorkers("canary-gateway-ours")
        assert len(found) == 0
        end(found, 0.0)
        assert not gone(pid)


def test_a_container_with_the_same_paths_on_memory_of_its_own_is_left_alone(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with worker(memory / "canary-gateway-ours.scoreboard"):
        monkeypatch.setattr(orphans.os, "makedev", lambda major, minor: -1)
        assert len(OrphanedWorkers("canary-gateway-ours")) == 0


def test_what_is_no_worker_is_left_alone(memory: Path) -> None:
    with worker(memory / "canary-gateway-ours.scoreboard", name="gateway.status"):
        assert len(OrphanedWorkers("canary-gateway-ours")) == 0


def test_our_own_children_are_no_orphans(memory: Path) -> None:
    path = memory / "canary-gateway-ours.scoreboard"
    path.write_bytes(bytes(8))
    command = [sys.executable, "-c", USES, str(path), "obedient", "gateway.worker"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        assert len(OrphanedWorkers("canary-gateway-ours")) == 0
        child.kill()


@pytest.mark.slow
def test_one_that_does_not_drain_is_killed_and_in_a_hurry_at_once(memory: Path) -> None:
    for hurry, drain_s, within_s in ((False, 0.2, 10.0), (True, 600.0, 10.0)):
        with worker(memory / "canary-gateway-ours.scoreboard", how="deaf") as pid:
            found = OrphanedWorkers("canary-gateway-ours")
            if hurry:
                found.skip_drain.set()
            began_s = time.monotonic()
            end(found, drain_s)
            assert time.monotonic() - began_s < within_s
            until_gone(pid)


def until_gone(pid: int) -> None:
    deadline = time.monotonic() + 10
    while not gone(pid):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_process_that_cannot_be_looked_at_for_lack_of_descriptors_counts_as_running(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def without(pid: int) -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(orphans, "status", without)
    assert OrphanedWorker(os.getpid(), 1).poll() is None


def test_a_pid_that_was_given_to_another_process_counts_as_ended() -> None:
    assert OrphanedWorker(os.getpid(), 1).poll() == 0
