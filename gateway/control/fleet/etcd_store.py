"""The fleet's store in etcd, version 3.4 or later.

A fleet has the keys `gateway/NAME/...`: the core and its tag, a record for each member, one for hints, and its `life`,
which is random and made with the data. The run id is the cluster's id and the life, which each transaction compares, so
it goes on over restarts and elections, in which etcd loses nothing. A deleted prefix has no life.

A restored snapshot may have another cluster id. It has the same one if the cluster is restored with its old name and
token, and the life of then. But etcd's revisions are older then: a host finds that the revision is below one that it
has seen, or, if others have written much since, that its own record, which no one else writes, was last changed before
its own last beat. It begins a new life, and so the data counts as new for all. Only a host that had no contact since
the snapshot finds nothing, and its lease has ended.

A transaction that succeeded under another cluster id than its own counts as not carried out: it was compared with equal
data, so what it wrote is what this host would bring there anyway, and the caller begins anew from the data read.

etcd keeps all past values until it is told otherwise: start it with --auto-compaction-mode=periodic
--auto-compaction-retention=5m, else the beats fill its quota (about 100 MB a day with three hosts).
"""

import asyncio
import secrets
from collections.abc import Mapping
from contextlib import aclosing
from typing import Final, NamedTuple

from gateway.control.fleet.deadline import within
from gateway.control.fleet.etcd_client import EtcdClient
from gateway.control.fleet.etcd_messages import EtcdData, EtcdKeys, Message
from gateway.control.fleet.hints import Hints
from gateway.control.fleet.store import Snapshot, StoreUnavailable, Transaction
from gateway.settings.store_url import StoreUrl

IDLE_S: Final = 20.0  # then the watch begins anew, since a lost connection looks the same


class Seen(NamedTuple):
    """What this host knows of a life of the data: etcd's revision, and by incarnation that of the own last record."""

    run_id: str
    revision: int
    own: Mapping[str, int]


class EtcdDocument:
    """A Document. Its transactions go one after the other over `client`, which others may use under `lock`."""

    def __init__(self, url: StoreUrl, keys: EtcdKeys, timeout_s: float, client: EtcdClient, lock: asyncio.Lock) -> None:
        self._url = url
        self._keys = keys
        self._timeout_s = timeout_s
        self._client = client
        self._lock = lock
        self._tag, self._core = "", b""  # the latest ones known: the core is read again only if it has another tag
        self._seen = Seen("", 0, {})

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        """Carry out the transaction, or only read."""
        return await within(self._timeout_s, self._url.label, self._run(transaction))

    async def _run(self, transaction: Transaction | None) -> Snapshot:
        async with self._lock:
            if transaction is None:
                data = self._keys.data(await self._client.call("/v3/kv/range", self._keys.read()))
            else:
                data = await self._carried_out(transaction)
            if not data.life or self._went_back(data):
                begin = self._keys.begin_life(data.life, secrets.token_hex(8))
                data = self._keys.data(await self._client.call("/v3/kv/txn", begin))._replace(committed=False)
            self._note_seen(data, transaction)
            return data.snapshot

    async def _carried_out(self, transaction: Transaction) -> EtcdData:
        core_known = transaction.core is not None or transaction.tag == self._tag
        message: Message = self._keys.transaction(transaction, core_known=core_known)
        data = self._keys.data(await self._client.call("/v3/kv/txn", message))
        if data.committed and core_known:
            new = transaction.core is not None
            data = data._replace(
                life=transaction.run_id.partition("-")[2],
                tag=transaction.new_tag if new else transaction.tag,
                core=self._core if transaction.core is None else transaction.core,
            )
        return data._replace(committed=data.committed and data.run_id == transaction.run_id)

    def _went_back(self, data: EtcdData) -> bool:
        """Whether the data of this life is older than what this host has seen of it."""
        seen = self._seen
        own_is_older = any(data.written.get(name, revision) < revision for name, revision in seen.own.items())
        return data.run_id == seen.run_id and (data.revision < seen.revision or own_is_older)

    def _note_seen(self, data: EtcdData, transaction: Transaction | None) -> None:
        own = dict(self._seen.own) if data.run_id == self._seen.run_id else {}
        if data.committed and transaction is not None:
            for incarnation, _, after in transaction.records:
                own.pop(incarnation, None)
                if after is not None:
                    own[incarnation] = data.revision
        self._seen = Seen(data.run_id, data.revision, own)
        self._tag, self._core = data.tag, data.core


class EtcdStore(EtcdDocument):
    """A FleetStore: hints, and transactions of other documents, have connections of their own.

    `timeout_s`: for each call as a whole, connecting and waiting for earlier calls included.
    """

    def __init__(self, url: StoreUrl, name: str, timeout_s: float) -> None:
        super().__init__(url, EtcdKeys(name), timeout_s, EtcdClient(url, timeout_s), asyncio.Lock())
        self._name = name
        self._watcher = EtcdClient(url, timeout_s)
        self._of_documents = EtcdClient(url, timeout_s), asyncio.Lock()
        self._hints = Hints(self._listen)

    def document(self, name: str) -> EtcdDocument:
        """Another document of the fleet."""
        return EtcdDocument(self._url, EtcdKeys(self._name, name), self._timeout_s, *self._of_documents)

    async def wait_urgent(self) -> None:
        """Return after another host's urgent transaction, or if one may have been missed. Waits through outages."""
        await self._hints.wait()

    async def close(self) -> None:
        """Close all connections."""
        await self._hints.close()
        for client in (self._client, self._watcher, self._of_documents[0]):
            await client.close()

    async def _listen(self, hints: Hints) -> None:
        while True:
            async with aclosing(self._watcher.results("/v3/watch", self._keys.watch(), IDLE_S)) as results:
                await within(self._timeout_s, self._url.label, anext(results))  # it is there
                hints.connected()
                async for result in results:
                    if result.get("canceled"):
                        raise StoreUnavailable(f"{self._url.label}: it has ended the watch")
                    hints.notify()
