"""The fleet's store in Redis or Valkey.

The data of a fleet is in two hashes, `{gateway:NAME}:core` and `{gateway:NAME}:members`, and in two such hashes for
each other document, `{gateway:NAME}:document:DOCUMENT:...`. A new run id says that data
may be lost: it changes with a restart, and when a replica is promoted. The proof of the fleet's stop holds on a single
primary with `appendfsync always`; otherwise a crash may lose what was written last. The keys have no time to live; with
a maxmemory-policy of allkeys-* a full server deletes them, as a FLUSHALL would: set noeviction.
"""

import asyncio
import logging
from typing import Final

from redis.exceptions import NoScriptError

from gateway.control.fleet.deadline import within
from gateway.control.fleet.hints import Hints
from gateway.control.fleet.redis_connection import RedisConnection
from gateway.control.fleet.redis_script import SCRIPT, SHA, Keys, ScriptReply, arguments, document_keys, keys_of, parsed
from gateway.control.fleet.store import Snapshot, Transaction
from gateway.settings.store_url import StoreUrl

log: Final = logging.getLogger("gateway.control.fleet")
IDLE_S: Final = 5.0  # then a PING finds out whether the connection still exists


class RedisDocument:
    """A Document. Its transactions go one after the other over `connection`, which others may use under `lock`."""

    def __init__(
        self, url: StoreUrl, keys: Keys, timeout_s: float, connection: RedisConnection, lock: asyncio.Lock
    ) -> None:
        self._label = url.label
        self._keys = keys
        self._timeout_s = timeout_s
        self._connection = connection
        self._lock = lock
        self._tag, self._core = "", b""  # the latest ones known: the core is sent back only if it has another tag
        self._unheard = ""

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        """Carry out the transaction, or only read."""
        reply = await within(self._timeout_s, self._label, self._run(transaction))
        self._note_unheard(reply.unheard)
        return reply.snapshot

    async def _run(self, transaction: Transaction | None) -> ScriptReply:
        async with self._lock:
            words = arguments(self._keys, self._tag, transaction)
            try:
                reply = await self._connection.call("EVALSHA", SHA, *words)
            except NoScriptError:  # the server is new to it, or has lost it
                reply = await self._connection.call("EVAL", SCRIPT, *words)
            result = parsed(reply, self._core, transaction)
            self._tag, self._core = result.snapshot.tag, result.snapshot.core
            return result

    def _note_unheard(self, why: str) -> None:
        if why and why != self._unheard:
            self._unheard = why
            log.warning("fleet: %s: other hosts learn of changes only with their next beat: %s", self._label, why)


class RedisStore(RedisDocument):
    """A FleetStore: its own transactions over a connection, those of other documents over another, hints over a third.

    `timeout_s`: for each call as a whole, connecting and waiting for earlier calls included.
    """

    def __init__(self, url: StoreUrl, name: str, timeout_s: float) -> None:
        super().__init__(url, keys_of(name), timeout_s, RedisConnection(url, timeout_s), asyncio.Lock())
        self._url = url
        self._name = name
        self._of_documents = RedisConnection(url, timeout_s), asyncio.Lock()
        self._hints = Hints(self._listen)

    def document(self, name: str) -> RedisDocument:
        """Another document of the fleet."""
        return RedisDocument(self._url, document_keys(self._name, name), self._timeout_s, *self._of_documents)

    async def wait_urgent(self) -> None:
        """Return after another host's urgent transaction, or if one may have been missed. Waits through outages."""
        await self._hints.wait()

    async def close(self) -> None:
        """Close all connections."""
        await self._hints.close()
        await self._connection.drop()
        await self._of_documents[0].drop()

    async def _listen(self, hints: Hints) -> None:
        connection = RedisConnection(self._url, self._timeout_s)
        try:
            subscribed = connection.call("SUBSCRIBE", keys_of(self._name)[2])
            await within(self._timeout_s, self._url.label, subscribed)
            hints.connected()
            await self._hear(connection, hints)
        finally:
            await connection.drop()

    async def _hear(self, connection: RedisConnection, hints: Hints) -> None:
        while True:
            message = await connection.read(IDLE_S)
            if message is None:
                message = await within(self._timeout_s, self._url.label, connection.call("PING"))
            if message[0] == b"message":
                hints.notify()
