"""Malicious requests: against files, headers and logs, memory, and the time of others."""

import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.processes.flawed import workers
from tests.running import GatewayProcess
from tests.security.guarded import INFER, Guarded, bearer, document
from tests.wire import Wire, get

MIB = 2**20
PATIENCE_S = 5.0  # of the gateway: limits.timeout is 2 s, and keep-alive 5 s
CONTROL = "the control plane's headers"
CONTROL_PATIENCE_S = 10.0
TRAVERSALS = [
    "..",
    "../flawed",
    "..%2fflawed",
    "..%2f..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e",
    "%2e%2e%2fflawed",
    "..%5cflawed",
    "%252e%252e%252fflawed",
    "/etc/passwd",
    "%00",
    "flawed%00",
    ".",
    "flawed%2f1",
    "~root",
    "flawed/../flawed",
]


def raw(gateway: GatewayProcess, method: str, path: str, body: bytes = b"", *headers: str) -> tuple[int, bytes]:
    """Send the path as it is, without a client library that would normalise it."""
    head = "\r\n".join(
        [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}", *headers, "", ""]
    )
    with Wire(gateway) as wire:
        reply = wire.send(head.encode("latin-1") + body).read()
    return reply.status, reply.body


@pytest.mark.parametrize("name", TRAVERSALS)
def test_hostile_name_in_a_path_never_reaches_a_file(running: Guarded, name: str) -> None:
    key = f"Authorization: Bearer {running.keys['all']}"
    for method, path, body in (
        ("POST", f"/v2/models/{name}/infer", document()),
        ("POST", f"/v2/models/flawed/versions/{name}/infer", document()),
        ("GET", f"/v2/models/{name}", b""),
        ("GET", f"/v2/models/flawed/versions/{name}", b""),
        ("GET", f"/v2/models/{name}/stats", b""),
        ("POST", f"/v2/repository/models/{name}/load", b""),
        ("POST", f"/v2/repository/models/{name}/unload", b""),
    ):
        status, answer = raw(running.gateway, method, path, body, key)
        assert status in (400, 404, 405), (path, answer)
        assert json.loads(answer).keys() == {"error"}
        assert b"root:" not in answer
        status, _ = raw(running.gateway, method, path, body)
        assert status == 401, f"{path} must not be a way around the key"


def test_malformed_version_in_a_path_is_answered_404(running: Guarded) -> None:
    for version in ("0", "-1", "1.0", "01x", "\u0661", "9" * 400, "1e3", "0x1", " 1"):
        url = f"{running.gateway.url}/v2/models/flawed/versions/{version}/infer"
        assert running.ask("predictor", "POST", url, content=document()).status_code == 404, version


INJECTIONS = ["a%0d%0ax-evil: 1", "a%0ax-evil: 1", "%0d%0a%0d%0aHTTP/1.1 200 OK", "a%0a2026-01-01 CRITICAL forged line"]


@pytest.mark.parametrize("name", INJECTIONS)
def test_hostile_name_never_gets_into_headers_or_log_lines(running: Guarded, name: str) -> None:
    client = httpx.Client(headers=bearer(running.keys["all"]))
    with client:
        for url in (f"{running.gateway.url}/v2/models/{name}", f"{running.gateway.url}/{name}"):
            answer = client.get(url)
            assert (answer.status_code, "x-evil" in answer.headers) == (404, False)
        api = f"{running.gateway.control_url}/api/releases/{name}"
        for answer in (client.get(api), client.post(f"{api}/stop", json={"reason": "r"})):
            assert (answer.status_code, "x-evil" in answer.headers) == (404, False)
    assert not [line for line in running.gateway.log.splitlines() if line.startswith(("x-evil", "2026-01-01 CRITICAL"))]


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "\x1b[31mred", "a\x00b", "a\u2028b"])
def test_client_values_never_get_into_headers_or_log_lines(running: Guarded, value: str) -> None:
    stop = f"{running.gateway.control_url}/api/releases/flawed/stop"
    refused = running.ask("operator", "POST", stop, json={"reason": value})
    assert (refused.status_code, "one line" in refused.json()["error"]) == (400, True)
    answer = running.infer("predictor", json.dumps({"id": value, "inputs": json.loads(document())["inputs"]}).encode())
    assert (answer.status_code, answer.json()["id"], "x-evil" in answer.headers) == (200, value, False)
    assert running.infer("predictor", document(modality=value)).status_code == 200
    assert value not in running.gateway.log


@pytest.mark.parametrize("header", [b"x-customer-id: a\rb", b"x-customer-id: a\x00b", b"x-customer-id : a", b"\x01: a"])
def test_malformed_header_is_refused(running: Guarded, header: bytes) -> None:
    for gateway in (running.gateway,):
        with Wire(gateway) as wire:
            wire.send(
                b"POST " + INFER.encode() + b" HTTP/1.1\r\nHost: g\r\n" + header + b"\r\nContent-Length: 0\r\n\r\n"
            )
            assert wire.read().status in (400, 401)


@pytest.mark.parametrize(
    "framing",
    [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Content-Length: 5\r\nContent-Length: 6",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: xchunked",
        "Content-Length: +5",
        "Content-Length: 5, 5",
    ],
)
def test_ambiguous_body_length_is_refused(running: Guarded, framing: str) -> None:
    """It would allow request smuggling behind a proxy."""
    hidden = f"GET {INFER} HTTP/1.1\r\nHost: g\r\n\r\n"
    with Wire(running.gateway) as wire:
        wire.send(f"POST {INFER} HTTP/1.1\r\nHost: g\r\n{framing}\r\n\r\n0\r\n\r\n{hidden}".encode())
        assert wire.read().status == 400
        assert wire.ended()


def resident_mib(gateway: GatewayProcess) -> float:
    """The largest resident memory of any worker."""
    statuses = [Path(f"/proc/{pid}/status").read_text() for pid in workers(gateway)]
    return max(int(status.split("VmHWM:")[1].split()[0]) / 1024 for status in statuses)


def bomb(mib: int, wrap: Callable[[bytes], bytes]) -> bytes:
    return wrap(document() + b" " * (mib * MIB))


def deflated(data: bytes) -> bytes:
    return zlib.compress(data, 9)


def doubly(data: bytes) -> bytes:
    return gzip.compress(gzip.compress(data, 9), 9)


@pytest.mark.parametrize(
    ("encoding", "wrap"), [("gzip", gzip.compress), ("deflate", deflated), ("gzip, gzip", doubly), ("gzip", doubly)]
)
def test_decompression_bomb_is_refused_in_bounded_memory(
    running: Guarded, encoding: str, wrap: Callable[[bytes], bytes]
) -> None:
    """200 MiB in 200 KB."""
    body = bomb(200, wrap)
    assert len(body) < MIB / 2
    before = resident_mib(running.gateway)
    for _ in range(3):
        answer = running.infer("predictor", body, content_encoding=encoding)
        assert answer.status_code in (400, 413, 415), answer.text
    assert running.infer(None, body, content_encoding=encoding).status_code == 401
    assert resident_mib(running.gateway) - before < 40


def test_too_large_bodies_and_heads_are_refused(running: Guarded) -> None:
    assert running.infer("predictor", b" " * (MIB + 1)).status_code == 413
    chunked = running.ask("predictor", "POST", running.gateway.url + INFER, content=iter([b" " * MIB, b" " * MIB]))
    assert chunked.status_code == 413
    index = f"{running.gateway.url}/v2/repository/index"
    assert running.ask("reader", "POST", index, content=b" " * (MIB + 1)).status_code == 413
    api = f"{running.gateway.control_url}/api/releases/flawed/stop"
    json_header = {"content-type": "application/json"}
    assert running.ask("operator", "POST", api, content=b" " * 70_000, headers=json_header).status_code == 413
    assert running.infer("predictor", x_large="a" * MIB).status_code == 431
    assert raw(running.gateway, "GET", "/v2/" + "a" * MIB)[0] == 431


def test_deep_and_huge_documents_are_refused(running: Guarded) -> None:
    for body in (
        b"[" * 500_000,
        b'{"inputs":' * 50_000,
        b'{"inputs": [{"name": "x", "shape": [999999999999, 999999999999], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": [{"name": "x", "shape": [-1], "datatype": "FP32", "data": [1]}]}',
        b'{"inputs": ' + b"9" * 100_000 + b"}",
        b"\xff\xfe" * 1000,
    ):
        answer = running.infer("predictor", body)
        assert (answer.status_code, answer.json().keys()) == (400, {"error"})


def head(*lines: str) -> bytes:
    return "\r\n".join([f"POST {INFER} HTTP/1.1", "Host: g", *lines, "", ""]).encode()


def slow_requests(key: str) -> dict[str, tuple[list[bytes], bytes]]:
    """What a slow client has sent, and what it continues to send one byte at a time."""
    own = f"Authorization: Bearer {key}"
    index = head(own, "Content-Length: 400").replace(INFER.encode(), b"/v2/repository/index")
    answered = get("/v2", own)
    return {
        "nothing at all": ([], b""),
        "a request line": ([b"POST /v2/mod"], b"e" * 500),
        "headers": ([head(own)[:-2]], b"x-a: " + b"a" * 500),
        "a short body": ([head(own, "Content-Length: 400"), b"{"], b" " * 399),
        "a large body": ([head(own, "Content-Length: 200000"), b" " * 100_000], b" " * 500),
        "chunks": ([head(own, "Transfer-Encoding: chunked"), b"5\r\n{    \r\n"], b"400\r\n" + b" " * 500),
        "another route's body": ([index, b"{"], b" " * 399),
        "a refused one's body": ([head("Content-Length: 200000"), b" " * 100_000], b" " * 500),
        CONTROL: ([b"GET /api/releases HTTP/1.1\r\n"], b"x-a: " + b"a" * 1000),
        "a second request": ([answered, head(own)[:-2]], b"x-a: " + b"a" * 500),
    }


@pytest.mark.slow
def test_slow_clients_are_disconnected(running: Guarded) -> None:
    """Slowloris: all kinds at once; each sends a byte now and then and so is never idle."""
    kinds = slow_requests(running.keys["all"])
    control = int(running.gateway.control_url.rpartition(":")[2])
    ports = {kind: control if kind == CONTROL else running.gateway.port for kind in kinds}
    wires = {kind: socket.create_connection(("127.0.0.1", port), 30) for kind, port in ports.items()}
    rest = {kind: tail for kind, (_, tail) in kinds.items()}
    answers = dict.fromkeys(kinds, b"")
    started = time.monotonic()
    for kind, (packets, _) in kinds.items():
        for packet in packets:
            wires[kind].sendall(packet)
    ended: dict[str, float] = {}
    while len(ended) < len(wires) and time.monotonic() < started + 3 * CONTROL_PATIENCE_S:
        for kind in wires.keys() - ended.keys():
            if _goes_on(wires[kind], rest, kind, answers):
                ended[kind] = time.monotonic() - started
    for wire in wires.values():
        wire.close()
    assert ended.keys() == wires.keys(), f"still open: {wires.keys() - ended.keys()}"
    assert ended.pop(CONTROL) < 2 * CONTROL_PATIENCE_S
    assert max(ended.values()) < 3 * PATIENCE_S
    told = {kind: answer.rpartition(b"HTTP/1.1 ")[2][:3] for kind, answer in answers.items()}
    assert told.pop("nothing at all") == b""
    assert told.pop("a refused one's body") == b"401"
    assert set(told.values()) == {b"408"}, told


def _goes_on(wire: socket.socket, rest: dict[str, bytes], kind: str, answers: dict[str, bytes]) -> bool:
    """Send one more byte and listen for a moment; whether the gateway has closed the connection."""
    wire.settimeout(0.02)
    try:
        if rest[kind]:
            wire.sendall(rest[kind][:1])
            rest[kind] = rest[kind][1:]
        heard = wire.recv(65536)
    except TimeoutError:
        return False
    except OSError:
        return True
    answers[kind] += heard
    return heard == b""


def test_gateway_serves_on_after_all_hostile_requests(running: Guarded) -> None:
    answers: list[Any] = [running.infer("predictor") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert len(workers(running.gateway)) == 2
