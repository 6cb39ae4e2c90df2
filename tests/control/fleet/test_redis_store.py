"""What only Redis has: users, roles, a full memory, fail-over, and what its errors say."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from gateway.control.fleet import redis_store
from gateway.control.fleet.redis_connection import explained
from gateway.control.fleet.store import FleetStore, RecordChange, Snapshot, StoreUnavailable, Transaction, transact
from gateway.control.fleet.stores import open_store
from gateway.errors import SettingsError
from gateway.settings import extras
from loadtests.free_port import free_port
from tests.control.fleet.changes import beats, counts, listening, stops, until_available
from tests.control.fleet.servers import RedisServer, SentinelServer, asynchronous, opened

SECRET = "hunter2#/?@: é"
QUOTED = "hunter2%23%2F%3F%40%3A%20%C3%A9"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(shared: RedisServer) -> RedisServer:
    """A Redis without data and with its usual settings, which a test may change."""
    shared.wipe()
    for name, value in (("maxmemory", "0"), ("min-replicas-to-write", "0")):
        assert shared.send("CONFIG", "SET", name, value) == "+OK"
    assert shared.send("REPLICAOF", "NO", "ONE") == "+OK"
    return shared


async def error_of(url: str) -> str:
    """The text with which a change fails."""
    async with opened(url) as store:
        with pytest.raises(StoreUnavailable) as error:
            await transact(store, None, beats(1))
        return str(error.value)


@asynchronous
async def test_a_password_is_given_in_the_url_and_never_told(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--requirepass", SECRET) as server:
        server.password = SECRET
        address = f"127.0.0.1:{server.port}"
        async with opened(f"redis://:{QUOTED}@{address}") as store:
            await transact(store, None, beats(1))
        async with opened(f"redis://default:{QUOTED}@{address}/3") as store:
            assert (await store.commit(None)).members == {}  # another database
        for url in (f"redis://{address}", f"redis://:wrong-{QUOTED}@{address}", f"redis://me:{QUOTED}@{address}"):
            text = await error_of(url)
            assert text.startswith(f"redis://{address}: ") and "give it in the URL" in text
            assert "hunter2" not in text and "wrong" not in text


@asynchronous
async def test_a_password_that_is_not_needed(redis: RedisServer) -> None:
    text = await error_of(f"redis://:{QUOTED}@127.0.0.1:{redis.port}")
    assert "take it out of the URL" in text and "hunter2" not in text


@asynchronous
async def test_a_server_that_refuses_writes_changes_nothing(redis: RedisServer) -> None:
    async with opened(redis.url) as store:
        before, _ = await transact(store, None, beats(1))
        refusals = (("maxmemory", "1", "its memory is full"), ("min-replicas-to-write", "1", "min-replicas-to-write"))
        for setting, value, remedy in refusals:
            redis.send("CONFIG", "SET", setting, value)
            with pytest.raises(StoreUnavailable, match=remedy):
                await transact(store, before, stops("r", 2))
            assert await store.commit(None) == before._replace(committed=False)
            redis.send("CONFIG", "SET", setting, "0")
        _, state = await transact(store, before, stops("r", 2))
        assert state.members["a"].beat == 2 and "r" in state.words


@asynchronous
async def test_a_full_memory_takes_all_of_a_transaction_or_nothing(redis: RedisServer) -> None:
    async with opened(redis.url) as store:
        await transact(store, None, beats(1))
        now, _ = await transact(store, None, beats(1, "b"))
        redis.send("CONFIG", "SET", "maxmemory", "1")
        records = (RecordChange("a", now.members["a"], b"next"), RecordChange("b", now.members["b"], None))
        after = await store.commit(Transaction(now.run_id, now.tag, b"core", "tag", records, True))
        assert after == Snapshot(True, now.run_id, "tag", b"core", {"a": b"next"})  # what frees memory may go on


@asynchronous
async def test_keys_of_another_program_are_not_touched(redis: RedisServer) -> None:
    for key in ("core", "members"):
        redis.wipe()
        redis.send("SET", f"{{gateway:test}}:{key}", "theirs")
        assert "choose another fleet.name" in await error_of(redis.url)
        assert redis.send("DBSIZE") == ":1"


@asynchronous
async def test_a_replica_is_refused_and_a_promotion_is_another_life(redis: RedisServer, tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--replicaof", "127.0.0.1", str(redis.port)) as other:
        async with opened(redis.url) as store, opened(other.url) as second:
            seen, _ = await transact(store, None, beats(1))
            assert "name the primary" in await error_of(other.url)
            with pytest.raises(StoreUnavailable, match="replica"):
                await second.commit(None)
            lives = {seen.run_id}
            for promoted in (other, redis, other, redis):  # without a restart, so each process keeps its id
                deposed = redis if promoted is other else other
                promoted.send("REPLICAOF", "NO", "ONE")
                deposed.send("REPLICAOF", "127.0.0.1", str(promoted.port))
                lives.add((await until_available(second if promoted is other else store)).run_id)
                await replicated(promoted)
            assert len(lives) == 5


async def replicated(primary: RedisServer) -> None:
    """Return once a replica has what the primary has."""
    while primary.send("WAIT", "1", "1000", after=("SET", "marker", "1")) != ":1":
        await asyncio.sleep(0.01)


@asynchronous
async def test_a_server_that_has_lost_the_script_is_given_it_again(redis: RedisServer) -> None:
    async with opened(redis.url) as store:
        await transact(store, None, beats(1))
        redis.send("SCRIPT", "FLUSH")
        _, state = await transact(store, None, beats(2))
        assert state.members["a"].beat == 2


@asynchronous
async def test_a_user_without_the_channel_is_warned_of_once(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis.send("ACL", "SETUSER", "fleet", "on", ">pw", "~{gateway:*", "resetchannels", "+@all")
    async with opened(f"redis://fleet:pw@127.0.0.1:{redis.port}") as store:
        for number in range(3):
            await transact(store, None, counts(f"word {number}"))
    warnings = [record.message for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1 and "next beat" in warnings[0]


@asynchronous
async def test_a_user_with_the_permissions_that_the_error_names(redis: RedisServer) -> None:
    redis.send("ACL", "SETUSER", "poor", "on", ">pw", "~{gateway:*")
    url = f"redis://poor:pw@127.0.0.1:{redis.port}"
    text = await error_of(url)
    assert "ACL SETUSER" in text
    redis.send("ACL", "SETUSER", "poor", *text.partition("ACL SETUSER USER ")[2].split())
    async with opened(url) as store, opened(url) as other:
        await listening(store, other)
        await transact(store, None, beats(1))
        _, state = await transact(store, None, lambda state: state._replace(members={}))
        assert not state.members


@asynchronous
async def test_a_connection_closed_by_the_server_is_opened_anew(redis: RedisServer) -> None:
    async with opened(redis.url) as store:
        await transact(store, None, beats(1))
        redis.send("CLIENT", "KILL", "TYPE", "normal")
        await until_available(store)


@asynchronous
async def test_silence_is_told_from_a_lost_connection(redis: RedisServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis_store, "IDLE_S", 0.01)
    async with opened(redis.url, timeout_s=0.3) as store, opened(redis.url) as other:
        await listening(store, other)
        redis.freeze()
        waiting = asyncio.create_task(store.wait_urgent())
        await asyncio.wait([waiting], timeout=0.6)
        redis.thaw()
        await asyncio.wait_for(waiting, 30)


@asynchronous
async def test_a_unix_socket(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "--unixsocket", str(tmp_path / "socket")):
        async with opened(f"unix://{tmp_path}/socket?db=2") as store:
            _, state = await transact(store, None, beats(1))
            assert state.members
    assert await error_of(f"unix://{tmp_path}/socket") != ""


@asynchronous
async def test_tls_needs_a_certificate_of_the_authority(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    with RedisServer(tmp_path) as server:
        files = ("tls-cert-file", "cert.pem"), ("tls-key-file", "key.pem"), ("tls-ca-cert-file", "ca.pem")
        words = [word for name, file in files for word in (name, str(tmp_path / file))]
        port = free_port()
        assert server.send("CONFIG", "SET", *words, "tls-port", str(port), "tls-auth-clients", "optional") == "+OK"
        async with opened(f"rediss://127.0.0.1:{port}?ca={tmp_path}/ca.pem") as store:
            await transact(store, None, beats(1))
        assert "?ca=FILE" in await error_of(f"rediss://127.0.0.1:{port}")
        assert "missing.pem" in await error_of(f"rediss://127.0.0.1:{port}?ca={tmp_path}/missing.pem")


@pytest.mark.slow
@asynchronous
async def test_sentinels_lead_to_the_new_primary_which_is_another_life(tmp_path: Path) -> None:
    with (
        RedisServer(tmp_path / "one") as one,
        RedisServer(tmp_path / "two", "--replicaof", "127.0.0.1", str(one.port)),
        SentinelServer(tmp_path / "sentinel", one) as sentinel,
    ):
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/fleet"
        async with opened(url) as store, opened(url) as other:
            before, state = await transact(store, None, stops("r", 1))
            await listening(store, other)
            await replicated(one)
            while sentinel.send("SENTINEL", "REPLICAS", "fleet") == "*0":
                await asyncio.sleep(0.1)
            waiting = asyncio.create_task(store.wait_urgent())
            one.kill()
            with pytest.raises(StoreUnavailable):
                await store.commit(None)
            after = await elected(store)
            assert after.run_id != before.run_id and not after.committed
            _, kept = await transact(store, after, lambda state: state)
            assert kept.words["r"] == state.words["r"]
            await asyncio.wait_for(waiting, 30)
            assert "no sentinel knows a primary named other" in await error_of(url.replace("/fleet", "/other"))


async def elected(store: FleetStore) -> Snapshot:
    """The first read of the new primary."""
    while True:
        try:
            return await store.commit(None)
        except StoreUnavailable:
            await asyncio.sleep(0.1)


def test_what_servers_say_while_they_load_or_cannot_write() -> None:
    assert "which passes" in explained(Exception("Redis is loading the dataset in memory"))
    assert "its log" in explained(Exception("MISCONF Redis is configured to save RDB snapshots, but ..."))
    assert explained(OSError()) == "OSError"


def test_without_redis_py_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    with pytest.raises(SettingsError, match=r"pip install 'canary-gateway\[fleet\]'"):
        open_store("redis://localhost", "a", 1.0)
    open_store("etcd://localhost", "a", 1.0)
