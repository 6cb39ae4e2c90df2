"""Clients that disconnect midway: others do not notice, and every slot is freed."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.test_overload import FOR_EVER, LONG_TURNS, ask, full, held, until
from tests.running import GatewayProcess
from tests.wire import SMALL_BODY, Wire, doubled, get, looping_models, post, row, turns

INFLIGHT = 4
LATE_US = 60_000_000
Leave = Callable[[Wire], None]
LEAVING: list[Leave] = [Wire.close, Wire.reset]
CHUNKED = b"POST /v2/models/doubling/infer HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder: Path = tmp_path_factory.mktemp("disconnects")
    models = looping_models(folder / "models", "slow", "stuck")
    with GatewayProcess(folder, models, limits={"inflight": INFLIGHT, "timeout": "60s"}) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """A second gateway, whose log may contain tracebacks."""
    folder: Path = tmp_path_factory.mktemp("pipelined-disconnects")
    models = looping_models(folder / "models", "slow", "stuck")
    with GatewayProcess(folder, models, limits={"inflight": INFLIGHT, "timeout": "60s"}) as gateway:
        yield gateway


def every_slot_is_free(gateway: GatewayProcess) -> bool:
    """Whether as many requests as allowed can still be in flight: with a slot lost, the last would be refused."""
    wires = [Wire(gateway).send(post("slow", turns(1, timeout=LATE_US))) for _ in range(INFLIGHT)]
    statuses = [wire.read().status for wire in wires]
    for wire in wires:
        wire.close()
    return statuses == [200] * INFLIGHT


@pytest.mark.parametrize("leave", LEAVING)
def test_slots_of_disconnected_clients_are_freed(gateway: GatewayProcess, leave: Leave) -> None:
    for _ in range(5):
        with held(gateway, "stuck", INFLIGHT) as wires:
            for wire in wires:
                leave(wire)
            until(lambda: not full(gateway), "a slot to be free again")
    until(lambda: every_slot_is_free(gateway), "every slot to be free again")


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("pad", [0, 2 * SMALL_BODY], ids=["short", "large"])
def test_client_that_disconnects_during_its_run_frees_its_slot(gateway: GatewayProcess, leave: Leave, pad: int) -> None:
    """The next in the queue is answered when the abandoned run ends, at its deadline at the latest."""
    with Wire(gateway) as other:
        gone = Wire(gateway).send(post("slow", turns(LONG_TURNS // 4, timeout=LATE_US), pad=pad))
        other.send(post("slow", turns(4, timeout=LATE_US)))
        assert ask(gateway, doubled(1)).document["id"] == "1", "another model does not wait"
        leave(gone)
        assert other.read().document["outputs"][0]["data"] == [4]
    until(lambda: every_slot_is_free(gateway), "every slot to be free again")


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize("pad", [0, 2 * SMALL_BODY], ids=["short", "large"])
def test_client_that_disconnects_while_queued_frees_its_slot(gateway: GatewayProcess, leave: Leave, pad: int) -> None:
    with Wire(gateway) as running, Wire(gateway) as behind:
        running.send(post("slow", turns(LONG_TURNS // 5, timeout=LATE_US)))
        gone = Wire(gateway).send(post("slow", turns(5, timeout=LATE_US), pad=pad))
        behind.send(post("slow", turns(6, timeout=LATE_US)))
        leave(gone)
        assert running.read().document["outputs"][0]["data"] == [LONG_TURNS // 5]
        assert behind.read().document["outputs"][0]["data"] == [6]
    until(lambda: every_slot_is_free(gateway), "every slot to be free again")


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize(
    "half",
    [
        b"POST /v2/mod",
        post("doubling", row()).partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
        post("doubling", row())[:-5],
        post("doubling", row(), pad=4 * SMALL_BODY)[:-5],
        post("doubling", row(), pad=4 * SMALL_BODY)[: SMALL_BODY // 2],
        post("doubling", row(), "Content-Encoding: gzip")[:-5],
        post("doubling", row(), "Expect: 100-continue").partition(b"\r\n\r\n")[0] + b"\r\n\r\n",
        CHUNKED,
        CHUNKED + b"40\r\nabc",
        CHUNKED + b"%x\r\n%s\r\n" % (2 * SMALL_BODY, b" " * 2 * SMALL_BODY),
        doubled(1) + doubled(2)[:-5],
        post("slow", turns(10_000)) + doubled(2)[:-5],
        get("/v2") * 3 + b"POST /v2/repository/index HTTP/1.1\r\nHost: g\r\nContent-Length: 9\r\n\r\n{",
    ],
    ids=[
        "request line",
        "head",
        "short body",
        "large body",
        "large body's beginning",
        "compressed",
        "expecting",
        "chunked head",
        "chunk",
        "chunked and large",
        "pipelined",
        "pipelined behind a slow one",
        "other paths",
    ],
)
def test_client_that_disconnects_within_a_request_frees_its_slot(
    gateway: GatewayProcess, half: bytes, leave: Leave
) -> None:
    for _ in range(INFLIGHT + 1):
        leave(Wire(gateway).send(half))
    until(lambda: every_slot_is_free(gateway), "every slot to be free again")


def test_partial_short_body_holds_no_slot(gateway: GatewayProcess) -> None:
    request = doubled(3)
    wires = [Wire(gateway).send(request[:-5]) for _ in range(3 * INFLIGHT)]
    assert every_slot_is_free(gateway)
    for wire in wires:
        assert wire.send(request[-5:]).read().document["id"] == "3"
        wire.close()


@pytest.mark.parametrize("leave", LEAVING)
@pytest.mark.parametrize(
    "first",
    [post("slow", turns(100_000)), post("slow", turns(100_000), pad=2 * SMALL_BODY), get("/v2")],
    ids=["slow", "slow and large", "metadata"],
)
def test_client_that_disconnects_with_pipelined_requests_frees_its_slots(
    second: GatewayProcess, first: bytes, leave: Leave
) -> None:
    large = post("doubling", row(), pad=2 * SMALL_BODY)
    for _ in range(INFLIGHT + 1):
        leave(Wire(second).send(first + doubled(1) + large + get("/v2/models/slow")))
    until(lambda: every_slot_is_free(second), "every slot to be free again")


def test_disconnect_with_pipelined_requests_logs_no_error(second: GatewayProcess) -> None:
    def answered() -> int:
        (entry,) = ask(second, get("/v2/models/slow/stats")).document["model_stats"]
        count: int = entry["inference_stats"]["success"]["count"]
        return count

    logged, before = len(second.log), answered()
    Wire(second).send(post("slow", turns(100_000)) + doubled(1) + doubled(2)).close()
    until(lambda: answered() > before, "the first of them to be over")
    assert [ask(second, doubled(3)).status for _ in range(50)] == [200] * 50, "and by now the others too"
    assert "Traceback" not in second.log[logged:]


def test_run_of_a_disconnected_client_is_terminated(second: GatewayProcess) -> None:
    Wire(second).send(post("stuck", turns(FOR_EVER, timeout=20_000_000))).close()
    assert ask(second, post("stuck", turns(2, timeout=10_000_000))).status == 200


def test_endless_run_of_a_disconnected_client_ends_at_its_deadline(gateway: GatewayProcess) -> None:
    """The run never ends by itself: the deadline ends it although its client is gone."""
    Wire(gateway).send(post("stuck", turns(FOR_EVER, timeout=100_000))).close()
    assert ask(gateway, post("stuck", turns(2, timeout=LATE_US))).status == 200


def test_client_that_does_not_read_its_answers_does_not_delay_others(gateway: GatewayProcess) -> None:
    """Its answers fill the connection's buffers; others are served all the same."""
    with Wire(gateway) as deaf:
        deaf.socket.setblocking(False)
        stream = memoryview(get("/v2/models/stats") * 20_000)
        sent = 0
        while sent < len(stream):
            try:
                sent += deaf.socket.send(stream[sent : sent + SMALL_BODY])
            except BlockingIOError:
                break
        assert [ask(gateway, doubled(number)).document["id"] for number in range(20)] == [str(n) for n in range(20)]
    until(lambda: every_slot_is_free(gateway), "every slot to be free again")
