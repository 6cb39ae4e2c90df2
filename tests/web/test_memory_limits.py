"""Who is refused when too much memory is held: the address and connection that hold most; readers are spared."""

import asyncio
from typing import Any

import pytest
import uvloop

from gateway.errors import Overloaded
from gateway.settings.gateway import LimitsSettings
from gateway.shm.scoreboard import SHED
from gateway.web.memory_limits import MIN_READ_BYTES, MemoryLimits, _acked

KIB = 1024
LIMITS = LimitsSettings(receiving="1MiB", unsent="1MiB", slow_reader="10s")


class Transport:
    def __init__(self) -> None:
        self.unsent = 0
        self.acked = 0
        self.aborted = False

    def get_write_buffer_size(self) -> int:
        return 0 if self.aborted else self.unsent

    def abort(self) -> None:
        self.aborted = True


class Client:
    def __init__(self, address: str = "a") -> None:
        self.client = address, 1
        self.transport = Transport()
        self.size = 0
        self.more = True
        self.refused: Any = None

    def arrived(self) -> int:
        return self.size

    def receiving(self) -> bool:
        return self.more

    def refuse(self, error: Any) -> None:
        self.refused = error
        self.size = 0


@pytest.fixture
def holdings(monkeypatch: pytest.MonkeyPatch) -> MemoryLimits:
    monkeypatch.setattr("gateway.web.memory_limits._acked", lambda transport: transport.acked)
    return MemoryLimits(LIMITS, 0, memoryview(bytearray(8 * 64)).cast("q"))


def send(holdings: MemoryLimits, client: Client, size: int) -> None:
    client.size += size
    holdings.received(client, client.size)


def test_largest_body_is_refused(holdings: MemoryLimits) -> None:
    small, large = Client(), Client()
    send(holdings, large, 900 * KIB)
    send(holdings, small, 100 * KIB)
    assert not large.refused
    send(holdings, small, 100 * KIB)
    assert "limits.receiving" in str(large.refused) and not small.refused
    assert holdings._head[SHED] == 1
    send(holdings, small, 800 * KIB)
    assert not small.refused, "what was refused is held no longer"


def test_many_connections_of_one_address_do_not_displace_another(holdings: MemoryLimits) -> None:
    honest, greedy = Client("b"), [Client("a") for _ in range(100)]
    send(holdings, honest, 300 * KIB)
    for _ in range(5):
        for one in greedy:
            if not one.refused:
                send(holdings, one, 10 * KIB)
    assert not honest.refused
    assert any(one.refused for one in greedy)


def test_answered_or_closed_connections_hold_no_memory(holdings: MemoryLimits) -> None:
    for _ in range(50):
        one = Client()
        send(holdings, one, 100 * KIB)
        one.size = 0  # answered
        other = Client()
        send(holdings, other, 100 * KIB)
        holdings.forget(other)
        assert not one.refused and not other.refused


def test_complete_body_is_not_refused_any_more(holdings: MemoryLimits) -> None:
    complete, coming = Client(), Client()
    send(holdings, complete, 900 * KIB)
    complete.more = False
    send(holdings, coming, 200 * KIB)
    assert coming.refused and not complete.refused


def test_body_that_grows_when_decompressed_is_refused(holdings: MemoryLimits) -> None:
    complete, other = Client(), Client()
    send(holdings, complete, 900 * KIB)
    complete.more = other.more = False
    other.size = 900 * KIB
    with pytest.raises(Overloaded, match=r"limits\.receiving"):
        holdings.decompressed(other, 900 * KIB)
    other.size = 0
    send(holdings, complete, 100 * KIB)
    assert not complete.refused


def unread(holdings: MemoryLimits, client: Client, size: int, now_s: float = 0.0) -> None:
    client.transport.unsent += size
    holdings.write_paused(client, now_s)


def test_largest_unread_answer_is_dropped_first(holdings: MemoryLimits) -> None:
    clients = [Client() for _ in range(5)]
    for index, client in enumerate(clients):
        unread(holdings, client, (index + 1) * 60 * KIB)
    unread(holdings, clients[0], 200 * KIB)
    assert [client.transport.aborted for client in clients] == [False, False, False, False, True]


def test_stalled_reader_is_dropped_before_a_reading_one(holdings: MemoryLimits) -> None:
    reading, still = Client(), Client()
    unread(holdings, reading, 600 * KIB)
    unread(holdings, still, 300 * KIB)
    for now_s in (0.5, 1.0):
        reading.transport.acked += 10 * KIB
        holdings.check([reading, still], now_s)
    unread(holdings, reading, 400 * KIB, 1.2)
    assert still.transport.aborted and not reading.transport.aborted


def test_reader_below_the_minimum_rate_is_slow(holdings: MemoryLimits) -> None:
    slow, still, steady, done = Client(), Client(), Client(), Client()
    clients = [slow, still, steady, done]
    for client in clients:
        client.transport.unsent = 200 * KIB
    done.transport.unsent = 10
    for half in range(60):
        steady.transport.acked += MIN_READ_BYTES // 18
        slow.transport.acked += MIN_READ_BYTES // 40
        if half == 10:
            done.transport.unsent = 0
        holdings.check([client for client in clients if not client.transport.aborted], half / 2)
    assert [client.transport.aborted for client in clients] == [True, True, False, False]


def test_acknowledged_bytes_are_known_for_event_loop_sockets() -> None:
    async def taken() -> tuple[int, int]:
        made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

        class Served(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.set_result(transport)

        server = await asyncio.get_running_loop().create_server(Served, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        transport = await made
        before = _acked(transport)
        transport.write(bytes(300_000))
        await reader.readexactly(300_000)
        while _acked(transport) < 300_000:  # the last acknowledgement may be on its way
            await asyncio.sleep(0.01)
        after = _acked(transport)
        writer.close()
        server.close()
        return before, after

    before, after = uvloop.run(asyncio.wait_for(taken(), 10))
    assert before <= 1 and 300_000 <= after <= 300_001
