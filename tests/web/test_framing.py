"""Where a request ends: upgrade offers are ignored, unknown transfer codings refused, on both planes.

A body must never be taken for a further request, however the packets are split."""

import json
import random
import socket
from collections.abc import Iterator

import pytest

from tests.running import GatewayProcess
from tests.wire import Reply, Wire, chunked, doubled, get, post, row, turns

JAVA = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA"
OFFERS = [
    JAVA,
    "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAA==",
    "cOnNeCtIoN: uPgRaDe\r\nuPgRaDe: TLS/1.0",
    "Upgrade: HTTP/2.0, SHTTP/1.3, IRC/6.9, RTA/x11\r\nConnection: keep-alive, Upgrade",
    "Connection: keep-alive\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nUpgrade: websocket",
    "Upgrade: \r\nConnection: upgrade",
    "Upgrade: h2c",
    "Connection: Upgrade",
]
HIDDEN = get("/v2/models/hidden")  # what must not be executed
FUZZED = 60
INFER = b"POST /v2/models/doubling/infer HTTP/1.1\r\nHost: gateway\r\n"


@pytest.fixture
def control(gateway: GatewayProcess) -> Iterator[Wire]:
    with Wire(gateway, int(gateway.control_url.rpartition(":")[2])) as wire:
        yield wire


def offered(request: bytes, offer: str) -> bytes:
    line, _, rest = request.partition(b"\r\n")
    return b"%b\r\n%b\r\n%b" % (line, offer.encode(), rest)


def answered(reply: Reply, number: int) -> None:
    assert (reply.status, reply.document["id"], reply.document["outputs"][0]["data"]) == (200, str(number), [2, 4])


@pytest.mark.parametrize("pad", [0, 200_000])
@pytest.mark.parametrize("offer", OFFERS)
def test_upgrade_offer_is_ignored(wire: Wire, offer: str, pad: int) -> None:
    request = offered(doubled(1, pad=pad), offer)
    head, end, body = request.partition(b"\r\n\r\n")
    for packets in ([request], [head + end, body], [head + end + body[:5], body[5:]], [head, end + body]):
        answered(wire.send(*packets).read(), 1)
    wire.send(request + doubled(2) + request + offered(get("/v2"), offer) + doubled(3))
    answered(wire.read(), 1)
    answered(wire.read(), 2)
    answered(wire.read(), 1)
    assert wire.read().document["name"] == "canary-gateway"
    answered(wire.read(), 3)


def test_upgrade_offer_with_chunks_or_expect_100_continue_is_ignored(wire: Wire) -> None:
    assert wire.send(offered(chunked("X-Trailer: a"), JAVA)).read().status == 200
    head, end, body = offered(post("doubling", row(), "Expect: 100-continue"), JAVA).partition(b"\r\n\r\n")
    assert wire.send(head + end).read().status == 100
    assert wire.send(body).read().document["outputs"][0]["data"] == [2, 4]
    answered(wire.send(doubled(4)).read(), 4)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_upgrade_offer_with_connection_close_is_ignored(wire: Wire, version: str) -> None:
    request = offered(
        post("doubling", row(), "Connection: close", version=version), "Connection: upgrade\r\nUpgrade: x"
    )
    reply = wire.send(request).read()
    assert (reply.status, reply.headers["connection"]) == (200, "close")
    assert wire.ended()


@pytest.mark.parametrize("offer", OFFERS)
def test_body_with_an_upgrade_offer_is_not_read_as_a_request(wire: Wire, offer: str) -> None:
    for request in (post("doubling", HIDDEN), post("doubling", HIDDEN, pad=70_000)):
        head, end, body = offered(request, offer).partition(b"\r\n\r\n")
        for packets in ([head + end + body], [head + end, body]):
            reply = wire.send(*packets).read()
            assert (reply.status, "JSON" in reply.document["error"]) == (400, True)
        answered(wire.send(doubled(5)).read(), 5)


def test_upgrade_offer_on_the_control_plane_is_ignored(control: Wire) -> None:
    stop = b"POST /api/releases/nothing/stop HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    request = offered(stop + b"Content-Length: %d\r\n\r\n" % len(HIDDEN), JAVA)
    assert control.send(request, HIDDEN).read().status in (400, 404)
    assert (
        control.send(offered(get("/health").replace(b"Host: gateway", b"Host: 127.0.0.1"), JAVA)).read().status == 200
    )


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n", 501),
        (b"CONNECT /v2 HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabc", 501),
        (b"CONNECT g:1 HTTP/1.1\r\nHost: g\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", 501),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (b"GET /v2 HTTP/2.0\r\nHost: g\r\n\r\n", 505),
        (doubled(1, version="2.0"), 505),
        (INFER + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        (INFER + b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501),
        (INFER + b"Transfer-Encoding: identity, Chunked\r\n\r\n0\r\n\r\n", 501),
        (offered(INFER + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", JAVA), 501),
        (INFER + b"Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n", 400),
        (INFER + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (INFER + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400),
        (INFER + b"Transfer-Encoding: identity\r\n\r\n0\r\n\r\n", 400),
        (INFER + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400),
        (INFER + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 400),
        (INFER + b"Content-Length: 5\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
        (INFER.replace(b"1.1", b"1.0") + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (INFER + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\n     ", 400),
        (INFER + b"X-Folded: a\r\n b\r\nContent-Length: 0\r\n\r\n", 400),
        (INFER + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFF\r\n", 400),
        (INFER + b"Transfer-Encoding: chunked\r\n\r\n-1\r\n", 400),
    ],
)
def test_request_with_an_ambiguous_end_is_refused_and_closed(
    wire: Wire, control: Wire, request_: bytes, status: int
) -> None:
    for plane in (wire, control):
        reply = plane.send(request_ + HIDDEN).read()
        assert (reply.status, reply.headers["connection"], reply.document.keys()) == (status, "close", {"error"})
        assert plane.ended()


@pytest.mark.parametrize("bad", [b"CONNECT g:1 HTTP/1.1\r\n\r\n", b"nonsense\r\n\r\n", chunked()[:-5] + b"x\r\n"])
def test_refusal_is_sent_after_the_answers_before_it(wire: Wire, bad: bytes) -> None:
    """Otherwise it would be taken for the answer to a request that is still running."""
    wire.send(post("looping", turns(30_000)) + doubled(6) + bad + doubled(7))
    assert wire.read().document["outputs"][0]["data"] == [30_000]
    answered(wire.read(), 6)
    reply = wire.read()
    assert (reply.status in (400, 501), reply.headers["connection"]) == (True, "close")
    assert wire.ended()


def some_requests(chance: random.Random, count: int) -> tuple[bytes, list[int | None]]:
    """Requests of all kinds, one behind the other; the ids of their answers, None where there is none."""
    stream, wanted = b"", list[int | None]()
    for number in range(count):
        request = chance.choice([doubled(number), doubled(number, pad=70_000), chunked(), get("/v2")])
        if chance.random() < 0.6:
            request = offered(request, chance.choice(OFFERS))
        stream += request
        wanted.append(number if b'"id"' in request else None)
    return stream, wanted


@pytest.mark.parametrize("seed", range(FUZZED))
def test_requests_split_at_random_get_their_own_answers(gateway: GatewayProcess, seed: int) -> None:
    chance = random.Random(seed)
    stream, wanted = some_requests(chance, 8)
    size = chance.choice([40, 400, 40_000])
    with Wire(gateway) as wire:
        while stream:
            cut = chance.randint(1, size)
            wire.send(stream[:cut])
            stream = stream[cut:]
        for number in wanted:
            reply = wire.read()
            assert reply.status == 200
            assert reply.document.get("id") == (None if number is None else str(number))
        wire.socket.shutdown(socket.SHUT_WR)
        assert wire.ended()


def test_requests_sent_byte_by_byte_are_answered(wire: Wire) -> None:
    stream = b"".join(offered(doubled(number), offer) for number, offer in enumerate(OFFERS))
    wire.send(*(bytes([byte]) for byte in stream))
    for number in range(len(OFFERS)):
        answered(wire.read(), number)


def test_absolute_form_targets_are_accepted(wire: Wire) -> None:
    assert wire.send(get("http://gateway/v2")).read().document["name"] == "canary-gateway"
    request = doubled(8).replace(b"/v2/models", b"http://gateway:8000/v2/models")
    answered(wire.send(request).read(), 8)


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("POST", "//v2/models/doubling/infer", 404, ["//v2/models/doubling/infer is not served", "two slashes"]),
        ("POST", "/v2//models/doubling/infer", 404, ["two slashes"]),
        ("POST", "/v2/models//infer", 404, ["two slashes", "name is missing"]),
        ("GET", "/v2/models//ready", 404, ["two slashes"]),
        ("GET", "//", 404, ["two slashes"]),
        ("POST", "/v2/models/doubling/infer/", 404, ["ends in a slash", "/v2/models/doubling/infer does not"]),
        ("POST", "/V2/models/doubling/infer", 404, ["small letters"]),
        ("POST", "/v1/models/doubling:predict", 404, ["V1", "POST /v2/models/doubling/infer"]),
        ("GET", "/v1/models/doubling", 404, ["V1", "/v2/models/doubling/infer"]),
        ("POST", "/nothing/infer", 404, ["/nothing/infer is not served", "/openapi.json"]),
        ("GET", "/v2/models/doubling/predict", 404, ["doubling", "POST …/infer"]),
        ("POST", "/v2/models/doubling/generate", 404, ["generate extension"]),
        ("GET", "/v2/systemsharedmemory/status", 404, ["shared memory"]),
        ("POST", "/v2/cudasharedmemory/region/a/register", 404, ["shared memory"]),
        ("GET", "/v2/trace/setting", 404, ["trace settings"]),
        ("GET", "/v2/models/doubling/trace/setting", 404, ["trace settings"]),
        ("GET", "/v2/logging", 404, ["log settings"]),
        ("GET", "/metrics", 404, ["control plane"]),
        ("GET", "/v2/models/doubling/infer", 405, ["POST, not for GET"]),
        ("DELETE", "/v2/models/doubling", 405, ["GET, HEAD, not for DELETE"]),
        ("OPTIONS", "/v2", 405, ["not for OPTIONS"]),
    ],
)
def test_unknown_path_or_method_is_refused_with_the_reason(
    wire: Wire, method: str, path: str, status: int, says: list[str]
) -> None:
    reply = wire.send(f"{method} {path} HTTP/1.1\r\nHost: g\r\nContent-Length: 0\r\n\r\n".encode()).read()
    assert reply.status == status
    assert [part for part in says if part not in json.loads(reply.body)["error"]] == []
    assert ("allow" in reply.headers) is (status == 405)
    answered(wire.send(doubled(9)).read(), 9)
