"""Whatever becomes of the output of `gateway serve`, it serves, is steered, and ends with exit code 0."""

import contextlib
import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from loadtests import models
from tests.processes.flawed import ROUTING, release, send_command, until
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
Output = Callable[[Path], AbstractContextManager[None]]


class Unread(GatewayProcess):
    """Its log cannot be read back."""

    log = "(not kept)"


def fill(descriptor: int) -> None:
    """Write to a pipe or terminal until it takes nothing more."""
    os.set_blocking(descriptor, False)
    while select.select([], [descriptor], [], 0.1)[1]:  # a terminal makes room again while it hands on what it has
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(descriptor, b".")
    os.set_blocking(descriptor, True)  # a terminal's other writers share the flag


@contextmanager
def full_disk(log: Path) -> Iterator[None]:
    log.symlink_to("/dev/full")
    yield


@contextmanager
def pipe_without_reader(log: Path) -> Iterator[None]:
    """As in `gateway serve 2>&1 | head -0`."""
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)

    def close() -> None:
        with contextlib.suppress(BlockingIOError):  # someone has opened it to write, and has written nothing yet
            while not os.read(reader, 1):
                time.sleep(0.01)
        os.close(reader)

    closing = threading.Thread(target=close)
    closing.start()
    yield
    closing.join()


@contextmanager
def pipe_that_no_one_reads(log: Path) -> Iterator[None]:
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    writer = os.open(log, os.O_WRONLY)
    fill(writer)
    yield
    os.close(reader)
    os.close(writer)


@contextmanager
def terminal_that_freezes(log: Path) -> Iterator[None]:
    """It shows the progress of the start, and then takes nothing, as after Ctrl-S."""
    screen, terminal = os.openpty()
    log.symlink_to(os.ttyname(terminal))

    def freeze() -> None:
        shown = b""
        while b"starting 2 workers" not in shown:
            shown += os.read(screen, 1024)
        fill(terminal)

    freezing = threading.Thread(target=freeze)
    freezing.start()
    yield
    freezing.join()
    os.close(screen)
    os.close(terminal)


@contextmanager
def terminal_that_takes_nothing(log: Path) -> Iterator[None]:
    """From the start on, as after Ctrl-S before the command."""
    screen, terminal = os.openpty()
    log.symlink_to(os.ttyname(terminal))
    fill(terminal)
    yield
    os.close(screen)
    os.close(terminal)


@pytest.mark.parametrize(
    ("output", "form"),
    [
        (full_disk, "human"),
        (pipe_without_reader, "human"),
        (pipe_that_no_one_reads, "human"),
        (pipe_that_no_one_reads, "json"),
        (terminal_that_freezes, "human"),
        (terminal_that_takes_nothing, "human"),
    ],
)
def test_what_its_output_does_is_nothing_to_it(tmp_path: Path, output: Output, form: str) -> None:
    models.flawed(tmp_path / "models", "nan")
    running = Unread(tmp_path, tmp_path / "models", ROUTING, server={"workers": 2, "log": form, "drain": "1s"})
    with output(tmp_path / "log"), running:
        steered(running)


def steered(running: GatewayProcess) -> None:
    """By an edit of the file, and by a stop."""
    file = running.config.parent / "routing.yaml"
    file.write_text(file.read_text().replace("weight: 50", "weight: 60"))
    until(lambda: release(running)["routes"][0]["weight_percent"] == 60, "the edit")
    assert send_command(running, "stop").status_code == 200
    assert running.process is not None
    assert running.process.poll() is None
