"""Keys of prediction ids over real stores: what one host has signed every host verifies, whatever the faults."""

import asyncio
import itertools
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.control.fleet.prediction_keys import RIPE_S, SUFFIX, PredictionKeys, merged, stored_keys
from gateway.control.fleet.store import Transaction
from gateway.control.fleet.stores import open_store
from gateway.errors import InvalidRequest
from gateway.records import token_keys as keys_module
from gateway.records.token import encoded_names
from gateway.records.token_keys import MAX_KEYS, ROTATE_AFTER_S, TokenKey, keys_file, token_keys, write_keys
from gateway.routing.release import Decision, Variant
from tests.control.fleet.hosts import TIMING
from tests.control.fleet.servers import LONG_S, EtcdServer, RedisServer, StoreServer, asynchronous
from tests.control.fleet.wire import Wire

SERVERS = {"redis": RedisServer, "etcd": EtcdServer}
DECISION = Decision(1, Variant.STABLE, "default", None, 0, 1.0)
NAMES = encoded_names("m", "r")
numbers = itertools.count()


class Clocks:
    """Of all hosts."""

    def __init__(self) -> None:
        self.monotonic_s = 1000.0
        self.now_s = 1.8e9

    def advance(self, seconds: float) -> None:
        self.monotonic_s += seconds
        self.now_s += seconds


class KeyHost:
    """One gateway, as far as its keys matter. `serves`: a worker listens."""

    def __init__(self, fleet: "KeyFleet", folder: Path, *, serves: bool = False) -> None:
        folder.mkdir(exist_ok=True)
        self.fleet = fleet
        self.folder = folder
        self.serves = serves
        with patch.object(keys_module.time, "time", lambda: fleet.clocks.now_s):
            own = token_keys(folder)
        self.signer = own.signer()
        self.wire = Wire(open_store(fleet.server.url, fleet.name + SUFFIX, LONG_S))
        self.exchange = PredictionKeys(
            self.wire, TIMING, own, keys_file(folder), lambda keys: self.signer.adopt(keys.pairs()),
            lambda: self.serves, lambda: fleet.clocks.monotonic_s, lambda: fleet.clocks.now_s
        )  # fmt: skip

    @property
    def signing(self) -> bytes:
        return self.exchange.keys.current.secret

    def token(self) -> str:
        self.serves = True
        return self.signer.token(NAMES, DECISION, next(numbers), 2, False).decode()

    def verifies(self, token: str) -> bool:
        try:
            return self.signer.read(token).model == "m"
        except InvalidRequest:
            return False

    async def tick(self) -> None:
        await self.exchange.tick()
        assert not self.exchange.problem, self.exchange.problem

    async def reach(self) -> None:
        """End all faults, then exchange."""
        self.wire.forget()
        self.wire.cut = False
        await self.tick()

    async def restarted(self) -> "KeyHost":
        await self.wire.close()
        new = KeyHost(self.fleet, self.folder)
        self.fleet.hosts[self.fleet.hosts.index(self)] = new
        return new


class KeyFleet:
    def __init__(self, server: StoreServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.name = f"keys {next(numbers)}"
        self.clocks = Clocks()
        self.hosts: list[KeyHost] = []

    def add(self, name: str, *, serves: bool = False) -> KeyHost:
        self.hosts.append(KeyHost(self, self.folder / name, serves=serves))
        return self.hosts[-1]

    async def ticks(self, times: int = 2) -> None:
        for _ in range(times):
            for host in self.hosts:
                await host.tick()

    async def stored(self) -> list[bytes]:
        store = open_store(self.server.url, self.name + SUFFIX, LONG_S)
        try:
            return [key.secret for key in stored_keys((await store.commit(None)).core)]
        finally:
            await store.close()

    async def damage(self, core: bytes) -> None:
        store = open_store(self.server.url, self.name + SUFFIX, LONG_S)
        try:
            seen = await store.commit(None)
            assert (await store.commit(Transaction(seen.run_id, seen.tag, core, "x", (), False))).committed
        finally:
            await store.close()


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        yield server


@asynccontextmanager
async def new_fleet(server: StoreServer, folder: Path) -> AsyncIterator[KeyFleet]:
    fleet = KeyFleet(server, folder)
    try:
        yield fleet
    finally:
        for host in fleet.hosts:
            await host.wire.close()


@asynchronous
async def test_hosts_with_keys_of_the_same_number_verify_each_others_ids(server: StoreServer, tmp_path: Path) -> None:
    async with new_fleet(server, tmp_path) as fleet:
        a, b, c = (fleet.add(name, serves=True) for name in "abc")
        before = [host.token() for host in (a, b, c)]
        assert {host.exchange.keys.current.number for host in (a, b, c)} == {0}
        assert not b.verifies(before[0])
        await fleet.ticks()
        after = [host.token() for host in (a, b, c)]
        assert all(host.verifies(token) for host in (a, b, c) for token in before + after)
        assert len(await fleet.stored()) == 3
        fleet.clocks.advance(RIPE_S)
        await fleet.ticks()
        assert a.signing == b.signing == c.signing == (await fleet.stored())[-1]


@asynchronous
async def test_hosts_that_come_and_go_add_no_keys(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a", serves=True)
        await fleet.ticks()
        for number in range(5):
            new = fleet.add(f"new {number}")
            await new.tick()
            assert new.signing == a.signing
            new.serves = True
            await new.tick()
            assert (await new.restarted()).signing == a.signing
        assert await fleet.stored() == [a.signing]


@asynchronous
async def test_key_that_was_used_before_contact_is_shared(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a", serves=True)
        await fleet.ticks()
        b = fleet.add("b")
        token = b.token()
        await fleet.ticks()
        assert a.verifies(token)


@asynchronous
async def test_worker_that_listens_during_the_exchange_has_signed_nothing_that_is_lost(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a", serves=True)
        await fleet.ticks()
        (tmp_path / "b").mkdir()
        old = TokenKey(0, fleet.clocks.now_s - ROTATE_AFTER_S - 1, bytes(32))  # so that there is something to write
        write_keys(keys_file(tmp_path / "b"), [old])
        b = fleet.add("b")
        held = b.wire.hold_reply(lambda _: True)
        ticking = asyncio.create_task(b.tick())
        await held.reached.wait()
        token = b.token()
        held.go.set()
        await ticking
        assert b.verifies(token)
        await fleet.ticks()
        assert a.verifies(token)


@asynchronous
async def test_new_key_verifies_at_once_and_signs_only_when_all_have_had_time_to_read_it(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a", serves=True)
        await fleet.ticks()
        old = a.signing
        fleet.clocks.advance(60)
        b = fleet.add("b", serves=True)  # with a newer key of its own
        token = b.token()
        await b.tick()
        await a.tick()
        assert a.verifies(token) and a.signing == old
        fleet.clocks.advance(RIPE_S / 2)
        await a.tick()
        assert a.signing == old
        fleet.clocks.advance(RIPE_S / 2)
        await a.tick()
        assert a.signing == b.signing != old


@asynchronous
async def test_a_month_later_all_hosts_together_make_one_new_key(server: StoreServer, tmp_path: Path) -> None:
    async with new_fleet(server, tmp_path) as fleet:
        hosts = [fleet.add(name) for name in "abc"]
        await fleet.ticks()
        tokens = [host.token() for host in hosts]
        assert len(await fleet.stored()) == 1
        fleet.clocks.advance(ROTATE_AFTER_S + 1)
        await asyncio.gather(*(host.tick() for host in hosts))
        assert len(await fleet.stored()) == 2
        fleet.clocks.advance(RIPE_S)
        await fleet.ticks()
        assert {host.signing for host in hosts} == {(await fleet.stored())[-1]}
        tokens += [host.token() for host in hosts]
        assert all(host.verifies(token) for host in hosts for token in tokens)


@asynchronous
async def test_keys_outlive_the_store_and_hosts_that_have_left(server: StoreServer, tmp_path: Path) -> None:
    async with new_fleet(server, tmp_path) as fleet:
        a, b = fleet.add("a", serves=True), fleet.add("b", serves=True)
        tokens = [a.token(), b.token()]
        await fleet.ticks()
        known = await fleet.stored()
        fleet.hosts.remove(a)
        await a.wire.close()
        server.wipe()
        await b.tick()
        assert await fleet.stored() == known
        c = fleet.add("c")
        await c.tick()
        assert all(c.verifies(token) for token in tokens)


@asynchronous
async def test_host_without_contact_verifies_what_it_knew_before_its_restart(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a", serves=True), fleet.add("b", serves=True)
        tokens = [a.token(), b.token()]
        await fleet.ticks()
        b = await b.restarted()
        assert all(b.verifies(token) for token in tokens)
        assert stat.S_IMODE(keys_file(b.folder).stat().st_mode) == 0o600
        b.wire.cut = True
        await b.exchange.tick()
        assert b.exchange.problem and all(b.verifies(token) for token in tokens)


@pytest.mark.parametrize(
    "core", [b"{", b"[]", b"7", b"{}", b'{"protocol":2,"keys":[]}', b'{"protocol":1,"keys":[{"key":0}]}'], ids=repr
)
@asynchronous
async def test_damaged_keys_are_said_and_the_own_ones_stay(redis: RedisServer, tmp_path: Path, core: bytes) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a = fleet.add("a", serves=True)
        token = a.token()
        await fleet.damage(core)
        await a.exchange.tick()
        assert "cannot be read" in a.exchange.problem and "choose another fleet.name" in a.exchange.problem
        assert a.verifies(token)
        redis.wipe()
        await a.tick()


@asynchronous
async def test_keys_that_the_disk_refuses_are_used_and_written_later(redis: RedisServer, tmp_path: Path) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        a, b = fleet.add("a", serves=True), fleet.add("b", serves=True)
        token = a.token()
        await a.tick()
        unfinished = keys_file(b.folder).with_suffix(".new")
        unfinished.mkdir()
        await b.exchange.tick()
        assert "cannot be written" in b.exchange.problem and b.verifies(token)
        unfinished.rmdir()
        await b.tick()
        assert (await b.restarted()).verifies(token)


@pytest.mark.parametrize("seed", range(4))
@asynchronous
async def test_every_id_of_hosts_that_have_had_contact_verifies_everywhere(
    redis: RedisServer, tmp_path: Path, seed: int
) -> None:
    """Hosts join, leave, restart, lose replies and contact; the store is emptied; months pass."""
    random = Random(seed)
    async with new_fleet(redis, tmp_path) as fleet:
        tokens: list[str] = []
        for number in range(120):
            match random.randrange(8):
                case 0 if len(fleet.hosts) < 5:
                    fleet.add(f"host {number}")
                case 1 if len(fleet.hosts) > 1:
                    left = fleet.hosts.pop(random.randrange(len(fleet.hosts)))
                    await left.reach()  # what it alone knows would leave with it
                    await left.wire.close()
                case 2 if fleet.hosts:
                    await random.choice(fleet.hosts).restarted()
                case 3 if fleet.hosts:
                    random.choice(fleet.hosts).wire.cut ^= True
                case 4 if fleet.hosts and random.random() < 0.3:
                    await random.choice(fleet.hosts).reach()  # else keys of hosts that have left are lost with it
                    redis.wipe()
                case 5:
                    fleet.clocks.advance(random.choice([1.0, RIPE_S, ROTATE_AFTER_S / 3]))
                case _:
                    tokens += [host.token() for host in fleet.hosts]
            for host in random.sample(fleet.hosts, len(fleet.hosts)):
                if random.random() < 0.5:
                    if random.random() < 0.2:
                        host.wire.lose_reply(lambda transaction: transaction.core is not None)
                    await host.exchange.tick()
        for host in fleet.hosts:
            await host.reach()
        await fleet.ticks()
        fleet.clocks.advance(RIPE_S)
        await fleet.ticks()
        assert len(tokens) > 50 and len(fleet.hosts) > 0
        assert all(host.verifies(token) for host in fleet.hosts for token in tokens)
        assert {host.signing for host in fleet.hosts} == {(await fleet.stored())[-1]}


KEYS = st.lists(
    st.builds(
        lambda secret, created: TokenKey(secret % 3, float(created), bytes([secret]) * 32),
        st.integers(0, 9),
        st.integers(0, 4),
    )
)


@given(KEYS, KEYS, KEYS)
def test_merging_in_any_order_and_twice_gives_the_same(a: list[TokenKey], b: list[TokenKey], c: list[TokenKey]) -> None:
    once = merged(merged(a, b), c)
    assert once == merged(a, merged(c, b)) == merged(once, a)
    everything = a + b + c
    assert [key.created_s for key in once] == [
        min(key.created_s for key in everything if key.secret == one.secret) for one in once
    ]
    assert {key.secret for key in once} == {key.secret for key in everything}


def test_only_the_newest_keys_are_kept() -> None:
    keys = [TokenKey(0, float(number), os.urandom(32)) for number in range(MAX_KEYS + 5)]
    assert merged([], keys) == keys[5:]
    assert merged(keys[5:], keys[:5]) == keys[5:]
