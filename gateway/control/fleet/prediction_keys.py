"""The keys that sign prediction ids, shared by all hosts, so that any of them credits feedback on any prediction.

Each host brings its keys to the store and verifies with all that are there. One of them signs on all hosts: the newest
that every host in contact has had time to read. The store is not needed to serve: a host keeps all keys in its state
folder, and without contact it signs and verifies with those. Keys of hosts that have left stay. Whoever can read the
store can forge feedback, as whoever can write it can stop and release candidates.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import orjson

from gateway.control.fleet.store import OwnDocument, Snapshot, StoreUnavailable, Transaction
from gateway.control.fleet.timing import Timing
from gateway.records.token_keys import (
    MAX_KEYS,
    ROTATE_AFTER_S,
    TokenKey,
    TokenKeys,
    document_of,
    keys_of,
    new_key,
    write_keys,
)

PROTOCOL: Final = 1
TICK_S: Final = 1.0
RIPE_S: Final = 10 * TICK_S  # from when a host has read a key until it signs with it: others have read it by then
SUFFIX: Final = ":keys"  # of the fleet's name in the store
log: Final = logging.getLogger("gateway.control.fleet")


class PredictionKeys:
    """`own`: from the state folder's `file`. `adopt`: puts keys into force here. `in_use`: whether something may have
    been signed with a key that this process has made. `clock`: monotonic seconds; `now_s`: since 1970.

    `problem`: why keys are not exchanged, or not kept on disk; empty if they are.
    """

    def __init__(
        self,
        store: OwnDocument,
        timing: Timing,
        own: TokenKeys,
        file: Path,
        adopt: Callable[[TokenKeys], None],
        in_use: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self._store = store
        self._timeout_s = timing.lease_ns / 1e9
        self.keys = own
        self._file = file
        self._adopt = adopt
        self._in_use = in_use
        self._clock = clock
        self._now_s = now_s
        self._ripe_s = dict.fromkeys((key.secret for key in own.keys), clock())
        self._has_read = False
        self._on_disk = own.keys
        self.problem = "the store has not answered yet"

    async def run_forever(self) -> None:
        """Exchange keys, until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """One exchange."""
        try:
            async with asyncio.timeout(self._timeout_s):
                found = await self._exchange()
            self._put(found)
            await self._keep(found)
        except (StoreUnavailable, TimeoutError, ValueError, OSError) as error:
            problem = str(error) or "the store did not answer in time"
            if problem != self.problem:
                log.warning("the fleet's keys of prediction ids: %s; feedback on new keys' ids may be refused", problem)
            self.problem = problem
        else:
            self.problem = ""

    async def close(self) -> None:
        """Close the store. Nothing else may be under way."""
        await self._store.close()

    async def _exchange(self) -> Sequence[TokenKey]:
        """Bring this host's keys to the store; returns all that are there then."""
        snapshot = await self._store.commit(None)
        while True:
            stored = stored_keys(snapshot.core)
            found = merged(stored, self._brought(stored))
            if not found or self._is_old(found[-1]):
                found = merged(found, [new_key(found, self._now_s())])
            if found == stored:
                return found
            snapshot = await self._store.commit(_change(snapshot, found))
            if snapshot.committed:
                return found

    def _brought(self, stored: Sequence[TokenKey]) -> Sequence[TokenKey]:
        """This host's keys, without the one just made if the fleet has one and nothing is signed with it yet: so hosts
        that come and go add no keys.
        """
        keys = self.keys
        unused = keys.made and not self._in_use()
        return keys.keys[:-1] if unused and stored and not self._is_old(stored[-1]) else keys.keys

    def _is_old(self, key: TokenKey) -> bool:
        return self._now_s() - key.created_s > ROTATE_AFTER_S

    def _put(self, found: Sequence[TokenKey]) -> None:
        """Put keys into force, the one that signs last."""
        now_s = self._clock()
        ripe_s = now_s + RIPE_S if self._has_read else now_s
        self._has_read = True
        for key in found:
            self._ripe_s.setdefault(key.secret, ripe_s)
        if self.keys.made and self.keys.current.secret not in {key.secret for key in found} and self._in_use():
            found = [*found, self.keys.current]  # a worker became ready meanwhile: it goes to the store with the next
        ripe = [key for key in found if self._ripe_s[key.secret] <= now_s]
        signing = ripe[-1] if ripe else self.keys.current
        in_force = (*(key for key in found if key.secret != signing.secret), signing)
        if in_force != self.keys.keys:
            self.keys = TokenKeys(in_force, made=self.keys.made and signing.secret == self.keys.current.secret)
            self._adopt(self.keys)

    async def _keep(self, found: Sequence[TokenKey]) -> None:
        if self.keys.keys == self._on_disk:
            return
        keys = self.keys.keys
        try:
            await asyncio.to_thread(write_keys, self._file, keys)
        except OSError as error:
            raise OSError(f"{self._file} cannot be written: {error.strerror}") from None
        self._on_disk = keys


def merged(some: Sequence[TokenKey], more: Iterable[TokenKey]) -> Sequence[TokenKey]:
    """The newest keys of both by their dates, the newest last. Of two dates of a key the earlier one holds: a later
    one came from a clock that was ahead. The same whatever is merged first, and however often.
    """
    keys: dict[bytes, TokenKey] = {}
    for key in (*some, *more):
        known = keys.get(key.secret)
        if known is None or key.created_s < known.created_s:
            keys[key.secret] = key
    return sorted(keys.values(), key=lambda key: (key.created_s, key.secret))[-MAX_KEYS:]


def stored_keys(core: bytes) -> Sequence[TokenKey]:
    """The keys in the store. Raises ValueError, with a remedy, if the data is damaged or of another protocol."""
    if not core:
        return []
    try:
        document = orjson.loads(core)
        if document["protocol"] != PROTOCOL:
            raise ValueError(f"they are of protocol {document['protocol']}, this gateway knows {PROTOCOL}")
        return keys_of(document["keys"])
    except (ValueError, TypeError, KeyError) as error:
        problem = f"the keys in the store cannot be read ({type(error).__name__}: {error})"
        raise ValueError(f"{problem}; choose another fleet.name, or delete the data") from None


def _change(snapshot: Snapshot, keys: Sequence[TokenKey]) -> Transaction:
    core = orjson.dumps({"protocol": PROTOCOL, "keys": document_of(keys)})
    return Transaction(snapshot.run_id, snapshot.tag, core, secrets.token_hex(8), (), urgent=False)
