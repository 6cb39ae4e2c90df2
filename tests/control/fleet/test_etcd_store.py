"""What only etcd has: users, several endpoints, a quota, restored snapshots, and what its errors say."""

import asyncio
import shutil
import socket
from base64 import b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from gateway.control.fleet import etcd_store
from gateway.control.fleet.store import RecordChange, StoreUnavailable, Transaction, transact
from tests.control.fleet.changes import beat_record, beats, listening, record, stops, until_available
from tests.control.fleet.servers import EtcdServer, TlsEtcdServer, asynchronous, opened

SECRET = "hunter2#/?@: é"
QUOTED = "hunter2%23%2F%3F%40%3A%20%C3%A9"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EtcdServer]:
    with EtcdServer(tmp_path_factory.mktemp("etcd")) as server:
        yield server


@pytest.fixture
def etcd(shared: EtcdServer) -> EtcdServer:
    """An etcd without data."""
    shared.wipe()
    return shared


def base64_of(text: str | bytes) -> str:
    return b64encode(text if isinstance(text, bytes) else text.encode()).decode()


async def error_of(url: str) -> str:
    """The text with which a change fails."""
    async with opened(url) as store:
        with pytest.raises(StoreUnavailable) as error:
            await transact(store, None, beats(1))
        return str(error.value)


@pytest.mark.slow
@asynchronous
async def test_a_user_is_given_in_the_url_and_the_password_never_told(tmp_path: Path) -> None:
    with EtcdServer(tmp_path) as server:
        for call, message in (
            ("auth/user/add", {"name": "root", "password": SECRET}),
            ("auth/user/add", {"name": "poor", "password": SECRET}),
            ("auth/role/add", {"name": "root"}),
            ("auth/user/grant", {"user": "root", "role": "root"}),
            ("auth/enable", {}),
        ):
            server.send(call, message)
        address = f"127.0.0.1:{server.port}"
        async with (
            opened(f"etcd://root:{QUOTED}@{address}") as store,
            opened(f"etcd://root:{QUOTED}@{address}") as other,
        ):
            await transact(store, None, beats(1))
            await listening(store, other)
            server.kill()
            server.start()  # it has forgotten all tokens
            await until_available(store)
            await listening(store, other)
        for url, remedy in (
            (f"etcd://{address}", "give user:password@ in the URL"),
            (f"etcd://root:wrong-{QUOTED}@{address}", "give it in the URL"),
            (f"etcd://nobody:{QUOTED}@{address}", "give it in the URL"),
            (f"etcd://poor:{QUOTED}@{address}", "readwrite on the prefix gateway/"),
        ):
            text = await error_of(url)
            assert text.startswith(f"etcd://{address}: ") and remedy in text
            assert "hunter2" not in text and "wrong" not in text


@asynchronous
async def test_a_user_that_is_not_needed(etcd: EtcdServer) -> None:
    text = await error_of(f"etcd://me:{QUOTED}@127.0.0.1:{etcd.port}")
    assert "take the user out of the URL" in text and "hunter2" not in text


@asynchronous
async def test_a_full_quota_is_told_with_the_remedy(tmp_path: Path) -> None:
    """The transaction that exceeds it may have been carried out: etcd looks before it, and says so after it."""
    with EtcdServer(tmp_path, "--quota-backend-bytes", "600000") as server:
        async with opened(server.url) as store:
            before, _ = await transact(store, None, beats(1))
            with pytest.raises(StoreUnavailable, match="auto-compaction-retention"):
                for _ in range(30):
                    tried = before.members["a"] + b" " * 100_000
                    before = await store.commit(beat_record(before, before.members["a"], tried))
            found = await store.commit(None)
            assert found.members["a"] in (before.members["a"], tried)
            assert found._replace(members={}) == before._replace(committed=False, members={})


@asynchronous
async def test_what_exceeds_etcds_limits_is_said(etcd: EtcdServer) -> None:
    async with opened(etcd.url) as store:
        start = await store.commit(None)
        many = tuple(RecordChange(f"{number}", None, b"1") for number in range(200))
        for records, option in (
            (many, "--max-txn-ops"),
            ((RecordChange("a", None, b" " * 2_000_000),), "--max-request-bytes"),
            ((RecordChange("a", None, b" " * 3_000_000),), "--max-request-bytes"),
        ):
            with pytest.raises(StoreUnavailable, match=option):
                await store.commit(Transaction(start.run_id, "", None, "", records, False))
        assert (await store.commit(None)).members == {}


@asynchronous
async def test_the_next_endpoint_is_asked_when_one_is_down(etcd: EtcdServer) -> None:
    async with opened(f"etcd://127.0.0.1:1,127.0.0.1:{etcd.port},[::1]:1") as store, opened(etcd.url) as other:
        for number in range(4):
            _, state = await transact(store, None, beats(number + 1))
            assert state.members["a"].beat == number + 1
        await listening(store, other)
    text = await error_of("etcd://127.0.0.1:1,[::1]:1")
    assert text.startswith("etcd://127.0.0.1:1,[::1]:1: ")


@pytest.mark.slow
@asynchronous
async def test_the_next_endpoint_is_asked_after_one_that_does_not_answer(etcd: EtcdServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"etcd://127.0.0.1:{silent.getsockname()[1]},127.0.0.1:{etcd.port}"
        async with opened(url, timeout_s=1) as store, opened(etcd.url) as other:
            with pytest.raises(StoreUnavailable, match="no answer within 1 s"):
                await store.commit(None)
            await until_available(store)
            await listening(store, other)


@pytest.mark.parametrize("answer", [b"<html>", b"[]", b"{}", b""])
@asynchronous
async def test_what_is_no_etcd_is_said(answer: bytes) -> None:
    async def reply(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(answer), answer))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(reply, "127.0.0.1", 0) as server:
        text = await error_of(f"etcd://127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert "is no etcd" in text


def restore(server: EtcdServer, copy: Path) -> None:
    """Put an old copy of the data in the place of the present one; the cluster keeps its id."""
    server.kill()
    shutil.rmtree(server.folder / "data")
    shutil.copytree(copy, server.folder / "data")
    server.start()


def take_copy(server: EtcdServer, copy: Path) -> None:
    server.kill()
    shutil.copytree(server.folder / "data", copy)
    server.start()


@pytest.mark.slow
@pytest.mark.parametrize("others_beats", [0, 30])
@asynchronous
async def test_restored_data_is_another_life(tmp_path: Path, others_beats: int) -> None:
    with EtcdServer(tmp_path / "etcd") as server:
        async with opened(server.url) as store, opened(server.url) as other:
            first, _ = await transact(store, None, beats(1))
            take_copy(server, tmp_path / "copy")
            await until_available(store)
            for number in range(2, 5):
                seen, _ = await transact(store, None, beats(number))
            assert seen.run_id == first.run_id
            restore(server, tmp_path / "copy")
            await until_available(other)
            for number in range(others_beats):  # by a host without knowledge: until etcd's revision is as high again
                unsuspecting, _ = await transact(other, None, beats(number + 1, "b"))
                assert unsuspecting.run_id == first.run_id
            found = await until_available(store)
            assert found.run_id.partition("-")[0] == first.run_id.partition("-")[0]
            assert found.run_id != first.run_id and found.members["a"] == first.members["a"]
            assert (await other.commit(None)).run_id == found.run_id  # of all hosts
            after, state = await transact(store, found, stops("r", 5))
            assert after.run_id == found.run_id and state.members["a"].beat == 5


@pytest.mark.slow
@asynchronous
async def test_a_host_that_joined_after_the_copy_finds_that_data_is_lost(tmp_path: Path) -> None:
    with EtcdServer(tmp_path / "etcd") as server:
        async with opened(server.url) as store, opened(server.url) as late:
            await transact(store, None, beats(1))
            take_copy(server, tmp_path / "copy")
            await until_available(late)
            before, _ = await transact(late, None, stops("r", 1, "late"))
            restore(server, tmp_path / "copy")
            found = await until_available(late)
            assert found.run_id != before.run_id and "late" not in found.members


@pytest.mark.slow
@asynchronous
async def test_a_copy_that_lacks_nothing_is_the_same_life(tmp_path: Path) -> None:
    with EtcdServer(tmp_path / "etcd") as server:
        async with opened(server.url) as store:
            seen, _ = await transact(store, None, beats(1))
            take_copy(server, tmp_path / "copy")
            restore(server, tmp_path / "copy")
            await until_available(store)
            after = await store.commit(beat_record(seen, seen.members["a"], record(2)))
            assert after.committed and after.run_id == seen.run_id


@asynchronous
async def test_data_of_another_cluster_is_never_committed(tmp_path: Path) -> None:
    with EtcdServer(tmp_path / "old") as server, EtcdServer(tmp_path / "other", "--initial-cluster-token", "b") as new:
        async with opened(server.url) as store, opened(new.url) as other:
            seen, _ = await transact(store, None, beats(1))
            await other.commit(None)
            for key in ("life", "tag", "core"):
                pair = server.send("kv/range", {"key": base64_of(f"gateway/test/{key}")})["kvs"][0]
                new.send("kv/put", {"key": pair["key"], "value": pair["value"]})
            new.send("kv/put", {"key": base64_of("gateway/test/members/a"), "value": base64_of(seen.members["a"])})
            after = await other.commit(beat_record(seen, seen.members["a"], record(2)))
            life = seen.run_id.partition("-")[2]
            assert not after.committed and after.run_id.endswith(life) and after.run_id != seen.run_id
            assert after.members == {"a": record(2)}  # it was compared with equal data
            assert (after.tag, after.core) == (seen.tag, seen.core)


@pytest.mark.slow
@asynchronous
async def test_a_watch_begins_anew_after_silence(etcd: EtcdServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(etcd_store, "IDLE_S", 0.3)
    async with opened(etcd.url) as store, opened(etcd.url) as other:
        await listening(store, other)
        for _ in range(3):
            await asyncio.wait_for(store.wait_urgent(), 30)  # a hint may have been missed
        await listening(store, other)


@asynchronous
async def test_tls_with_certificates_of_both(tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    for role, identity in (("server", "127.0.0.1"), ("client", "gateway")):
        issued = authority.issue_cert(identity)
        issued.private_key_pem.write_to_path(tmp_path / f"{role}.key")
        issued.cert_chain_pems[0].write_to_path(tmp_path / f"{role}.pem")
    files = ("--cert-file", "server.pem"), ("--key-file", "server.key"), ("--trusted-ca-file", "ca.pem")
    options = [word for name, file in files for word in (name, str(tmp_path / file))]
    with TlsEtcdServer(tmp_path, *options, "--client-cert-auth") as server:
        ours = f"cert={tmp_path}/client.pem&key={tmp_path}/client.key"
        async with opened(f"{server.url}?ca={tmp_path}/ca.pem&{ours}") as store:
            await transact(store, None, beats(1))
        assert "?ca=FILE" in await error_of(server.url)
        await error_of(f"{server.url}?ca={tmp_path}/ca.pem")
        assert "missing.pem" in await error_of(f"{server.url}?ca={tmp_path}/missing.pem")
