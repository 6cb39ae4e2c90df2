"""How a server leaves, step by step: its sockets are closed before anyone is told to go elsewhere."""

import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.web.draining import ALL_CLOSED, KNOWN_S, LEAVES_WITHIN, SETTLED, Leaving

NOW_S = 100.0


@dataclass
class Connection:
    """`answered_s`: just now, unless it is told otherwise."""

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
    """A socket that listens, and the steps of its end."""

    def __init__(self, *connections: Connection, within: int = LEAVES_WITHIN, queued: int = 0) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.queued = [socket.create_connection(self.socket.getsockname()) for _ in range(queued)]
        self.state = State(list(connections))
        self.leaving = Leaving([self.socket], self.socket.close, within)

    @property
    def listens(self) -> bool:
        return self.socket.fileno() >= 0

    def steps(self, count: int, now_s: float = NOW_S) -> bool:
        """Whether the last of them said that it is over."""
        return [self.leaving.step(self.state, now_s) for _ in range(count)][-1]


@pytest.fixture
def made() -> Iterator[list[Server]]:
    servers: list[Server] = []
    yield servers
    for server in servers:
        for each in (server.socket, *server.queued):
            each.close()


def test_no_one_is_told_to_go_before_all_that_leave_have_closed_their_sockets(made: list[Server]) -> None:
    made.append(server := Server(used := Connection()))
    assert not server.steps(SETTLED)
    assert (server.listens, used.leaving) == (True, False)
    assert not server.steps(ALL_CLOSED)
    assert (server.listens, used.leaving, server.state.leaving) == (False, False, False)
    assert not server.steps(1)
    assert (used.leaving, server.state.leaving) == (True, True)
    assert server.steps(1, NOW_S + KNOWN_S)


def test_with_no_one_there_it_is_over_when_its_socket_is_closed(made: list[Server]) -> None:
    made.append(server := Server(Connection(answered_s=0.0)))
    assert not server.steps(SETTLED)
    assert server.steps(1)
    assert not server.listens


def test_what_is_on_its_way_is_the_last_of_its_connection(made: list[Server]) -> None:
    body, head, idle = Connection(under_way=True, more_body=True), Connection(has_begun=True), Connection()
    made.append(server := Server(body, head, idle))
    server.steps(SETTLED + 1)
    assert (body.ended, head.ended, idle.ended) == (True, True, False)


def test_who_waits_in_the_queue_is_accepted_first(made: list[Server]) -> None:
    made.append(server := Server(queued=1))
    assert not server.steps(SETTLED + 3)
    assert server.listens
    server.socket.accept()[0].close()
    assert server.steps(1)
    assert not server.listens


def test_it_has_an_end_whoever_is_expected(made: list[Server]) -> None:
    made.append(server := Server(Connection(), within=SETTLED))
    assert not server.steps(SETTLED)
    assert server.steps(1)
    assert not server.listens
