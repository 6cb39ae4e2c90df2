"""More requests than limits.inflight: the excess is refused at once with Retry-After, the rest is answered."""

import contextlib
import gzip
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.running import GatewayProcess
from tests.wire import SMALL_BODY, Reply, Wire, get, looping_models, post, row, turns

WITHIN_S = 30.0
FOR_EVER = 10**12
HELD_US = 20_000_000  # the deadline of a request that never ends by itself
LONG_TURNS = 1_200_000  # turns that take the better part of a second: long beside what the tests do meanwhile
INFLIGHT = 3


def until(condition: Callable[[], bool], what: str) -> None:
    """Poll until `condition` holds; fail after a time limit."""
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {WITHIN_S} s"
        time.sleep(0.01)


def ask(gateway: GatewayProcess, request: bytes) -> Reply:
    """Send one request on a connection of its own."""
    with Wire(gateway) as wire:
        return wire.send(request).read()


def full(gateway: GatewayProcess) -> bool:
    """Whether as many requests as allowed are in flight."""
    return ask(gateway, post("doubling", row())).status == 503


@contextlib.contextmanager
def held(gateway: GatewayProcess, model: str, count: int) -> Iterator[list[Wire]]:
    """`count` requests in flight, which is as many as allowed; at the end their clients disconnect."""
    wires = [Wire(gateway).send(post(model, turns(FOR_EVER, timeout=HELD_US))) for _ in range(count)]
    until(lambda: full(gateway), "as many in flight as allowed")
    yield wires
    for wire in wires:
        wire.close()
    until(lambda: not full(gateway), "a slot to be free again")


def refused(reply: Reply) -> bool:
    """Whether the answer is that of an overload: 503 with Retry-After and the reason."""
    if reply.status != 503:
        return False
    assert int(reply.headers["retry-after"]) > 0
    assert reply.headers["content-type"] == "application/json"
    assert reply.document.keys() == {"error"}
    assert "limits.inflight" in reply.document["error"]
    return True


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("overload")
    models = looping_models(folder / "models", "slow", "stuck")
    with GatewayProcess(folder, models, limits={"inflight": INFLIGHT, "timeout": "60s"}) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


def test_excess_requests_are_refused_and_the_rest_answered(gateway: GatewayProcess) -> None:
    counts = [LONG_TURNS // 2, *range(1, INFLIGHT)]  # the others, once refused, are idle for less than 5 s
    admitted = [Wire(gateway).send(post("slow", turns(count))) for count in counts]
    until(lambda: full(gateway), "as many in flight as allowed")
    excess = [Wire(gateway).send(post("slow", turns(5))) for _ in range(8)]
    assert all(refused(wire.read()) for wire in excess)
    for count, wire in zip(counts, admitted, strict=True):
        reply = wire.read()
        assert (reply.status, reply.document["outputs"][0]["data"]) == (200, [count])
    for wire in [*excess, *admitted]:
        reply = wire.send(post("slow", turns(5))).read()
        assert (reply.status, reply.document["outputs"][0]["data"]) == (200, [5]), "those refused may come again"
        wire.close()


@pytest.mark.parametrize(
    "request_",
    [
        post("doubling", row()),
        post("doubling", row(), pad=2 * SMALL_BODY),
        post("doubling", gzip.compress(json.dumps(row()).encode()), "Content-Encoding: gzip"),
        post("slow", turns(5)),
    ],
    ids=["short", "large", "compressed", "another model"],
)
def test_every_kind_of_prediction_is_refused_and_then_served_again(gateway: GatewayProcess, request_: bytes) -> None:
    with Wire(gateway) as wire:
        with held(gateway, "stuck", INFLIGHT):
            for _ in range(3):
                assert refused(wire.send(request_).read())
        assert wire.send(request_).read().status == 200


def test_health_and_metadata_are_answered_during_overload(gateway: GatewayProcess) -> None:
    paths = ["/v2/health/live", "/v2/health/ready", "/v2/models/slow/ready", "/v2/models/stats", "/v2"]
    with held(gateway, "stuck", INFLIGHT):
        assert [ask(gateway, get(path)).status for path in paths] == [200] * len(paths)


def test_refused_request_does_not_count_as_in_flight(gateway: GatewayProcess) -> None:
    with held(gateway, "stuck", INFLIGHT) as wires:
        assert all(refused(ask(gateway, post("slow", turns(5)))) for _ in range(50))
        wires[0].close()
        until(lambda: not full(gateway), "the slot of the one that left to be free")


def test_pipelined_requests_are_refused_one_by_one(gateway: GatewayProcess) -> None:
    with Wire(gateway) as wire:
        with held(gateway, "stuck", INFLIGHT):
            wire.send((post("doubling", row()) + get("/v2") + post("doubling", row(), pad=2 * SMALL_BODY)) * 3)
            assert [wire.read().status for _ in range(9)] == [503, 200, 503] * 3
        assert wire.send(post("doubling", row())).read().status == 200


def test_burst_is_answered_or_refused_and_nothing_else(gateway: GatewayProcess) -> None:
    wires = [Wire(gateway) for _ in range(60)]
    for wire in wires:
        wire.send(post("slow", turns(50_000)))
    replies = [wire.read() for wire in wires]
    answered = [reply for reply in replies if not refused(reply)]
    assert {reply.status for reply in answered} == {200}
    assert len(answered) >= INFLIGHT
    for wire in wires:
        wire.close()
    assert not full(gateway)


def test_http_client_sees_retry_after_and_the_reason(gateway: GatewayProcess) -> None:
    with held(gateway, "stuck", INFLIGHT):
        answer: Any = httpx.post(f"{gateway.url}/v2/models/doubling/infer", json=row())
        assert (answer.status_code, answer.headers["retry-after"], "in flight" in answer.text) == (503, "1", True)
