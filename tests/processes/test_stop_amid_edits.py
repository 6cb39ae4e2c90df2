"""After a stop has returned, no candidate of the model answers until a resume, whatever edit is in progress."""

import os
import random
import shutil
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from loadtests.client import Client, Seen
from tests.processes.flawed import gateway, release, requests, send_command, until, workers
from tests.processes.test_reload import config, edit, routing
from tests.running import GatewayProcess

ROUNDS = 7
BUSY_S = 0.3
NONE = "models: {flawed: {stable: 1}}\n"


@contextmanager
def started(folder: Path) -> Iterator[GatewayProcess]:
    """A gateway with versions 3 and 4 that are as good as 2."""
    running = gateway(folder)
    for version in "34":
        shutil.copytree(folder / "models" / "flawed" / "2", folder / "models" / "flawed" / version)
    with running:
        yield running


@contextmanager
def blocked_repeatedly(pid: int) -> Iterator[None]:
    """Block the worker's event loop for BUSY_S again and again, as long runs on it would."""
    over = threading.Event()

    def suspend() -> None:
        with suppress(ProcessLookupError):
            while not over.wait(0.06):
                os.kill(pid, signal.SIGSTOP)
                over.wait(BUSY_S)
                os.kill(pid, signal.SIGCONT)

    thread = threading.Thread(target=suspend)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def keep(client: Client, seconds: float, seen: Seen) -> None:
    """Send as fast as answers come, without waiting at the end for a worker that is blocked."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        client.send()
        for answer in client.there():
            seen.add(answer)
        time.sleep(0.001)


def reconnecting_client(running: GatewayProcess) -> Client:
    """A client that expects that idle connections to a blocked worker may be closed."""
    return Client(("127.0.0.1", running.port), 16, requests(1.0), reconnect=True)


def wait_until_applied(running: GatewayProcess, text: str) -> None:
    """Wait until the text is in force in all workers."""
    file = running.config.parent / "routing.yaml"
    assert file.read_text() == text
    candidate = next((number for number in (2, 3, 4) if f"candidate: {number}" in text), None)
    until(lambda: release(running)["candidate"] == candidate, "the edit is read")
    until(lambda: config(running)["acknowledged"] == 2, "both workers follow")


@pytest.mark.slow
def test_no_candidate_answers_after_a_stop_at_any_moment_of_an_edit(tmp_path: Path) -> None:
    chance = random.Random(13)
    before, after = Seen(), Seen()
    with started(tmp_path) as running, reconnecting_client(running) as client:
        with blocked_repeatedly(workers(running)[0]):
            for number in range(ROUNDS):
                text = routing(candidate=3 - number % 2)
                edit(running, text)
                keep(client, chance.uniform(0, 1.5), before)
                assert send_command(running, "stop").status_code == 200
                for answer in client.there():  # sent before the stop had returned
                    before.add(answer)
                keep(client, 0.6, after)
                wait_until_applied(running, text)
                keep(client, 0.05, after)
                assert send_command(running, "resume").status_code == 200
        client.rest()
    assert before.variants["candidate"] > 0
    assert after.variants["candidate"] == 0
    assert after.variants["stable"] > 0
    assert not before.failures + after.failures


@pytest.mark.slow
def test_stop_during_the_removal_of_the_candidate_reaches_the_worker_behind(tmp_path: Path) -> None:
    after = Seen()
    with started(tmp_path) as running, reconnecting_client(running) as client:
        keep(client, 0.2, Seen())
        with blocked_repeatedly(workers(running)[0]):
            for text in (NONE, routing()) * 2:
                edit(running, text)
                until(lambda: (release(running)["candidate"] is None) is (text == NONE), "it is read")  # noqa: B023
                stopped = send_command(running, "stop")
                if text == NONE:  # 409 where both have followed by then
                    assert stopped.status_code in (200, 409), stopped.text
                    client.there()
                    keep(client, 0.5, after)
                wait_until_applied(running, text)
                send_command(running, "resume")
        client.rest()
    assert after.variants["stable"] > 0
    assert after.variants["candidate"] == 0


@pytest.mark.slow
def test_stop_also_applies_to_the_candidate_of_an_unread_edit(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        text = routing(candidate=3)
        edit(running, text)
        assert send_command(running, "stop").json()["candidate"] == 2
        wait_until_applied(running, text)
        assert release(running)["stopped"]
        assert "(its edit was under way)" in release(running)["stop"]["reason"]
        assert send_command(running, "resume").status_code == 200
        text = routing(candidate=2, weight=40)
        edit(running, text)
        wait_until_applied(running, text)
        assert release(running)["stopped"], "2 was stopped, and no one has resumed it"
        assert send_command(running, "resume").status_code == 200
        assert send_command(running, "stop").status_code == 200
        text = routing(candidate=4, weight=30)
        edit(running, text)
        wait_until_applied(running, text)
        assert not release(running)["stopped"], "an order that was given after the stop"
