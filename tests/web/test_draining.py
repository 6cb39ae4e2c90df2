"""Draining a server step by step: its socket is closed before clients are told to reconnect."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.web.draining import HANDSHAKE_STEPS, MAX_STEPS, PEER_CLOSE_STEPS, RECENT_S, Draining

NOW_S = 100.0


@dataclass
class Connection:
    """`answered_s`: just now, unless given."""

    answered_s: float = NOW_S
    made_s: float = 0.0
    under_way: bool = False
    has_begun: bool = False
    more_body: bool = False
    leaving: bool = False
    ended: bool = False

    def receiving(self) -> bool:
        return self.more_body

    def shutdown(self) -> None:
        self.ended = True


@dataclass
class State:
    connections: list[Any] = field(default_factory=list)
    leaving: bool = False


class Server:
    """A listening socket, and the steps of its shutdown."""

    def __init__(self, *connections: Connection, within: int = MAX_STEPS, queued: int = 0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.queued = [socket.create_connection(self.socket.getsockname()) for _ in range(queued)]
        self.state = State(list(connections))
        self.leaving = Draining([self.socket], self.socket.close, within)

    @property
    def listens(self) -> bool:
        return self.socket.fileno() >= 0

    def steps(self, count: int, now_s: float = NOW_S) -> bool:
        """Take so many steps; whether the last of them reported the end."""
        return [self.leaving.step(self.state, now_s) for _ in range(count)][-1]


@pytest.fixture
def made() -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        for each in (server.socket, *server.queued):
            each.close()


def test_clients_are_told_to_leave_after_all_sockets_are_closed(made: list[Server]) -> None:
    made.append(server := Server(used := Connection()))
    assert not server.steps(HANDSHAKE_STEPS)
    assert (server.listens, used.leaving) == (True, False)
    assert not server.steps(PEER_CLOSE_STEPS)
    assert (server.listens, used.leaving, server.state.leaving) == (False, False, False)
    assert not server.steps(1)
    assert (used.leaving, server.state.leaving) == (True, True)
    assert server.steps(1, NOW_S + RECENT_S)


def test_server_without_clients_ends_when_its_socket_is_closed(made: list[Server]) -> None:
    made.append(server := Server(Connection(answered_s=0.0)))
    assert not server.steps(HANDSHAKE_STEPS)
    assert server.steps(1)
    assert not server.listens


def test_request_in_progress_is_the_last_of_its_connection(made: list[Server]) -> None:
    body, head, idle = Connection(under_way=True, more_body=True), Connection(has_begun=True), Connection()
    made.append(server := Server(body, head, idle))
    server.steps(HANDSHAKE_STEPS + 1)
    assert (body.ended, head.ended, idle.ended) == (True, True, False)


def test_connections_in_the_accept_queue_are_accepted_first(made: list[Server]) -> None:
    made.append(server := Server(queued=1))
    assert not server.steps(HANDSHAKE_STEPS + 3)
    assert server.listens
    server.socket.accept()[0].close()
    assert server.steps(1)
    assert not server.listens


def test_draining_ends_in_time_whatever_is_pending(made: list[Server]) -> None:
    made.append(server := Server(Connection(), within=HANDSHAKE_STEPS))
    assert not server.steps(HANDSHAKE_STEPS)
    assert server.steps(1)
    assert not server.listens
