"""Documents beside that of the fleet, and a ramp in them, over both real stores."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.control.fleet.store import RecordChange, Transaction, transact
from tests.control.fleet.changes import stops
from tests.control.fleet.ramps import new_ramp
from tests.control.fleet.servers import EtcdServer, RedisServer, StoreServer, asynchronous, opened
from tests.control.fleet.test_shared_evidence import counted
from tests.control.fleet.test_shared_ramp import leader

SERVERS = {"redis": RedisServer, "etcd": EtcdServer}
NAMES = ("release:m", "release:m:core", "release:m:", "core", "members", "release:n", "%documents", "ü/\0", "x" * 500)


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        yield server


@asynchronous
async def test_each_document_has_its_own_data(server: StoreServer) -> None:
    async with opened(server.url, "own") as store, opened(server.url, "%documents") as other:
        await transact(store, None, stops("m/2", 1, incarnation="a"))
        before = await store.commit(None)
        for number, name in enumerate(NAMES):
            document = store.document(name)
            seen = await document.commit(None)
            assert (seen.core, seen.tag, seen.members) == (b"", "", {}), f"{name!r} has the data of another"
            record = RecordChange("a-1", None, str(number).encode())
            core = f"core {number}".encode()
            done = await document.commit(Transaction(seen.run_id, "", core, f"tag {number}", (record,), urgent=False))
            assert done.committed
        for number, name in enumerate(NAMES):
            seen = await store.document(name).commit(None)
            assert (seen.core, seen.members) == (f"core {number}".encode(), {"a-1": str(number).encode()})
            assert not (await other.document(name).commit(None)).core
        assert await store.commit(None) == before._replace(committed=False)
        assert not (await other.commit(None)).core


@asynchronous
async def test_a_write_that_follows_another_one_is_refused(server: StoreServer) -> None:
    async with opened(server.url, "fence") as store, opened(server.url, "fence") as second:
        one, two = store.document("m"), second.document("m")
        seen = await one.commit(None)
        await two.commit(None)

        def write(tag: str, new: str) -> Transaction:
            return Transaction(seen.run_id, tag, new.encode(), new, (), urgent=False)

        assert (await one.commit(write("", "first"))).committed
        refused = await two.commit(write("", "second"))
        assert (refused.committed, refused.core, refused.tag) == (False, b"first", "first")
        assert (await two.commit(write("first", "second"))).committed
        assert (await one.commit(None)).core == b"second"


@asynchronous
async def test_a_document_that_waits_delays_no_beat(server: StoreServer) -> None:
    async with opened(server.url, "beats") as store:
        document = store.document("m")
        await document.commit(None)
        _, lock = store._of_documents  # type: ignore[attr-defined]
        async with lock:
            waiting = asyncio.create_task(document.commit(None))
            await asyncio.sleep(0)
            await store.commit(None)
            assert not waiting.done()
        await waiting


@pytest.mark.slow
@asynchronous
async def test_a_ramp_and_its_next_leader(server: StoreServer, tmp_path: Path) -> None:
    async with new_ramp(server, tmp_path, "a", "b") as fleet:
        for host in fleet.present:
            host.fail(3, candidate=False, weight_ppm=10_000)
        await fleet.ticks(2)
        assert counted(leader(fleet)) == {(0.01, False): 6}
        await fleet.run(60)
        fleet.silent.add(leader(fleet).name)
        await fleet.ticks(9)
        assert leader(fleet).weight == 10
        leader(fleet).fail(3, candidate=False, weight_ppm=100_000)
        await fleet.ticks(2)
        assert counted(leader(fleet)) == {(0.1, False): 3}
