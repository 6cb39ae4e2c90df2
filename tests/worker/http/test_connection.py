"""HTTP connections over raw sockets: however requests are split, joined or encoded, each gets its own answer."""

import gzip
import json
from pathlib import Path

import pytest

from tests.running import GatewayProcess
from tests.wire import KEEP_ALIVE_S, SMALL_BODY, Wire, chunked, doubled, get, post, row, turns

GZIPPED = post("doubling", gzip.compress(json.dumps(row()).encode()), "Content-Encoding: gzip")
CHUNKED = (
    b"POST /v2/models/doubling/infer HTTP/1.1\r\nHost: gateway\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in json.dumps(row()).encode().partition(b"data"))
    + b"0\r\n\r\n"
)
# a request, its status, and what its answer must contain: each takes another path through the gateway
MIX: list[tuple[bytes, int, bytes]] = [
    (doubled(7), 200, b'"id":"7"'),
    (get("/v2"), 200, b'"canary-gateway"'),
    (post("looping", turns(30_000)), 200, b"[30000]"),
    (doubled(8), 200, b'"id":"8"'),
    (GZIPPED, 200, b"[2.0,4.0]"),
    (post("nothing", row()), 404, b"'nothing'"),
    (get("/v2/models/doubling"), 200, b'"platform"'),
    (CHUNKED, 200, b"[2.0,4.0]"),
    (post("doubling", b"{"), 400, b"JSON"),
    (post("looping", turns(10)), 200, b"[10]"),
    (get("/nothing"), 404, b"/v2"),
    (doubled(9, pad=SMALL_BODY + 1), 200, b'"id":"9"'),
    (get("/v2/models/doubling/infer"), 405, b"POST"),
    (doubled(10), 200, b'"id":"10"'),
]


def check(wire: Wire, mix: list[tuple[bytes, int, bytes]]) -> None:
    for request, status, part in mix:
        reply = wire.read()
        assert (reply.status, part in reply.body) == (status, True), (request[:60], reply)


def test_pipelined_predictions_are_answered_in_order(wire: Wire) -> None:
    wire.send(b"".join(doubled(number) for number in range(100)))
    assert [wire.read().document["id"] for _ in range(100)] == [str(number) for number in range(100)]


def test_start_of_the_next_head_behind_a_large_body_is_read_correctly(wire: Wire) -> None:
    """On the first request of a connection and on a later one."""
    for number in range(2):
        large, following = doubled(number, pad=2 * SMALL_BODY), doubled(number + 10)
        wire.send(large + following[:10])
        assert wire.read().document["id"] == str(number)
        wire.send(following[10:])
        assert wire.read().document["id"] == str(number + 10)


@pytest.mark.parametrize("mix", [MIX, MIX[::-1], MIX[2:] + MIX[:2]], ids=["one way", "the other way", "slow first"])
def test_pipelined_requests_of_all_kinds_are_answered_in_order(wire: Wire, mix: list[tuple[bytes, int, bytes]]) -> None:
    wire.send(b"".join(request for request, _, _ in mix))
    check(wire, mix)


def test_requests_sent_one_byte_at_a_time_are_answered(wire: Wire) -> None:
    small = [case for case in MIX if len(case[0]) < SMALL_BODY]
    wire.send(*(bytes([byte]) for request, _, _ in small for byte in request))
    check(wire, small)


def test_requests_split_at_any_place_are_answered(wire: Wire) -> None:
    three = [MIX[0], MIX[2], MIX[3]]
    stream = b"".join(request for request, _, _ in three)
    for cut in range(1, len(stream), 31):
        wire.send(stream[:cut], stream[cut:])
        check(wire, three)


def test_many_requests_on_one_connection_are_answered(wire: Wire) -> None:
    for number in range(500):
        assert wire.send(doubled(number)).read().document["id"] == str(number)


@pytest.mark.parametrize(("request_", "status", "part"), MIX, ids=[f"{case[0][:40]!r}" for case in MIX])
def test_connection_stays_usable_after_any_answer(wire: Wire, request_: bytes, status: int, part: bytes) -> None:
    for _ in range(2):
        check(wire.send(request_), [(request_, status, part)])
        assert wire.send(doubled(3)).read().document["id"] == "3"


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("kind", ["prediction", "slow prediction", "large prediction", "error", "metadata"])
def test_connection_is_closed_where_the_client_asks_for_it(wire: Wire, kind: str, version: str) -> None:
    closing = ["Connection: close"] if version == "1.1" else []
    request = {
        "prediction": post("doubling", row(), *closing, version=version),
        "slow prediction": post("looping", turns(30_000), *closing, version=version),
        "large prediction": post("doubling", row(), *closing, version=version, pad=2 * SMALL_BODY),
        "error": post("nothing", row(), *closing, version=version),
        "metadata": get("/v2", *closing, version=version),
    }[kind]
    reply = wire.send(request).read()
    assert (reply.status, reply.headers["connection"]) == (404 if kind == "error" else 200, "close")
    assert wire.ended()


def test_expect_100_continue_is_confirmed(wire: Wire) -> None:
    head, _, body = post("doubling", row(), "Expect: 100-continue").partition(b"\r\n\r\n")
    assert wire.send(head + b"\r\n\r\n").read().status == 100
    reply = wire.send(body).read()
    assert (reply.status, reply.document["outputs"][0]["data"]) == (200, [2, 4])
    assert wire.send(doubled(5)).read().document["id"] == "5"


def test_expect_100_continue_for_a_too_large_body_is_refused(wire: Wire) -> None:
    head, _, _ = doubled(pad=1024 * 1024 + 1).partition(b"\r\n\r\n")
    reply = wire.send(head + b"\r\nExpect: 100-continue\r\n\r\n").read()
    assert (reply.status, reply.headers["connection"]) == (413, "close")
    assert wire.ended()


@pytest.mark.parametrize("pad", [0, SMALL_BODY, 2 * SMALL_BODY])
def test_trailer_is_not_read_as_a_header(wire: Wire, pad: int) -> None:
    """Otherwise a client could replace headers that a proxy sets or checks."""
    reply = wire.send(chunked("Inference-Header-Content-Length: 0", "Content-Encoding: br", pad=pad)).read()
    assert (reply.status, reply.document["outputs"][0]["data"]) == (200, [2, 4])
    assert wire.send(doubled(4)).read().document["id"] == "4"


def test_error_with_connection_close_closes_the_connection(gateway: GatewayProcess, tmp_path: Path) -> None:
    records = {"ring": SMALL_BODY, "when_full": "refuse"}
    with GatewayProcess(tmp_path, gateway.config.parent / "models", records=records) as strict, Wire(strict) as wire:
        reply = wire.send(doubled(pad=SMALL_BODY - 1)).read()
        assert (reply.status, reply.headers["connection"]) == (413, "close")
        wire.socket.settimeout(KEEP_ALIVE_S / 2)
        assert wire.ended(), "at once, not only once it has been idle for long"


@pytest.mark.parametrize("size", [SMALL_BODY - 1, SMALL_BODY, SMALL_BODY + 1, 3 * SMALL_BODY, 1024 * 1024])
def test_bodies_around_the_size_of_the_fast_path_are_answered(wire: Wire, size: int) -> None:
    large = doubled(1, pad=size)
    for packets in ([large, doubled(2)], [large[:-1], large[-1:] + doubled(2)], [large + doubled(2)]):
        wire.send(*packets)
        assert [wire.read().document["id"] for _ in range(2)] == ["1", "2"]


def test_too_large_body_is_refused_and_the_connection_closed(wire: Wire) -> None:
    reply = wire.send(doubled(pad=1024 * 1024 + 1)).read()
    assert (reply.status, reply.headers["connection"], "max_body" in reply.document["error"]) == (413, "close", True)
    assert wire.ended()


@pytest.mark.parametrize("nonsense", [b"nonsense\r\n\r\n", b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n"])
def test_data_that_is_not_http_is_refused_and_the_connection_closed(wire: Wire, nonsense: bytes) -> None:
    assert wire.send(nonsense).read().status == 400
    assert wire.ended()


def test_max_body_below_the_size_of_the_fast_path_is_enforced(gateway: GatewayProcess, tmp_path: Path) -> None:
    models = gateway.config.parent / "models"
    with GatewayProcess(tmp_path, models, server={"max_body": "1KiB"}) as strict, Wire(strict) as wire:
        assert wire.send(doubled(pad=1024)).read().status == 200
        assert wire.send(doubled(pad=1025)).read().status == 413
