"""Limits besides the body, on both planes and without a key: trailers, chunk headers, waiting requests."""

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.processes.flawed import workers
from tests.running import GatewayProcess
from tests.wire import Wire, doubled, get, looping_models, post, row

CHUNKED = b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
INFER = b"/v2/models/doubling/infer"
PLANES = ["data", "control"]
MUCH = 24 << 20  # bytes that a client tries to make the gateway keep
MIB = 2**20


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    folder = tmp_path_factory.mktemp("limits")
    with GatewayProcess(folder, looping_models(folder / "models", "looping")) as gateway:
        yield gateway
    assert "Traceback" not in gateway.log


def wire_of(gateway: GatewayProcess, plane: str) -> Wire:
    return Wire(gateway, int(gateway.control_url.rpartition(":")[2]) if plane == "control" else None)


def path_of(plane: str) -> bytes:
    return INFER if plane == "data" else b"/api/releases/doubling/stop"


def peak_mib(gateway: GatewayProcess) -> float:
    """The peak memory of all processes of the gateway together."""
    files = [Path(f"/proc/{pid}/status") for pid in (gateway.pid, *workers(gateway))]
    return sum(int(file.read_text().split("VmHWM:")[1].split()[0]) for file in files) / 1024


def pour(wire: Wire, part: bytes, size: int = MUCH) -> int:
    """Send `part` again and again until the gateway closes the connection; returns how many bytes that took."""
    packet = part * (65536 // len(part) + 1)
    taken = 0
    while taken < size:
        try:
            wire.socket.sendall(packet)
        except OSError:
            break
        taken += len(packet)
    return taken


def refused(wire: Wire, status: int) -> None:
    """Check the refusal. It may be lost where the client continues to send; if one comes, it is the last answer."""
    try:
        reply = wire.read()
    except (OSError, AssertionError):
        return
    assert reply.status == status, reply
    try:
        assert wire.ended()
    except OSError:
        return


ENDLESS: dict[str, tuple[bytes, bytes]] = {
    "trailers": (b"2\r\n{}\r\n0\r\n", b"x-trailer: %s\r\n" % (b"a" * 100)),
    "many short trailers": (b"2\r\n{}\r\n0\r\n", b"a:\r\n"),
    "a trailer's name": (b"2\r\n{}\r\n0\r\n", b"abcdefgh"),
    "a trailer's value": (b"2\r\n{}\r\n0\r\nx-trailer: ", b"abcdefgh"),
    "trailers of an empty body": (b"0\r\n", b"x-trailer: a\r\n"),
    "a chunk's extension": (b"2;", b"abcdefgh"),
    "extensions of many chunks": (b"", b"1;a=%s\r\n \r\n" % (b"b" * 100)),
}


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("name", ENDLESS)
def test_endless_trailers_or_chunk_headers_are_refused(gateway: GatewayProcess, plane: str, name: str) -> None:
    begin, part = ENDLESS[name]
    before = peak_mib(gateway)
    for early in (True, False):  # whether the application has answered before: it refuses what has no key at once
        with wire_of(gateway, plane) as wire:
            wire.send(CHUNKED % (path_of(plane) if early else b"/nothing") + begin)
            assert pour(wire, part) < 4 * MIB
            if not early:
                continue
            refused(wire, 431)
    assert peak_mib(gateway) < before + 16


@pytest.mark.parametrize("plane", PLANES)
def test_refusal_of_trailers_states_the_limit(gateway: GatewayProcess, plane: str) -> None:
    with wire_of(gateway, plane) as wire:
        wire.send(CHUNKED % path_of(plane) + b"2\r\n{}\r\n0\r\n", b"x: a\r\n" * 8000, b"x: a\r\n" * 8000)
        reply = wire.read()
        assert (reply.status, "trailers" in reply.document["error"]) == (431, True)
        assert wire.ended()


def chunks(body: bytes, size: int) -> bytes:
    parts = (body[start : start + size] for start in range(0, len(body), size))
    return b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 4096])
@pytest.mark.parametrize("pad", [0, pytest.param(300_000, marks=pytest.mark.slow)])
def test_chunks_and_trailers_within_the_limits_are_accepted(gateway: GatewayProcess, size: int, pad: int) -> None:
    body = post("doubling", row(), pad=pad).partition(b"\r\n\r\n")[2]
    request = CHUNKED % INFER + chunks(body, size) + b"0\r\nx-checksum: %b\r\n\r\n" % (b"a" * 30_000)
    with Wire(gateway) as wire:
        for _ in range(3):
            assert wire.send(request).read().document["outputs"][0]["data"] == [2, 4]


def test_body_may_still_arrive_after_it_was_refused(gateway: GatewayProcess) -> None:
    """Clients send a whole body before they read: an answer sent earlier must reach them."""
    body = b"a" * 3_000_000
    head = b"POST /nothing HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % len(body)
    with Wire(gateway) as wire:
        assert wire.send(head, body).read().status == 404


@pytest.mark.parametrize("plane", PLANES)
def test_limit_on_heads_holds_however_packets_are_split(gateway: GatewayProcess, plane: str) -> None:
    head = get("/v2" if plane == "data" else "/health", *(f"x-{number}: a" for number in range(12_000)))
    with wire_of(gateway, plane) as wire:
        wire.send(head)
        refused(wire, 431)


@pytest.mark.slow
@pytest.mark.parametrize("plane", PLANES)
def test_endless_blank_lines_are_refused(gateway: GatewayProcess, plane: str) -> None:
    for begin in (b"", get("/health/nothing")):
        with wire_of(gateway, plane) as wire:
            wire.send(begin)
            started = time.monotonic()
            pour(wire, b"\r\n", 1 << 30)
            assert time.monotonic() - started < 12


@pytest.mark.parametrize("plane", PLANES)
def test_pipelined_requests_are_not_read_before_their_turn(gateway: GatewayProcess, plane: str) -> None:
    """100,000 of 40 bytes became 100,000 scopes, events and queries; now the connection is read as it is answered."""
    one = b"GET /nothing HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
    before = peak_mib(gateway)
    with wire_of(gateway, plane) as wire:
        wire.socket.settimeout(0.5)
        with contextlib.suppress(OSError):
            wire.send(one * 100_000)
        assert peak_mib(gateway) < before + 24


@pytest.mark.parametrize("count", [1, 2, 30, 400, 2000])
def test_many_requests_in_a_packet_are_answered_in_order(gateway: GatewayProcess, count: int) -> None:
    with Wire(gateway) as wire:
        packets = [doubled(number, pad=150) if number % 3 else get("/v2") for number in range(count)]
        wire.send(b"".join(packets))
        for number in range(count):
            reply = wire.read()
            assert reply.status == 200
            assert reply.document.get("id", str(number)) == str(number)
