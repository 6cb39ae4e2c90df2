"""A small rate limit over two gateways, whose store counts the requests: over HTTP, with keys and without."""

import itertools
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.control.fleet.servers import RedisServer
from tests.processes.flawed import body, until
from tests.processes.test_fleet import LEASE_S, host
from tests.running import GatewayProcess

pytestmark = pytest.mark.slow
PATH = "/v2/models/flawed/infer"
ATTEMPTS = 3  # on a busy machine the store may answer too late, and shares hold for two seconds
LIMIT = {"rate": {"default": "1/m", "customers": {"free": "1000/s"}}}
COUNTS = "return #redis.call('KEYS', '*:document:count-*')"
numbers = itertools.count()
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
            yield store, (a, b)


def until_counted(store: RedisServer, *pair: GatewayProcess) -> None:
    for running in pair:
        until(lambda running=running: counts(running, store), "requests are counted in the store")  # type: ignore[misc]


def counts(running: GatewayProcess, store: RedisServer) -> bool:
    """Whether this host has the request of a new customer counted."""
    before = store.send("EVAL", COUNTS, "0")
    ask(running, f"new {next(numbers)}")
    return store.send("EVAL", COUNTS, "0") != before


def ask(running: GatewayProcess, customer: str) -> httpx.Response:
    headers = {"x-customer-id": customer}
    return httpx.post(f"{running.url}{PATH}", content=body(1.0), headers=headers, timeout=10)


def asked(pair: Pair, customer: str, count: int) -> tuple[int, list[httpx.Response]]:
    """How many of so many requests to each host, all at once, are admitted, and the other answers."""
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(ask, pair * count, [customer] * 2 * count))
    assert {answer.status_code for answer in answers} <= {200, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    return len(answers) - len(refused), refused


def test_requests_to_all_hosts_count_together(served: tuple[RedisServer, Pair]) -> None:
    store, pair = served
    for attempt in range(ATTEMPTS):
        until_counted(store, *pair)
        admitted, (refused, *_) = asked(pair, f"second {attempt}", 10)
        if admitted == 1:
            break
    assert admitted == 1
    assert 15 <= int(refused.headers["retry-after"]) <= 30
    assert "0.0166667 requests per second" in refused.json()["error"]


def test_pipelined_requests_are_answered_in_order(served: tuple[RedisServer, Pair]) -> None:
    store, (a, _) = served
    for attempt in range(ATTEMPTS):
        until_counted(store, a)
        customer = f"piped {attempt}"
        if (statuses := pipelined(a, "free", customer, "free", customer))[-1] == 429:
            break
    assert statuses == [200, 200, 200, 429]


def pipelined(running: GatewayProcess, *customers: str) -> list[int]:
    """The statuses of the answers to requests of these customers on one connection."""
    url, content = httpx.URL(running.url), body(1.0)
    head = f"POST {PATH} HTTP/1.1\r\nhost: x\r\nx-customer-id: %s\r\ncontent-length: {len(content)}\r\n\r\n"
    requests = [(head % customer).encode() + content for customer in customers]
    with socket.create_connection((url.host, url.port), 10) as connection:
        connection.sendall(b"".join(requests))
        got = b""
        while got.count(b"HTTP/1.1 ") < len(customers) or not got.endswith(b"}"):
            got += connection.recv(65536)
    return [int(part.split(b" ")[0]) for part in got.split(b"HTTP/1.1 ")[1:]]


def test_without_the_store_the_shares_hold_and_no_request_waits_long(served: tuple[RedisServer, Pair]) -> None:
    store, pair = served
    until_counted(store, *pair)
    store.freeze()
    try:
        began_s = time.monotonic()
        assert asked(pair, "late", 20)[0] == 10, "each host's share is five of ten in a window of ten minutes"
        assert time.monotonic() - began_s < 10 * LEASE_S
        assert ask(pair[0], "free").status_code == 200
    finally:
        store.thaw()
