"""A small rate limit over two gateways, whose store counts the requests: over HTTP, with keys and without."""

import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import mmh3
import pytest

from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import body, until
from tests.processes.test_fleet import LEASE_S, host
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
PATH = "/v2/models/flawed/infer"
# a request a minute, for a customer of each test
LIMIT = {"rate": {"customers": dict.fromkeys(("first", "second", "piped", "late"), "1/m")}}
FIRST = f"{{gateway:gateway:rates}}:document:count-c{mmh3.hash_bytes(b'first').hex()}:members"
Pair = tuple[GatewayProcess, GatewayProcess]


@pytest.fixture(scope="module", name="served")
def _served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RedisServer, Pair]]:
    folder = tmp_path_factory.mktemp("counts")
    with RedisServer(folder / "redis") as store:
        assert isinstance(store, RedisServer)
        with (
            host(folder, store, "a", known=True, limits=LIMIT) as a,
            host(folder, store, "b", known=True, limits=LIMIT) as b,
        ):
            for running in (a, b):
                until(lambda running=running: counts(running, store), "requests are counted in the store")  # type: ignore[misc]
            yield store, (a, b)


def counts(running: GatewayProcess, store: RedisServer) -> bool:
    """Whether this host has a request counted, in which case it changes the count that has been deleted."""
    store.send("DEL", FIRST)
    ask(running, "first")
    return store.send("EXISTS", FIRST) == ":1"


def ask(running: GatewayProcess, customer: str) -> httpx.Response:
    headers = {"x-customer-id": customer}
    return httpx.post(f"{running.url}{PATH}", content=body(1.0), headers=headers, timeout=10)


def admitted(pair: Pair, customer: str, count: int) -> int:
    """Of so many requests to each host, all at once."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, pair * count, [customer] * 2 * count))
    assert {answer.status_code for answer in answers} <= {200, 429}
    return sum(answer.status_code == 200 for answer in answers)


def test_requests_to_all_hosts_count_together(served: tuple[RedisServer, Pair]) -> None:
    _, pair = served
    assert admitted(pair, "second", 10) == 1
    refused = ask(pair[1], "second")
    assert refused.status_code == 429 and 15 <= int(refused.headers["retry-after"]) <= 30
    assert "0.0166667 requests per second" in refused.json()["error"]


def test_pipelined_requests_are_answered_in_order(served: tuple[RedisServer, Pair]) -> None:
    _, (a, _) = served
    url, content = httpx.URL(a.url), body(1.0)
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nx-customer-id: %s\r\ncontent-length: {len(content)}\r\n\r\n"
    requests = [(head % customer).encode() + content for customer in ("free", "piped", "free", "piped")]
    with socket.create_connection((url.host, url.port), 10) as connection:
        connection.sendall(b"".join(requests))
        got = b""
        while got.count(b"HTTP/1.1 ") < 4 or not got.endswith(b"}"):
            got += connection.recv(65536)
    statuses = [part.split(b" ")[0] for part in got.split(b"HTTP/1.1 ")[1:]]
    assert statuses == [b"200", b"200", b"200", b"429"]


def test_without_the_store_the_shares_hold_and_no_request_waits_long(served: tuple[RedisServer, Pair]) -> None:
    store, pair = served
    store.freeze()
    try:
        began_s = time.monotonic()
        assert admitted(pair, "late", 20) == 10, "each host's share is five of ten in a window of ten minutes"
        assert time.monotonic() - began_s < 10 * LEASE_S
        assert ask(pair[0], "free").status_code == 200
    finally:
        store.thaw()
