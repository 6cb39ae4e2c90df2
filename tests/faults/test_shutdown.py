"""On SIGTERM the gateway answers requests in progress, accepts nothing new, and exits with 0."""

import contextlib
import gzip
import json
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.faults.test_overload import FOR_EVER, LONG_TURNS, full, until
from tests.processes.flawed import metric
from tests.running import STOPPED_WITHIN_S, GatewayProcess
from tests.wire import SMALL_BODY, Reply, Wire, doubled, get, looping_models, post, row, turns

pytestmark = pytest.mark.slow

INFLIGHT = 4
IN_FLIGHT_TURNS = 3 * LONG_TURNS  # until the metrics show it and the signal has reached the workers
DEADLINE_US = 20_000_000  # of a run that never ends by itself
AT_ONCE_S = 2.0
Start = Callable[..., GatewayProcess]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return looping_models(tmp_path_factory.mktemp("shutdown"), "slow")


@pytest.fixture
def start(models: Path, tmp_path: Path) -> Iterator[Start]:
    """A function that starts a gateway; whatever is still running at the end is killed."""
    with contextlib.ExitStack() as stack:

        def started(**server: Any) -> GatewayProcess:
            limits = {"inflight": INFLIGHT, "timeout": "60s"}
            gateway = GatewayProcess(tmp_path, models, server=server, limits=limits).__enter__()
            assert gateway.process is not None
            stack.callback(gateway.process.wait)
            stack.callback(gateway.process.kill)
            return gateway

        yield started


def send_signal(gateway: GatewayProcess, number: int) -> None:
    assert gateway.process is not None
    gateway.process.send_signal(number)


def ends(gateway: GatewayProcess, within_s: float = STOPPED_WITHIN_S) -> int | None:
    """The exit code; None where it has not ended in time."""
    assert gateway.process is not None
    with contextlib.suppress(subprocess.TimeoutExpired):
        return gateway.process.wait(within_s)
    return None


def takes_nothing_new(gateway: GatewayProcess) -> bool:
    """Whether a load balancer would notice: the gateway is not ready, or refuses connections."""
    try:
        return httpx.get(f"{gateway.url}/v2/health/ready").status_code == 503
    except httpx.TransportError:
        return True


def is_closed(gateway: GatewayProcess) -> bool:
    """Whether it no longer listens: from then on, every answer is the last of its connection."""
    try:
        Wire(gateway).close()
    except ConnectionRefusedError:
        return True
    return False


def counted(reply: Reply, count: int) -> bool:
    return reply.status == 200 and reply.document["outputs"][0]["data"] == [count]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_requests_in_flight_are_answered(start: Start, number: int) -> None:
    gateway = start()
    idle = Wire(gateway)
    assert idle.send(get("/v2")).read().status == 200
    wires = [Wire(gateway).send(post("slow", turns(IN_FLIGHT_TURNS)))]
    wires += [Wire(gateway).send(post("slow", turns(5), pad=pad)) for pad in (0, 0, 2 * SMALL_BODY)]
    until(lambda: metric(gateway, "gateway_inflight_requests") == INFLIGHT, "all of them in flight")
    send_signal(gateway, number)
    until(lambda: takes_nothing_new(gateway), "the gateway to take nothing new")
    assert idle.ended(), "a connection on which nothing is asked is closed"
    for wire, count in zip(wires, (IN_FLIGHT_TURNS, 5, 5, 5), strict=True):
        reply = wire.read()
        assert counted(reply, count)
        assert reply.headers["connection"] == "close"
        assert wire.ended()
        wire.close()
    idle.close()
    assert ends(gateway) == 0
    assert "Traceback" not in gateway.log


def test_pipelined_requests_are_answered_and_readiness_is_refused(start: Start) -> None:
    gateway = start()
    with Wire(gateway) as wire:
        wire.send(post("slow", turns(LONG_TURNS)) + post("slow", turns(3)) + get("/v2/health/ready"))
        with Wire(gateway) as other:
            assert other.send(doubled(1)).read().status == 200, "the requests before have arrived too"
        gateway.terminate()
        until(lambda: is_closed(gateway), "the gateway to listen no longer")
        assert counted(wire.read(), LONG_TURNS)
        assert counted(wire.read(), 3)
        reply = wire.read()
        assert (reply.status, reply.headers["retry-after"], reply.headers["connection"]) == (503, "1", "close")
        assert "shutting down" in reply.document["error"]
        assert wire.ended()
    assert ends(gateway) == 0


COMPRESSED = post("doubling", gzip.compress(json.dumps({**row(), "id": "7"}).encode()), "Content-Encoding: gzip")


@pytest.mark.parametrize("begun", [-5, 150, 20], ids=["most of it", "little of it", "half a head"])
@pytest.mark.parametrize(
    "request_", [doubled(7), doubled(7, pad=4 * SMALL_BODY), COMPRESSED], ids=["short", "large", "compressed"]
)
def test_partly_received_request_is_answered(start: Start, request_: bytes, begun: int) -> None:
    """Whether it is short, large or compressed may become known only after the shutdown began."""
    gateway = start()
    with Wire(gateway) as wire:
        wire.send(doubled(6)).read()
        wire.send(request_[:begun])
        with Wire(gateway) as other:
            assert other.send(doubled(1)).read().status == 200, "the half before has arrived too"
        gateway.terminate()
        until(lambda: is_closed(gateway), "the gateway to listen no longer")
        reply = wire.send(request_[begun:]).read()
        assert (reply.document["id"], reply.headers["connection"]) == ("7", "close")
    assert ends(gateway) == 0


def test_request_behind_the_last_answer_of_a_connection_is_not_predicted(start: Start) -> None:
    gateway = start()
    request = doubled(7)
    with Wire(gateway) as wire:
        wire.send(doubled(6)).read()
        wire.send(request[:-5])
        with Wire(gateway) as other:
            assert other.send(get("/v2")).read().status == 200, "the half before has arrived too"
        gateway.terminate()
        until(lambda: is_closed(gateway), "the gateway to listen no longer")
        assert wire.send(request[-5:] + doubled(8)).read().headers["connection"] == "close"
        assert wire.ended()
    assert ends(gateway) == 0
    (recorded,) = (gateway.config.parent / "state" / "records").glob("predictions-*")
    assert [json.loads(line)["request"]["id"] for line in recorded.read_text().splitlines()] == ["6", "7"]


Begin = Callable[[GatewayProcess], AbstractContextManager[object]]


@contextlib.contextmanager
def half_begun(gateway: GatewayProcess) -> Iterator[None]:
    with Wire(gateway) as wire:
        wire.send(doubled(6)).read()
        wire.send(doubled(7)[:-5])
        yield


@contextlib.contextmanager
def endless(gateway: GatewayProcess) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for _ in range(INFLIGHT):
            stack.enter_context(Wire(gateway)).send(post("slow", turns(FOR_EVER, timeout=DEADLINE_US)))
        until(lambda: full(gateway), "the endless run to have begun")
        yield


BEGIN = [pytest.param(half_begun, id="half a body"), pytest.param(endless, id="a run")]


@pytest.mark.parametrize("begin", BEGIN)
def test_second_signal_ends_the_gateway_at_once(start: Start, begin: Begin) -> None:
    gateway = start(drain="60s")
    with begin(gateway):
        gateway.terminate()
        until(lambda: takes_nothing_new(gateway), "the gateway to take nothing new")
        assert ends(gateway, 0.2) is None, "told once it waits"
        gateway.terminate()
        assert ends(gateway, AT_ONCE_S) is not None


@pytest.mark.parametrize("begin", BEGIN)
def test_shutdown_takes_no_longer_than_the_drain_setting(start: Start, begin: Begin) -> None:
    gateway = start(drain="1s")
    with begin(gateway):
        gateway.terminate()
        assert ends(gateway, 1 + AT_ONCE_S) is not None


def test_idle_gateway_ends_at_once_and_frees_its_port(start: Start, models: Path, tmp_path: Path) -> None:
    gateway = start()
    with Wire(gateway) as wire:
        assert wire.send(get("/v2")).read().status == 200
        gateway.terminate()
        assert ends(gateway) == 0
    assert "Traceback" not in gateway.log
    again = GatewayProcess(tmp_path / "again", models, server={"port": gateway.port})
    again.port, again.url = gateway.port, gateway.url
    with again, Wire(again) as wire:
        assert wire.send(doubled(2)).read().document["id"] == "2"
