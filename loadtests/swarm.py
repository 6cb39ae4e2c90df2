"""Connections by the hundred out of several processes, for bodies so large that one process of Python cannot send them.

Each connection is a thread with a blocking socket that has the bytes of its request ready.
"""

import itertools
import random
import socket
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from threading import Thread
from typing import Final

RECEIVE: Final = 1 << 18
KEPT: Final = 4  # bodies of a connection's answers, to be looked at
STARTED_AFTER_S: Final = 0.5
ANSWERED_WITHIN_S: Final = 20.0


@dataclass(frozen=True, slots=True)
class Task:
    """`count` connections, of which the first is number `first`; connection i sends request i modulo their number.

    `every_s`: between two requests of one connection, sent when they are due or as soon after as it can; 0: at once.
    """

    address: tuple[str, int]
    requests: Sequence[bytes]
    first: int
    count: int
    start_s: float
    seconds: float
    every_s: float = 0.0


@dataclass(slots=True)
class Seen:
    """`ms` from when each request was due to its answer. `bodies`: some answers, with the number of the request."""

    ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    bodies: list[tuple[int, bytes]] = field(default_factory=list)

    def join(self, other: "Seen") -> None:
        """Add what another has seen."""
        self.ms += other.ms
        self.failures += other.failures
        self.bodies += other.bodies


class Swarm:
    """`processes` that send; entered once, used for several loads."""

    def __init__(self, address: tuple[str, int], requests: Sequence[bytes], processes: int) -> None:
        self._address = address
        self._requests = requests
        self._processes = processes
        self._pool = ProcessPoolExecutor(processes, get_context("spawn"))

    def __enter__(self) -> "Swarm":
        list(self._pool.map(time.sleep, [0.2] * self._processes))  # all of them have started
        return self

    def __exit__(self, *raised: object) -> None:
        self._pool.shutdown()

    def send(self, connections: int, seconds: float, per_s: float = 0.0) -> Seen:
        """Load for `seconds`: `per_s` requests a second over all connections, or as many as are answered (0)."""
        start_s = time.monotonic() + STARTED_AFTER_S
        every_s = connections / per_s if per_s else 0.0
        edges = [connections * index // self._processes for index in range(self._processes + 1)]
        tasks = [
            Task(self._address, self._requests, first, end - first, start_s, seconds, every_s)
            for first, end in itertools.pairwise(edges)
        ]
        seen = Seen()
        for one in self._pool.map(work, tasks):
            seen.join(one)
        return seen


def work(task: Task) -> Seen:
    """What one process does."""
    found = [Seen() for _ in range(task.count)]
    threads = [
        Thread(target=_connection, args=(task, task.first + index, seen), daemon=True)
        for index, seen in enumerate(found)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(task.start_s + task.seconds + 2 * ANSWERED_WITHIN_S - time.monotonic())
    whole = Seen()
    for seen in found:
        whole.join(seen)
    whole.failures += ["a connection hangs" for thread in threads if thread.is_alive()]
    return whole


def _connection(task: Task, number: int, seen: Seen) -> None:
    which = number % len(task.requests)
    chance = random.Random(number)
    due_s = task.start_s + chance.random() * task.every_s
    end_s = task.start_s + task.seconds
    connection = None
    try:
        while due_s < end_s:
            _until(due_s)
            if time.monotonic() >= end_s:
                return
            connection = connection or _connected(task.address)
            status, last, body = _asked(connection, task.requests[which])
            now_s = time.monotonic()
            _note(seen, status, body, (now_s - due_s) * 1e3, which, chance.randrange)
            due_s = due_s + task.every_s if task.every_s else now_s
            if last:
                connection.close()
                connection = None
    except (OSError, ValueError) as error:
        seen.failures.append(f"{type(error).__name__}: {error}")
    finally:
        if connection is not None:
            connection.close()


def _connected(address: tuple[str, int]) -> socket.socket:
    connection = socket.create_connection(address, timeout=ANSWERED_WITHIN_S)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _until(due_s: float) -> None:
    left_s = due_s - time.monotonic()
    if left_s > 0:
        time.sleep(left_s)


def _asked(connection: socket.socket, request: bytes) -> tuple[int, bool, bytes]:
    """The status, whether the gateway ends the connection with it, and the body."""
    connection.sendall(request)
    received = b""
    while b"\r\n\r\n" not in received:
        received += _more(connection)
    head, _, body = received.partition(b"\r\n\r\n")
    lines = head.lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += _more(connection)
    return int(lines[0].split()[1]), b"connection: close" in lines, body


def _more(connection: socket.socket) -> bytes:
    received = connection.recv(RECEIVE)
    if not received:
        raise ValueError("the gateway has closed a connection")
    return received


def _note(seen: Seen, status: int, body: bytes, ms: float, which: int, pick: Callable[[int], int]) -> None:
    if status != 200:
        seen.failures.append(f"{status}: {body[:200].decode(errors='replace')}")
        return
    seen.ms.append(ms)
    if len(seen.bodies) < KEPT:
        seen.bodies.append((which, body))
    elif (place := pick(len(seen.ms))) < KEPT:  # each answer is as likely to be among them
        seen.bodies[place] = which, body
