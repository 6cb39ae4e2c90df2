"""A disk that does not answer delays no stop, no reader and no shutdown; commands say so in time.

A pipe that no one reads stands for it: opening one blocks for ever, as writing to a frozen or unreachable disk does."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from loadtests.client import Client, Seen
from tests.processes.flawed import gateway, release, requests, send_command, until
from tests.processes.test_reload import edit, routing, wait_for_generation
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow


def silent(path: Path) -> None:
    """Replace the file by a pipe: whoever opens it blocks."""
    pipe = path.with_name(f"{path.name}.pipe")
    os.mkfifo(pipe)
    pipe.replace(path)


def answers_again(path: Path) -> None:
    """Let blocked writers continue: what they write is discarded, and later writers find no pipe."""
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    path.unlink(missing_ok=True)  # a writer that was blocked fails to sync a pipe, and removes it
    time.sleep(0.2)
    os.close(reader)


@contextmanager
def started(folder: Path) -> Iterator[GatewayProcess]:
    with gateway(folder) as running:
        yield running


def weight(running: GatewayProcess, percent: float) -> tuple[httpx.Response, float]:
    began_s = time.monotonic()
    url = f"{running.control_url}/api/releases/flawed/weight"
    answer = httpx.post(url, json={"route": "everyone", "percent": percent}, timeout=60)
    return answer, time.monotonic() - began_s


def no_answer_of_the_candidate(running: GatewayProcess) -> None:
    seen = Seen()
    with Client(("127.0.0.1", running.port), 8, requests(1.0)) as client:
        client.keep_busy(0.3, seen)
    assert (seen.variants["candidate"], bool(seen.variants["stable"])) == (0, True)


def test_stop_is_in_force_at_once_and_says_it_is_not_on_disk(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        decisions = tmp_path / "state" / "decisions.jsonl"
        silent(decisions)
        full = os.open(decisions, os.O_RDWR | os.O_NONBLOCK)  # appending opens it for reading, too: so it is full
        with suppress(BlockingIOError):
            while True:
                os.write(full, b"#")
        began_s = time.monotonic()
        stopped = send_command(running, "stop")
        assert (stopped.status_code, stopped.json()["on_disk"]) == (200, False)
        assert time.monotonic() - began_s < 3
        no_answer_of_the_candidate(running)
        assert release(running)["stopped"]
        decisions.unlink()
        os.read(full, 1 << 20)
        os.close(full)
        until(lambda: bool(send_command(running, "stop").json()["on_disk"]), "the disk answers")


def test_command_fails_in_time_and_the_next_one_at_once(tmp_path: Path) -> None:
    beside = tmp_path / ".routing.yaml.new"
    with started(tmp_path) as running:
        silent(beside)
        refused, took_s = weight(running, 20)
        assert (refused.status_code, "has not answered" in refused.json()["error"]) == (409, True)
        assert took_s < 15
        refused, took_s = weight(running, 30)
        assert (refused.status_code, took_s < 2) == (409, True)
        assert send_command(running, "stop").status_code == 200
        no_answer_of_the_candidate(running)
        assert send_command(running, "resume").status_code == 200
        answers_again(beside)
        until(lambda: weight(running, 30)[0].status_code == 200, "the disk answers")
        assert release(running)["routes"][0]["weight_percent"] == 30


def test_edit_is_in_force_although_the_accepted_text_cannot_be_written(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        unfinished = tmp_path / "state" / "accepted.yaml.new"
        silent(unfinished)
        edit(running, routing(weight=0))
        wait_for_generation(running, 2)
        no_answer_of_the_candidate(running)
        done, took_s = weight(running, 5)
        assert (done.status_code, done.json()["on_disk"], took_s < 15) == (200, False, True), done.text
        answers_again(unfinished)
        until(lambda: b"weight: 5" in (tmp_path / "state" / "accepted.yaml").read_bytes(), "it is written later")


@pytest.mark.parametrize(
    "name", ["state/decisions.jsonl", ".routing.yaml.new", "state/accepted.yaml.new", "routing.yaml"]
)
def test_shutdown_does_not_wait_for_the_disk(tmp_path: Path, name: str) -> None:
    with started(tmp_path) as running:
        silent(tmp_path / name)
        send_command(running, "stop")
        if name == ".routing.yaml.new":
            weight(running, 20)
        time.sleep(1)
        began_s = time.monotonic()
        assert running.process is not None
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(28) == 0
        assert time.monotonic() - began_s < 24


def test_unread_log_pipe_delays_nothing(tmp_path: Path) -> None:
    """As where the pipe to a container's log is full."""
    running = gateway(tmp_path)
    log = tmp_path / "log"
    os.mkfifo(log)
    reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    with running:
        writer = os.open(log, os.O_WRONLY | os.O_NONBLOCK)
        with suppress(BlockingIOError):
            while True:
                os.write(writer, b"#" * 512)
        began_s = time.monotonic()
        for _ in range(3):
            assert send_command(running, "stop").status_code == 200
            assert send_command(running, "resume").status_code == 200
        assert send_command(running, "stop").status_code == 200
        no_answer_of_the_candidate(running)
        assert time.monotonic() - began_s < 10
        running.terminate()
        assert running.process is not None
        assert running.process.wait(28) == 0
    os.close(reader)
    os.close(writer)
