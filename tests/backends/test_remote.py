"""The client of other servers, before a server that answers with whatever bytes a test chooses."""

import asyncio
import ssl
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
import yaml

from gateway.backends.output_checks import Stopped
from gateway.backends.remote import connection as connections
from gateway.backends.remote.client import RemoteBackend
from gateway.backends.remote.facts import facts_of
from gateway.backends.remote.server import Server
from gateway.errors import (
    Conflict,
    DeadlineExceeded,
    InvalidOutput,
    InvalidRequest,
    ModelFailed,
    ModelUnavailable,
    Overloaded,
    ProcessCrashed,
    ProcessLost,
    RequestError,
    ServerUnreachable,
    SettingsError,
)  # fmt: skip
from gateway.protocol.decode import decode_request
from gateway.protocol.source import Origin, RequestSource, Trace
from gateway.settings.load import load_remote
from gateway.settings.model import ModelSettings
from gateway.shm.tally import Tally
from tests.backends.remote_server import METADATA, Answer, RawServer, doubled, hanging, http, raw_server

BODY = b'{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}]}'
Test = Callable[..., Coroutine[Any, Any, None]]


def writes(*parts: bytes, close: bool = False) -> Answer:
    async def answer(writer: asyncio.StreamWriter, body: bytes) -> None:
        for part in parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        if close:
            writer.close()

    return answer


class Remote:
    """A backend of `servers`."""

    def __init__(self, folder: Path, servers: list[RawServer], **settings: Any) -> None:
        self.file = folder / "remote.yaml"
        self.file.write_text(yaml.safe_dump({"url": [one.url for one in servers], "model": "m", **settings}))

    async def start(self, stopped: Stopped | None = None) -> "Remote":
        server = Server("m", self.file)
        self.backend = RemoteBackend(server, *await facts_of(server, ModelSettings()), Tally(), stopped)
        return self

    def submit(self, within_s: float = 5.0, body: bytes = BODY, origin: Origin | None = None) -> Any:
        request = decode_request(body)
        request.source = RequestSource(body, origin=origin)
        feeds = self.backend.facts.signature.bind(request)
        return self.backend.submit(feeds, time.monotonic_ns() + int(within_s * 1e9))

    async def ask(self, **options: Any) -> list[Any]:
        return [array.tolist() for array in await self.submit(**options)]


def run(test: Callable[[list[RawServer]], Coroutine[Any, Any, None]], servers: int = 1) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            await test([await stack.enter_async_context(raw_server()) for _ in range(servers)])

    asyncio.run(main())


def never() -> bool:
    return False


BIG = b"x" * 70000
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
HOSTILE: list[tuple[str, Answer, type[RequestError]]] = [
    ("garbage", writes(b"\x00\xff" * 100, close=True), ModelFailed),
    ("nothing", writes(close=True), ModelFailed),
    ("half a head", writes(b"HTTP/1.1 200 OK\r\nConte", close=True), ModelFailed),
    ("half a body", writes(http(doubled())[:-9], close=True), ModelFailed),
    ("a large header", writes(http(doubled(), "200 OK", f"X: {BIG.decode()}")), ModelFailed),
    ("many headers", writes(http(doubled(), "200 OK", *(f"X{n}: 1" for n in range(300)))), ModelFailed),
    ("a huge length", writes(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n"), ModelFailed),
    ("two lengths", writes(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"), ModelFailed),
    ("a negative length", writes(b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", close=True), ModelFailed),
    ("compression", writes(http(doubled(), "200 OK", "Content-Encoding: gzip")), ModelFailed),
    ("no JSON", writes(http(b"<html>")), InvalidOutput),
    ("a JSON list", writes(http(b"[]")), InvalidOutput),
    ("deep JSON", writes(http(b"[" * 100000)), InvalidOutput),
    ("another model", writes(http(doubled(model_name="other"))), InvalidOutput),
    ("no outputs", writes(http(doubled(outputs=[]))), InvalidOutput),
    ("unknown output", writes(http(doubled(output={"name": "z"}))), InvalidOutput),
    ("another datatype", writes(http(doubled(output={"datatype": "FP64"}))), InvalidOutput),
    ("too few elements", writes(http(doubled(output={"data": [1.0]}))), InvalidOutput),
    ("another shape", writes(http(doubled(output={"shape": [2, 1]}))), InvalidOutput),
    ("NaN", writes(http(doubled(output={"data": [1.0, float("nan")]}))), InvalidOutput),
    ("null", writes(http(doubled(output={"data": [1.0, None]}))), InvalidOutput),
    ("a huge shape", writes(http(doubled(output={"shape": [1 << 40, 2]}))), InvalidOutput),
    ("a wrong JSON length", writes(http(doubled(), "200 OK", "Inference-Header-Content-Length: 9999")), InvalidOutput),
    ("500", writes(http(b'{"error":"broken"}', "500 Oops")), ModelFailed),
    ("503", writes(http(b"", "503 Busy")), Overloaded),
    ("400", writes(http(b'{"error":"x is odd"}', "400 Bad")), InvalidRequest),
    ("301", writes(http(b"", "301 Moved", "Location: http://127.0.0.1:1/")), ModelFailed),
    ("a trailer without an end", writes(CHUNKED + b"0\r\nX: ", *[BIG] * 40), ModelFailed),
    ("the name of a trailer without an end", writes(CHUNKED + b"0\r\n", *[BIG] * 40), ModelFailed),
    ("a chunk's extension without an end", writes(CHUNKED + b"5;", *[BIG] * 40), ModelFailed),
    ("100 without an end", writes(*[b"HTTP/1.1 100 Continue\r\n\r\n" * 4000] * 40), ModelFailed),
    ("101", writes(b"HTTP/1.1 101 Up\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", close=True), ModelFailed),
]  # fmt: skip


@pytest.mark.parametrize(("answer", "error"), [case[1:] for case in HOSTILE], ids=[case[0] for case in HOSTILE])
def test_what_a_hostile_server_sends(tmp_path: Path, answer: Answer, error: type[RequestError]) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start(never)
        servers[0].answer = answer
        with pytest.raises(RequestError) as raised:
            await remote.ask()
        assert type(raised.value) is error, raised.value
        servers[0].answer = servers[0].well
        assert await remote.ask() == [[[2.0, 4.0]]]
        assert remote.backend.idle

    run(test)


def test_unusual_but_valid_responses(tmp_path: Path) -> None:
    chunked = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in doubled()) + b"0\r\n\r\n"
    trailed = chunked[:-2] + b"Inference-Header-Content-Length: 3\r\n\r\n"
    valid = [
        writes(CHUNKED + chunked),
        writes(CHUNKED + trailed),
        writes(b"HTTP/1.1 100 Continue\r\n\r\n", http(doubled())),
        writes(b"HTTP/1.0 200 OK\r\n\r\n" + doubled(), close=True),
        writes(http(doubled(), "200 OK", "Connection: close"), close=True),
        writes(*(bytes([byte]) for byte in http(doubled()))),
    ]

    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start(never)
        for servers[0].answer in valid:
            assert await remote.ask() == [[[2.0, 4.0]]]

    run(test)


def test_a_body_of_any_size_comes_whole(tmp_path: Path) -> None:
    sizes = [len(BODY), connections.JOINED_BYTES - 200, connections.JOINED_BYTES, 300_000, len(BODY)]
    received: list[int] = []

    async def noted(writer: asyncio.StreamWriter, body: bytes) -> None:
        assert body.rstrip() == BODY
        received.append(len(body))
        writer.write(http(doubled()))

    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers, connections=1).start()
        before = servers[0].connections
        servers[0].answer = noted
        for size in sizes:
            assert await remote.ask(body=BODY.ljust(size)) == [[[2.0, 4.0]]]
        assert (received, servers[0].connections - before) == (sizes, 1)

    run(test)


def test_nothing_of_a_response_remains_for_the_next_on_its_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither what it said nor its size: each has less than the limits, and all together have more."""
    monkeypatch.setattr("gateway.backends.remote.client.MAX_BODY_BYTES", 1000)
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\nX-Trailer: 1\r\n\r\n"
    padding = f"X: {'x' * (connections.MAX_HEAD_BYTES // 2)}"
    odd = [
        b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n",
        b"HTTP/1.1 103 Early Hints\r\nContent-Length: 3\r\nLink: </x>\r\n\r\n" + http(doubled()),
        chunked % (len(doubled()), doubled()),
        http(doubled(), "200 OK", "Inference-Header-Content-Length: 9999"),
        http(b'{"error":"broken"}', "500 Oops"),
        *[http(doubled(), "200 OK", padding)] * 3,
    ]

    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers, connections=1).start()
        before = servers[0].connections
        for number, response in enumerate(odd):
            servers[0].answer = writes(response)
            await asyncio.gather(remote.ask(), return_exceptions=True)
            servers[0].answer = writes(http(doubled(output={"data": [number, 9.0]})))
            assert await remote.ask() == [[[number, 9.0]]]
        assert servers[0].connections - before == 1

    run(test)


def test_a_second_response_never_becomes_the_answer_to_the_next_request(tmp_path: Path) -> None:
    wrong = http(doubled(output={"data": [9.0, 9.0]}))

    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers, connections=1).start()
        for surplus in (wrong, wrong[:20], b"garbage"):
            servers[0].answer = writes(http(doubled()) + surplus)
            assert await asyncio.gather(*(remote.ask() for _ in range(5))) == [[[[2.0, 4.0]]]] * 5

    run(test)


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_null_is_not_passed_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, datatype: str) -> None:
    output = {"name": "y", "datatype": datatype, "shape": [-1, 2]}
    monkeypatch.setitem(METADATA, "outputs", [output])

    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        servers[0].answer = writes(http(doubled(output={"datatype": datatype, "data": [None, None]})))
        with pytest.raises(InvalidOutput):
            await remote.submit()

    run(test)


def test_a_body_larger_than_the_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.backends.remote.client.MAX_BODY_BYTES", 1000)
    endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"400\r\n" + b" " * 1024

    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start(never)
        servers[0].answer = writes(endless)
        with pytest.raises(ModelFailed, match="more than 1000 bytes"):
            await remote.ask()

    run(test)
    assert connections.MAX_BODY_BYTES == 256 << 20


def test_an_answer_that_comes_too_slowly_ends_at_the_deadline(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers, timeout="200ms").start(never)
        servers[0].answer = hanging
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            await remote.ask()
        assert time.monotonic() - began < 3
        while not servers[0].closed_by_client:
            await asyncio.sleep(0.01)

    run(test)


def test_a_stop_ends_a_call_under_way_and_closes_its_connection(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        stopped = False
        remote = await Remote(tmp_path, servers).start(lambda: stopped)
        servers[0].answer = hanging
        item = remote.submit()
        while not servers[0].requests:
            await asyncio.sleep(0.01)
        stopped = True
        with pytest.raises(Conflict):
            await item
        while not servers[0].closed_by_client:
            await asyncio.sleep(0.01)
        with pytest.raises(Conflict):
            await remote.submit()
        assert servers[0].requests == 1

    run(test)


def test_cancelling_a_call_closes_its_connection(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        servers[0].answer = hanging
        item = remote.submit()
        while not servers[0].requests:
            await asyncio.sleep(0.01)
        item.cancel()
        while not servers[0].closed_by_client:
            await asyncio.sleep(0.01)
        assert remote.backend.idle

    run(test)


@pytest.mark.parametrize("stable", [True, False])
def test_only_stable_is_retried_on_a_connection_that_the_server_has_closed(tmp_path: Path, stable: bool) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start(None if stable else never)
        await remote.ask()
        server, calls = servers[0], 0

        async def closes_first(writer: asyncio.StreamWriter, body: bytes) -> None:
            nonlocal calls
            calls += 1
            if calls == 1:
                writer.close()
            else:
                await server.well(writer, body)

        server.answer = closes_first
        if stable:
            assert await remote.ask() == [[[2.0, 4.0]]]
        else:
            with pytest.raises(ProcessCrashed):
                await remote.ask()

    run(test)


def test_stable_is_not_sent_again_once_part_of_an_answer_has_come(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        for server in servers:
            server.answer = writes(http(doubled())[:-5], close=True)
        with pytest.raises(ModelFailed):
            await remote.ask()
        assert sum(server.requests for server in servers) == 1

    run(test, servers=2)


def test_an_address_that_fails_is_left_out_until_it_is_ready(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        bad, good = servers
        bad.ready = False
        bad.answer = writes(close=True)
        for _ in range(12):
            assert await remote.ask() == [[[2.0, 4.0]]]
        assert bad.requests == 3
        assert good.requests == 12
        bad.ready, bad.answer = True, bad.well
        end = time.monotonic() + 10
        while bad.requests == 3 and time.monotonic() < end:
            await remote.ask()
            await asyncio.sleep(0.01)
        assert bad.requests > 3

    run(test, servers=2)


def test_no_more_connections_than_allowed(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers, connections=3).start()
        before = servers[0].connections
        assert await asyncio.gather(*(remote.ask() for _ in range(50))) == [[[[2.0, 4.0]]]] * 50
        assert servers[0].connections - before <= 3

    run(test)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start(never)
        remote.backend.addresses.all[0].url = "http://127.0.0.1:1"
        with pytest.raises(ProcessLost):
            await remote.ask()

    run(test)


def test_headers_and_identifiers_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMOTE_TOKEN", "secret")

    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers, headers={"authorization": {"env": "REMOTE_TOKEN"}, "X-A": "b"}).start()
        await remote.ask(origin=Origin(Trace("a" * 32, "b" * 16, True), "r-1"))
        head = servers[0].heads[-1].lower()
        assert b"\r\nauthorization: secret\r\n" in head and b"\r\nx-a: b\r\n" in head
        assert b"\r\ntraceparent: 00-%b-%b-01\r\n" % (b"a" * 32, b"b" * 16) in head
        assert b"\r\nx-request-id: r-1\r\n" in head
        assert "secret" not in str(remote.backend.server)

    run(test)


def test_the_outputs_of_stable_are_passed_on_undecoded(tmp_path: Path) -> None:
    async def test(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        answer = await remote.submit()
        assert list.__len__(answer) == 0
        assert orjson.loads(answer.written[0])[0]["data"] == [2.0, 4.0]
        assert [one.tolist() for one in answer] == [[[2.0, 4.0]]]

    run(test)


def test_tls_with_certificates_on_both_sides(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    other.cert_pem.write_to_path(tmp_path / "other.pem")
    own = authority.issue_cert("gateway")
    own.private_key_pem.write_to_path(tmp_path / "key.pem")
    own.cert_chain_pems[0].write_to_path(tmp_path / "own.pem")
    identity = {"certificate": "own.pem", "key": "key.pem"}

    async def test() -> None:
        async with raw_server(context) as server:
            remote = await Remote(tmp_path, [server], tls={"ca": "ca.pem", **identity}).start()
            assert await remote.ask() == [[[2.0, 4.0]]]
            for refused in ({"ca": "other.pem", **identity}, {"ca": "ca.pem"}):
                with pytest.raises(ServerUnreachable):
                    await Remote(tmp_path, [server], tls=refused).start()
            with pytest.raises(ModelUnavailable, match=r"missing\.pem"):
                await Remote(tmp_path, [server], tls={"ca": "missing.pem"}).start()

    asyncio.run(test())


def test_a_header_whose_variable_is_missing(tmp_path: Path) -> None:
    file = tmp_path / "remote.yaml"
    file.write_text("url: http://a\nheaders: {authorization: {env: NOT_SET_ANYWHERE}}")
    with pytest.raises(ModelUnavailable, match="NOT_SET_ANYWHERE; set it"):
        Server("m", file)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", "url"),
        ("url: ftp://a", "address of a server"),
        ("url: 'http://u:pw@a'", "password"),
        ("url: [http://a, http://a]", "twice"),
        ("url: []", "url"),
        ("url: http://a\nmodell: m", "modell"),
        ("url: http://a\nheaders: {host: b}", "set by the gateway"),
        ('url: http://a\nheaders: {x: "a\\r\\nb"}', "printable"),
        ("url: http://a\nheaders: {x: {envv: B}}", "envv"),
        ("url: http://a\nconnections: 0", "connections"),
        ("url: http://a\ntimeout: 0s", "timeout"),
        ("url: http://a\ntls: {ca: x}", "https"),
        ("url: https://a\ntls: {key: x}", "certificate"),
    ],
)
def test_mistakes_in_remote_yaml(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "remote.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError, match=problem) as raised:
        load_remote(file)
    assert "pw" not in str(raised.value).replace("password", "")
