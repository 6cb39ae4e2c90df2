"""A file system that is really frozen: stops, commands and shutdown go on. For root only."""

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.faults.test_silent_disk import no_answer_of_the_candidate, weight
from tests.processes.flawed import gateway, send_command, until, workers

MEBIBYTES = 64
AT_MOST_S = 60.0  # frozen, whatever becomes of the test
TOOLS = ("mkfs.ext4", "mount", "umount", "fsfreeze")

pytestmark = pytest.mark.slow


def run(*command: str | Path) -> int:
    return subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small file system for this test."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(MEBIBYTES << 20)
    if os.getuid() or not all(map(shutil.which, TOOLS)) or run("mkfs.ext4", "-q", image):
        pytest.skip("only root may mount and freeze a file system")
    if run("mount", "-o", "loop", image, folder):
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        run("fsfreeze", "-u", folder)
        end = time.monotonic() + 30
        while run("umount", folder) and time.monotonic() < end:
            time.sleep(0.2)


@contextmanager
def frozen(folder: Path) -> Iterator[None]:
    """Freeze the file system; it is thawed at the end, and after a time limit in any case."""
    clock = threading.Timer(AT_MOST_S, run, ("fsfreeze", "-u", folder))
    clock.start()
    assert run("fsfreeze", "-f", folder) == 0
    try:
        yield
    finally:
        run("fsfreeze", "-u", folder)
        clock.cancel()


def test_frozen_disk_delays_neither_a_stop_nor_shutdown(disk: Path) -> None:
    running = gateway(disk)
    running._log = disk.parent / "log"
    with running:
        serving = workers(running)
        with frozen(disk):
            refused, took_s = weight(running, 20)
            assert (refused.status_code, took_s < 15) == (409, True), refused.text
            began_s = time.monotonic()
            stopped = send_command(running, "stop")
            assert (stopped.status_code, stopped.json()["on_disk"]) == (200, False)
            assert time.monotonic() - began_s < 3
            no_answer_of_the_candidate(running)
            for path in ("/metrics", "/api/releases", "/api/config", "/health"):
                assert httpx.get(f"{running.control_url}{path}").status_code == 200
            running.terminate()
            until(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in serving), "the workers have ended")
            until(lambda: not running.complete(), "no one listens any more")
        until(lambda: running.process is not None and running.process.poll() is not None, "it has ended")
