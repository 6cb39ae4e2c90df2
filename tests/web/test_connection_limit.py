"""Which connections are closed when there are too many: the least useful one, and never one that gives an order."""

import itertools
import socket
from typing import Any

import pytest

from gateway.web.connection_limit import make_room

CLOCK = itertools.count(1)


class Transport:
    def __init__(self) -> None:
        self.closed = False
        self.socket: socket.socket | None = None

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self.socket

    def is_closing(self) -> bool:
        return self.closed

    def abort(self) -> None:
        self.closed = True


class Cycle:
    """A request: whether its body has arrived, and its answer; `method` None: a prediction on the fast path."""

    def __init__(self, method: str | None, more_body: bool = False, response_complete: bool = False) -> None:
        self.more_body = more_body
        self.response_complete = response_complete
        if method is not None:
            self.scope = {"method": method}


class Connection:
    def __init__(self, cycle: Cycle | None = None, has_begun: bool = False) -> None:
        self.transport = Transport()
        self.cycle = cycle
        self.has_begun = has_begun
        self.made_s = float(next(CLOCK))
        self.answered_s = 0.0


def idle() -> Connection:
    return Connection()


def answered() -> Connection:
    return Connection(Cycle("POST", response_complete=True))


def half_a_head() -> Connection:
    return Connection(has_begun=True)


def half_a_body() -> Connection:
    return Connection(Cycle("POST", more_body=True))


def reading() -> Connection:
    return Connection(Cycle("GET"))


def ordering() -> Connection:
    return Connection(Cycle("POST"))


def predicting() -> Connection:
    return Connection(Cycle(None))


@pytest.mark.parametrize(
    ("stays", "goes"),
    [
        (half_a_head, idle),
        (half_a_body, idle),
        (reading, answered),
        (reading, half_a_body),
        (ordering, reading),
        (predicting, reading),
    ],
)
def test_make_room_closes_the_least_useful_connection(stays: Any, goes: Any) -> None:
    kept, gone, newcomer = stays(), goes(), idle()
    for connections in ([kept, gone, newcomer], [newcomer, gone, kept]):
        gone.transport.closed = False
        make_room(connections, newcomer, 2)
        assert [each.transport.closed for each in (kept, gone, newcomer)] == [False, True, False]


def test_make_room_spares_a_client_whose_request_is_still_unread() -> None:
    client, server = socket.socketpair()
    with client, server:
        client.sendall(b"POST")
        asked, newcomer, never = idle(), idle(), idle()
        asked.transport.socket = server
        make_room([asked, never, newcomer], newcomer, 2)
        assert (asked.transport.closed, never.transport.closed) == (False, True)


def test_make_room_closes_the_least_recently_used_of_equals() -> None:
    old, used, newcomer = idle(), answered(), idle()
    old.made_s, used.made_s, used.answered_s = 2.0, 1.0, 3.0
    make_room([used, old, newcomer], newcomer, 2)
    assert (old.transport.closed, used.transport.closed) == (True, False)


def test_make_room_spares_orders_even_beyond_the_limit() -> None:
    connections = [ordering() for _ in range(10)]
    make_room(connections, newcomer := idle(), 3)
    assert not any(each.transport.closed for each in (*connections, newcomer))


def test_make_room_closes_several_at_once() -> None:
    connections = [idle() for _ in range(641)]
    make_room(connections, connections[-1], 640)
    assert sum(each.transport.closed for each in connections) == 11
    looked = [each for each in connections if each.transport.closed]
    assert looked == connections[:11]
