"""The client of the loadtests: a connection may end if its last answer announced it, and not otherwise."""

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from loadtests import client as client_module
from loadtests.client import Client, Seen, request

ASKED = request("/", b"{}")


@contextmanager
def serving(*, announced: bool, per_connection: int) -> Iterator[tuple[str, int]]:
    """A server that ends each connection with its `per_connection`th response, and says so there or not."""

    def converse(accepted: socket.socket) -> None:
        with accepted, suppress(OSError):
            for number in range(1, per_connection + 1):
                if not accepted.recv(65536):
                    return
                close = b"connection: close\r\n" if announced and number == per_connection else b""
                accepted.sendall(b"HTTP/1.1 200 OK\r\n" + close + b"x-variant: stable\r\ncontent-length: 2\r\n\r\n{}")

    def accept() -> None:
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=converse, args=(accepted,), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield listener.getsockname()
        listener.shutdown(socket.SHUT_RDWR)


def test_announced_end_of_a_connection_loses_nothing() -> None:
    seen = Seen()
    with serving(announced=True, per_connection=3) as address, Client(address, 4, lambda: ASKED) as client:
        client.keep_busy(0.3, seen)
    assert client.lost == 0
    assert not seen.failures
    assert seen.variants["stable"] > 4 * 3


def test_unannounced_end_of_a_connection_is_a_fault() -> None:
    with (
        serving(announced=False, per_connection=3) as address,
        Client(address, 4, lambda: ASKED) as client,
        pytest.raises(AssertionError, match="has closed a connection"),
    ):
        client.keep_busy(5.0, Seen())


def test_a_connection_that_was_idle_for_long_may_have_been_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "KEPT_S", 0.0)
    with serving(announced=False, per_connection=1) as address, Client(address, 1, lambda: ASKED) as client:
        for _ in range(3):
            client.send()
            assert [answer.status for answer in client.rest()] == [200]
            (connection,) = client._connections
            assert select.select([connection.socket], [], [], 30)[0], "the server has closed it"
    assert client.lost == 0
