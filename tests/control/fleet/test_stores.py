"""Both stores against real servers: what a transaction does, what it does not, and what comes of a server's faults."""

import asyncio
import itertools
import time
from collections.abc import Iterator
from random import Random

import pytest

from gateway.control.fleet.codec import decoded
from gateway.control.fleet.scripts import exchange, resume
from gateway.control.fleet.store import Change, RecordChange, Snapshot, StoreUnavailable, Transaction, transact
from gateway.control.fleet.store_state import Member, StoreState, Word
from tests.control.fleet.changes import (
    FIRST,
    beat_record,
    beats,
    counts,
    heard_within_s,
    listening,
    record,
    stops,
    until_available,
)
from tests.control.fleet.servers import EtcdServer, RedisServer, StoreServer, asynchronous, opened

SERVERS = {"redis": RedisServer, "etcd": EtcdServer}
NAMES = (
    "",
    "a",
    "a/members",
    "a/",
    "a}",
    "{a}",
    "nul\0nul",
    "Zürich 北京 🚀",
    "line\r\nbreak",
    "%2F",
    "a%",
    "*",
    "x" * 500,
)
numbers = itertools.count()


@pytest.fixture(scope="module", params=sorted(SERVERS))
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreServer]:
    with SERVERS[request.param](tmp_path_factory.mktemp(request.param)) as server:
        yield server


@pytest.fixture
def name() -> str:
    """A fleet without data."""
    return f"fleet {next(numbers)}"


@asynchronous
async def test_nothing_is_read_of_a_fleet_without_data(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store:
        snapshot = await store.commit(None)
        assert snapshot == Snapshot(False, snapshot.run_id, "", b"", {}) and snapshot.run_id
        assert await store.commit(None) == snapshot


@asynchronous
async def test_each_fleet_has_its_own_data_whatever_it_is_called(server: StoreServer) -> None:
    for number, name in enumerate(NAMES):
        async with opened(server.url, name) as store:
            assert not (await store.commit(None)).core, f"{name!r} has the data of another"
            await transact(store, None, stops(name, number + 1, incarnation=name))
    for number, name in enumerate(NAMES):
        async with opened(server.url, name) as store:
            _, state = await transact(store, None, lambda state: state)
            assert (dict(state.words), list(state.members)) == ({name: Word(1, 1)}, [name])
            assert state.members[name].beat == number + 1


def random_change(random: Random, hosts: str, beat: int, seen: StoreState) -> Change:
    """What one of the hosts may do that has seen that state: an exchange with stops, claims, drops; a resume."""
    host, release = random.choice(hosts), random.choice(["m/2/ab", "m/3/ab", "ü/1/\0"])
    if random.random() < 0.2:
        epoch = random.randrange(1, 4)
        return lambda state: resume(state, state.identity, release, epoch)[0]
    others = [name for name in seen.members if name != host]
    request = FIRST._replace(
        incarnation=host, name=host, beat=beat, leaving=random.random() < 0.1, settle=True, new_key="key",
        stops=(release,) if random.random() < 0.2 else (),
        claims={release: Word(random.randrange(1, 4), random.randrange(4))} if random.random() < 0.2 else {},
        holds={"holding": "host h"} if "holding" not in seen.members and random.random() < 0.2 else {},
        drops=tuple((name, seen.members[name].beat) for name in others if random.random() < 0.1),
    )  # fmt: skip
    return lambda state: exchange(state, request._replace(known=state.identity, applied=state.revision))[0]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 5))])
@asynchronous
async def test_transactions_do_what_the_pure_functions_do(server: StoreServer, name: str, seed: int) -> None:
    random = Random(seed)
    async with opened(server.url, name) as one, opened(server.url, name) as two:
        seen = {one: await one.commit(None), two: await two.commit(None)}
        expected = StoreState(seen[one].run_id)
        for beat in range(1, 151):
            store, hosts = random.choice([(one, "ab"), (two, "cü")])
            change = random_change(random, hosts, beat, decoded(seen[store]))
            expected = change(expected)
            seen[store], state = await transact(store, seen[store], change)
            assert state == expected, f"operation {beat} of seed {seed}"


@asynchronous
async def test_racing_clients_lose_nothing_and_do_nothing_twice(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as one, opened(server.url, name) as two, opened(server.url, name) as three:
        await asyncio.gather(
            *(transact(store, None, counts(f"word {number}"))
              for store in (one, two, three) for number in range(3)),
            *(transact(store, None, beats(1, f"host {number}{index}"))
              for index, store in enumerate((one, two, three)) for number in range(5)),
        )  # fmt: skip
        _, state = await transact(one, None, lambda state: state)
    assert state.words == {f"word {number}": Word(3, 0) for number in range(3)}
    assert state.revision == 9 and len(state.members) == 15


@asynchronous
async def test_a_transaction_on_old_data_changes_nothing_at_all(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store:
        await transact(store, None, stops("r", 1))
        now, _ = await transact(store, None, beats(1, "b"))
        a, b = now.members["a"], now.members["b"]
        new = Transaction(now.run_id, now.tag, b"new core", "newtag", (RecordChange("a", a, b"new a"),), True)
        refused = {
            "another life": new._replace(run_id="1-other"),
            "another life of the cluster": new._replace(run_id=now.run_id[:-1] + "-"),
            "stale tag": new._replace(tag="0123456789abcdef"),
            "no tag": new._replace(tag=""),
            "stale own record": new._replace(records=(RecordChange("a", b"old", b"new a"),)),
            "own record is there": new._replace(records=(RecordChange("a", None, b"new a"),)),
            "own record is gone": new._replace(records=(RecordChange("c", b"c", b"new c"),)),
            "stale drop": new._replace(records=(*new.records, RecordChange("b", a, None))),
            "drop of what is gone": new._replace(records=(*new.records, RecordChange("c", b"c", None))),
            "one of many": new._replace(records=(*new.records, RecordChange("b", b, b"b"), RecordChange("d", a, b"d"))),
            "stale beat": beat_record(now, b"old", b"new"),
        }  # fmt: skip
        for case, transaction in refused.items():
            assert await store.commit(transaction) == now._replace(committed=False), case
        after = await store.commit(new._replace(records=(*new.records, RecordChange("b", b, None))))
        assert after == Snapshot(True, now.run_id, "newtag", b"new core", {"a": b"new a"})


@asynchronous
async def test_beats_of_others_do_not_get_in_the_way(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as one, opened(server.url, name) as two:
        seen, _ = await transact(one, None, beats(1, "a"))
        await transact(two, None, beats(1, "b"))
        after = await one.commit(beat_record(seen, seen.members["a"], record(2)))
        assert after.committed and after.members["a"] == record(2) and "b" in after.members
        await transact(two, None, counts("word"))
        assert not (await one.commit(beat_record(after, record(2), record(3)))).committed  # the core is another


@asynchronous
async def test_records_may_be_any_bytes(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store:
        start = await store.commit(None)
        values = {"\0": b"\0\xff\r\n", "é": bytes(range(256)), "big": b"\xfe" * 300_000, "-": b"1"}
        records = tuple(RecordChange(incarnation, None, value) for incarnation, value in values.items())
        after = await store.commit(Transaction(start.run_id, "", b"\x00\xff core", "tag", records, False))
        assert after == Snapshot(True, start.run_id, "tag", b"\x00\xff core", values)
        async with opened(server.url, name) as other:
            assert await other.commit(None) == after._replace(committed=False)
        again = tuple(RecordChange(incarnation, value, None) for incarnation, value in values.items())
        assert (await store.commit(Transaction(start.run_id, "tag", None, "tag", again, False))).members == {}


@asynchronous
async def test_a_restart_keeps_the_data(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store:
        seen, state = await transact(store, None, stops("r", 1))
        server.kill()
        server.start()
        await until_available(store)
        after = await store.commit(beat_record(seen, seen.members["a"], seen.members["a"]))
        assert after.committed is server.keeps_run_id is (after.run_id == seen.run_id)
        _, kept = await transact(store, after, lambda state: state)
        assert kept._replace(run_id=state.run_id) == state


@asynchronous
async def test_data_deleted_is_another_life(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store:
        seen, _ = await transact(store, None, stops("r", 1))
        server.wipe()
        after = await store.commit(beat_record(seen, seen.members["a"], b"next"))
        assert (after.committed, after.tag, after.core, after.members) == (False, "", b"", {})
        _, state = await transact(store, after, beats(2))
        assert state.members == {"a": Member(2, 0, False, "host a")} and state.words == {}


@asynchronous
async def test_a_killed_server_is_unavailable_until_it_is_back(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store:
        await transact(store, None, stops("r", 1))
        server.kill()
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match=server.url):
                await store.commit(None)
        server.start()
        _, state = await transact(store, None, lambda state: state)
        assert state.words == {"r": Word(1, 1)}


@asynchronous
async def test_a_frozen_server_fails_the_call_and_never_answers_a_later_one(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as slow, opened(server.url, name, timeout_s=0.2) as store:
        seen, _ = await transact(slow, None, beats(1))
        await store.commit(None)
        for number in range(2):
            server.freeze()
            began = time.monotonic()
            late = beat_record(seen, seen.members["a"], b"late %d" % number)
            calls = (store.commit(late), store.commit(None), store.commit(None))
            answers = await asyncio.gather(*calls, return_exceptions=True)
            took_s = time.monotonic() - began
            server.thaw()
            assert [type(answer) for answer in answers] == 3 * [StoreUnavailable] and "0.2 s" in str(answers[0])
            assert 0.19 < took_s < 2
            read = await slow.commit(None)  # the late beat may have been carried out or not
            assert not read.committed and read.members["a"] in (seen.members["a"], late.records[0].after)
            seen = await slow.commit(beat_record(read, read.members["a"], b"on time %d" % number))
            if not seen.committed:  # the late beat was carried out only now
                assert seen.members["a"] == late.records[0].after
                seen = await slow.commit(beat_record(seen, seen.members["a"], b"on time %d" % number))
            assert seen.committed and seen.members == {"a": b"on time %d" % number}
            again = await until_available(store)
            assert again == seen._replace(committed=False)


@asynchronous
async def test_a_cancelled_call_leaves_no_reply_behind(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store:
        seen, _ = await transact(store, None, beats(1))
        for turns in range(30):  # cancelled in each state that it passes
            call = asyncio.create_task(store.commit(beat_record(seen, seen.members["a"], seen.members["a"])))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
            assert await store.commit(None) == seen._replace(committed=False)


@asynchronous
async def test_urgent_transactions_wake_the_other_hosts(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store, opened(server.url, name) as other:
        await listening(store, other)
        waiting = asyncio.create_task(store.wait_urgent())
        seen, _ = await transact(other, None, lambda state: state)
        for number in range(3):
            await other.commit(beat_record(seen, record(number) if number else None, record(number + 1), "b"))
        assert not (await asyncio.wait([waiting], timeout=0.1))[0], "a beat woke it"
        await transact(other, None, counts("word"))
        times_s = [await heard_within_s(waiting, time.monotonic())]
        for _ in range(5):
            waiting, began = asyncio.create_task(store.wait_urgent()), time.monotonic()
            await transact(other, None, counts("word"))
            times_s.append(await heard_within_s(waiting, began))
        assert min(times_s) < 0.1, times_s


@asynchronous
async def test_waiting_for_hints_outlives_the_server(server: StoreServer, name: str) -> None:
    async with opened(server.url, name) as store, opened(server.url, name) as other:
        await listening(store, other)
        waiting = asyncio.create_task(store.wait_urgent())
        server.kill()
        assert not (await asyncio.wait([waiting], timeout=0.3))[0], "it raised or returned without a server"
        server.start()
        await asyncio.wait_for(waiting, 30)  # a hint may have been missed
        await until_available(other)
        await listening(store, other)


@pytest.mark.slow
@asynchronous
async def test_a_large_fleet(server: StoreServer, name: str) -> None:
    members = {f"{number:032x}": Member(number, number, False, f"host-{number}") for number in range(1000)}
    words = {f"model-{number}/{number}/{number:064x}": Word(2, 1) for number in range(5000)}
    async with opened(server.url, name) as store, opened(server.url, name) as other:
        seen, _ = await transact(store, None, beats(1))
        for first in range(0, 1000, 100):  # etcd takes no more changes in one transaction
            part = dict(list(members.items())[first : first + 100])
            seen, _ = await transact(store, seen, lambda state, part=part: state._replace(members=state.members | part))
        seen, state = await transact(store, seen, lambda state: state._replace(words=words))
        times_s = []
        for number in range(2, 22):
            began = time.perf_counter()
            seen, state = await transact(store, seen, beats(number))
            times_s.append(time.perf_counter() - began)
        print(f"{server.url}: a beat among 1000 members and 5000 words: {sorted(times_s)[10] * 1e3:.0f} ms")
        assert len(state.members) == 1001 and state.words == words
        _, state = await transact(other, None, stops("model-1/1/x", 1, "b"))
        assert len(state.words) == 5001
