"""What one call to another server, or one odd answer, does to the calls of others."""

import asyncio
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.backends.remote.wire import Forms, body_of
from gateway.errors import DeadlineExceeded, InvalidOutput, ModelFailed, RequestError
from gateway.protocol.decode import decode_request
from gateway.protocol.source import RequestSource
from tests.backends.remote_server import Answer, RawServer, doubled, http
from tests.backends.test_remote import BODY, Remote, run, writes


def slowly(delay_s: float) -> Answer:
    async def answer(writer: asyncio.StreamWriter, body: bytes) -> None:
        await asyncio.sleep(delay_s)
        writer.write(http(doubled()))

    return answer


def test_deadlines_that_clients_set_too_short_do_not_eject_the_server(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        servers[0].answer = slowly(0.05)
        remote = await Remote(tmp_path, servers).start()
        for _ in range(4):
            with pytest.raises(DeadlineExceeded):
                await remote.ask(within_s=0.005)
        assert await remote.ask() == [[[2.0, 4.0]]]

    run(scenario)


def test_errors_that_requests_cause_do_not_eject_the_server(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start(lambda: False)
        servers[0].answer = writes(http(b'{"error":"no"}', "500 no"))
        for _ in range(5):
            with pytest.raises(ModelFailed):
                await remote.ask()
        servers[0].answer = servers[0].well
        assert await remote.ask() == [[[2.0, 4.0]]]

    run(scenario)


def test_stable_is_asked_at_its_only_address_although_that_is_ejected(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        servers[0].answer, servers[0].ready = writes(http(b"", "503 no")), False
        for _ in range(3):
            with pytest.raises(RequestError):
                await remote.ask()
        assert not remote.backend.connected
        servers[0].answer = servers[0].well
        assert await remote.ask() == [[[2.0, 4.0]]]

    run(scenario)


def test_all_idle_connections_that_the_server_has_closed_cost_no_call(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        servers[0].answer = slowly(0.02)
        await asyncio.gather(*(remote.ask() for _ in range(6)))
        (address,) = remote.backend.addresses.all
        assert len(address.idle) == 6

        def reset_when_used(connection: Any) -> None:
            send = connection.send

            def lost(parts: Any, done: Any) -> None:
                send(parts, done)
                connection._transport.abort()

            connection.send = lost

        for connection in address.idle:
            reset_when_used(connection)
        assert await remote.ask() == [[[2.0, 4.0]]]

    run(scenario)


def test_stale_connection_is_replaced_at_its_own_address_not_at_one_that_is_ejected(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        for _ in range(2):
            await remote.ask()
        sound, ejected = remote.backend.addresses.all
        ejected.ejected = True
        asked = servers[1].requests
        servers[0].close_connections()
        await asyncio.sleep(0)  # the client does not know it yet
        assert await remote.ask() == [[[2.0, 4.0]]]
        assert (servers[1].requests, sound.in_flight) == (asked, 0)

    run(scenario, servers=2)


def test_waiting_calls_open_all_connections_again_that_the_server_closes(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        async def closing(writer: asyncio.StreamWriter, body: bytes) -> None:
            await asyncio.sleep(0.05)
            writer.write(http(doubled(), "200 OK", "Connection: close"))

        servers[0].answer = closing
        remote = await Remote(tmp_path, servers, connections=8).start()
        begun_s = time.monotonic()
        await asyncio.gather(*(remote.ask() for _ in range(64)))
        assert time.monotonic() - begun_s < 2.0, "one at a time they take 3.2 s"

    run(scenario)


DEEP = doubled(output={"data": 0}).replace(b'"data": 0', b'"data": ' + b"[" * 300 + b"]" * 300)


@pytest.mark.parametrize(
    "answer",
    [
        http(doubled(output={"datatype": ["FP32"]})),
        http(doubled(output={"name": {}})),
        http(doubled(output={"data": [None, 1]})),
        http(DEEP),
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    ],
    ids=["datatype", "name", "null", "deep", "upgrade"],
)
def test_odd_answer_fails_its_own_call_at_once_and_is_recorded(tmp_path: Path, answer: bytes) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        servers[0].answer = writes(answer)
        item = remote.submit(within_s=3.0)
        begun_s = time.monotonic()
        with pytest.raises(RequestError):
            list(await item)
        assert time.monotonic() - begun_s < 2
        orjson.loads(b'{"a":1%b}' % item.call.answered_by)
        servers[0].answer = servers[0].well
        assert await remote.ask() == [[[2.0, 4.0]]]

    run(scenario)


def test_header_without_an_end_is_refused(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        remote = await Remote(tmp_path, servers).start()
        servers[0].answer = writes(b"HTTP/1.1 200 OK\r\nx: ", *[b"x" * 65536] * 32)
        with pytest.raises(RequestError, match="header"):
            await remote.ask(within_s=10.0)

    run(scenario)


def test_nan_as_python_writes_it_is_read(tmp_path: Path) -> None:
    async def scenario(servers: list[RawServer]) -> None:
        servers[0].answer = writes(http(doubled().replace(b"2.0", b"NaN")))
        stable = await Remote(tmp_path, servers).start()
        (found,) = await stable.ask()
        assert str(found) == "[[nan, 4.0]]"
        candidate = await Remote(tmp_path, servers).start(lambda: False)
        with pytest.raises(InvalidOutput, match="NaN or infinity"):
            await candidate.ask()

    run(scenario)


@pytest.mark.parametrize("key", ["shared_memory_region", "sequence_id", "shared\\u005fmemory_region"])
def test_request_with_a_key_that_the_gateway_has_not_seen_is_not_passed_on_as_it_came(key: str) -> None:
    """A server may take the first of two equal keys, of which the gateway sees the last."""
    hidden = BODY.replace(b'"data":', b'"parameters":{"%b":"r"},"parameters":{},"data":' % key.encode())
    request = decode_request(hidden)
    request.source = RequestSource(hidden)
    feeds: Any = type("Feeds", (), {"request": request})()
    sent = body_of(feeds, Forms(False, False))
    assert not sent.asis
    assert key.encode() not in sent.data
