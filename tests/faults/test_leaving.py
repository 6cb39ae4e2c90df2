"""A worker that is shut down drops no one: connected clients are answered, and new ones reach another worker."""

import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
import pytest

from loadtests.client import request
from tests.processes.flawed import body, gateway, metric, until, workers
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow

INFER = request("/v2/models/flawed/infer", body(1.0))
LEAVERS = 3
CLIENTS = 8
PATIENCE_S = 10.0
SENT_AGAIN_S = 0.95  # the system sends the packet again that opens a connection and was dropped
TRIES = 10  # to suspend a worker that leaves before it has left
KEPT_S = 5.0  # uvicorn's timeout_keep_alive


class Crowd:
    """Clients in threads that send requests without a pause: one per connection, or as many as the server allows."""

    def __init__(self, port: int, *, kept: bool) -> None:
        self.seen: Counter[str] = Counter()
        self.longest_s = 0.0
        self.connecting_s = 0.0  # at most
        self._port = port
        self._kept = kept
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(CLIENTS)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while not self._ended.is_set():
            began_s = time.monotonic()
            try:
                with socket.create_connection(("127.0.0.1", self._port), PATIENCE_S) as client:
                    self.connecting_s = max(self.connecting_s, time.monotonic() - began_s)
                    self._ask(client)
            except OSError as error:
                self.seen[f"{type(error).__name__}: {error}"] += 1
            self.longest_s = max(self.longest_s, time.monotonic() - began_s) if not self._kept else 0.0

    def _ask(self, client: socket.socket) -> None:
        going_on = True
        while going_on and not self._ended.is_set():
            client.sendall(INFER)
            head = _answer(client)
            self.seen[head.split(b"\r\n")[0].decode()] += 1
            going_on = self._kept and b"connection: close" not in head.lower()


def _some(client: socket.socket) -> bytes:
    received = client.recv(65536)
    if not received:
        raise ConnectionAbortedError("closed without an answer")
    return received


def _until(client: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        received += _some(client)
    return received


@pytest.mark.parametrize("kept", [False, True], ids=["a connection a request", "connections that are kept"])
def test_worker_shutdown_resets_no_connection(tmp_path: Path, kept: bool) -> None:
    with gateway(tmp_path, server={"workers": 3}) as running:
        with Crowd(running.port, kept=kept) as crowd:
            for _ in range(LEAVERS):
                leave(running)
        assert set(crowd.seen) == {"HTTP/1.1 200 OK"}, crowd.seen
        assert crowd.seen.total() > 1000
        assert crowd.longest_s < PATIENCE_S / 2
        assert not kept or crowd.connecting_s < SENT_AGAIN_S, "who is told to go finds another worker at once"


def leave(running: GatewayProcess) -> None:
    """Replace one worker, and wait for its successor."""
    leaver = workers(running)[0]
    os.kill(leaver, signal.SIGTERM)
    until(lambda: leaver not in workers(running), "it has left")
    until(lambda: metric(running, "gateway_workers", state="ready") == 3, "another one has come")


def test_clients_in_the_accept_queue_of_a_leaving_worker_are_answered(tmp_path: Path) -> None:
    """They connected while its event loop was suspended."""
    with gateway(tmp_path) as running:
        first, second = workers(running)
        for pid in (first, second):
            os.kill(pid, signal.SIGSTOP)
        clients = [socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) for _ in range(64)]
        os.kill(first, signal.SIGTERM)
        for pid in (first, second):
            os.kill(pid, signal.SIGCONT)
        for client in clients:
            client.sendall(INFER)
        answers = [_until(client, b"\r\n\r\n").split(b"\r\n")[0] for client in clients]
        assert set(answers) == {b"HTTP/1.1 200 OK"}
        for client in clients:
            client.close()


def test_requests_unread_when_a_worker_was_told_to_leave_are_answered(tmp_path: Path) -> None:
    """It was suspended while it was told; all of its connections had been idle for long."""
    with gateway(tmp_path) as running:
        for _ in range(TRIES):
            with contextlib.ExitStack() as stack:
                address = "127.0.0.1", running.port
                clients = [stack.enter_context(socket.create_connection(address, PATIENCE_S)) for _ in range(16)]
                asked = _asked_while_it_leaves(running, clients)
            until(lambda: len(workers(running)) == 2 and healthy(running), "another one has come")
            if asked:
                return
        raise AssertionError("no worker could be suspended in time")


def healthy(running: GatewayProcess) -> bool:
    return httpx.get(f"{running.control_url}/health", timeout=PATIENCE_S).status_code == 200


def _asked_while_it_leaves(running: GatewayProcess, clients: list[socket.socket]) -> bool:
    """Whether all clients could still send a request."""
    for client in clients:
        client.sendall(INFER)
        assert _answer(client).startswith(b"HTTP/1.1 200 OK")
    time.sleep(0.6)
    leaver = workers(running)[0]
    os.kill(leaver, signal.SIGTERM)
    time.sleep(0.1)
    with contextlib.suppress(ProcessLookupError):
        os.kill(leaver, signal.SIGSTOP)
    open_ = not select.select(clients, [], [], 0)[0]
    if open_:
        for client in clients:
            client.sendall(INFER)
        time.sleep(2.5)
    with contextlib.suppress(ProcessLookupError):  # it had left before
        os.kill(leaver, signal.SIGCONT)
    if open_:
        assert {_answer(client).split(b"\r\n")[0] for client in clients} == {b"HTTP/1.1 200 OK"}
    until(lambda: leaver not in workers(running), "it has left")
    return open_


def test_connection_is_not_idle_if_its_request_came_during_a_suspension(tmp_path: Path) -> None:
    """The worker was suspended for longer than idle connections are kept."""
    with gateway(tmp_path, server={"workers": 1}) as running:
        (worker,) = workers(running)
        with socket.create_connection(("127.0.0.1", running.port), PATIENCE_S) as client:
            client.sendall(INFER)
            assert _answer(client).startswith(b"HTTP/1.1 200 OK")
            os.kill(worker, signal.SIGSTOP)
            client.sendall(INFER)
            time.sleep(KEPT_S + 0.5)
            os.kill(worker, signal.SIGCONT)
            assert _answer(client).startswith(b"HTTP/1.1 200 OK")


def _answer(client: socket.socket) -> bytes:
    """The head of the answer; the body is read too."""
    head, _, rest = _until(client, b"\r\n\r\n").partition(b"\r\n\r\n")
    size = int(head.lower().partition(b"content-length:")[2].split()[0])
    while len(rest) < size:
        rest += _some(client)
    return head
