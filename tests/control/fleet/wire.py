"""A host's connection to the store, on which a test can hold, lose and delay messages."""

import asyncio
from collections.abc import Callable

import orjson

from gateway.control.fleet.store import Document, FleetStore, Snapshot, StoreUnavailable, Transaction

When = Callable[[Transaction], bool]


def begins(release: str, epoch: int) -> When:
    """Whether a transaction leaves the release in this epoch, not stopped."""

    def when(transaction: Transaction) -> bool:
        if transaction.core is None:
            return False
        words = orjson.loads(transaction.core)["words"]
        return bool(words.get(release) == [epoch, epoch - 1])

    return when


def changes_core(transaction: Transaction) -> bool:
    """Whether it is more than a beat."""
    return transaction.core is not None


class Held:
    """A commit that does not go as usual. `reached`: it has been made. `go`: let it, or its reply, pass."""

    def __init__(self, when: When, how: str) -> None:
        self.when = when
        self.how = how
        self.reached = asyncio.Event()
        self.go = asyncio.Event()
        self.transaction: Transaction | None = None


class Wire:
    """A host's connection to the real store. Can hold a commit before it is sent, hold its reply, or lose it."""

    def __init__(self, store: FleetStore) -> None:
        self._store = store
        self._held: list[Held] = []
        self.cut = False
        self.log_replies_to_lose = 0
        self.cut_documents = False
        self.ended = False
        self.held_digest: Held | None = None
        self.replies_to_lose = 0  # of the next digests
        self.fault: Exception | None = None  # raised instead of an answer

    def hold_request(self, when: When) -> Held:
        return self._plan(Held(when, "request"))

    def hold_reply(self, when: When) -> Held:
        return self._plan(Held(when, "reply"))

    def lose(self, when: When) -> Held:
        """The next such commit is not sent until it is delivered, and fails at once."""
        return self._plan(Held(when, "lose"))

    def lose_reply(self, when: When) -> Held:
        """The next such commit is carried out, and its reply lost."""
        return self._plan(Held(when, "lose reply"))

    def hold_digest(self) -> Held:
        """Hold the next change of another document's core before it is sent."""
        self.held_digest = Held(changes_core, "request")
        return self.held_digest

    def forget(self) -> None:
        """Let all commits from now on go as usual."""
        self._held.clear()

    async def deliver(self, held: Held) -> Snapshot:
        """Carry out what was lost, as the store does with a late message."""
        return await self._store.commit(held.transaction)

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        if self.fault is not None:
            raise self.fault
        if self.cut:
            raise StoreUnavailable("cut off")
        held = next((one for one in self._held if transaction is not None and one.when(transaction)), None)
        if held is None:
            return await self._store.commit(transaction)
        self._held.remove(held)
        return await self._go(held, transaction)

    def document(self, name: str) -> Document:
        """Another document, over this wire: it is cut and faulty with it."""
        return WiredDocument(self, self._store.document(name))

    async def wait_urgent(self) -> None:
        await self._store.wait_urgent()

    async def close(self) -> None:
        await self._store.close()

    async def _go(self, held: Held, transaction: Transaction | None) -> Snapshot:
        held.transaction = transaction
        if held.how == "lose":
            held.reached.set()
            raise StoreUnavailable("no answer")
        if held.how == "request":
            held.reached.set()
            await held.go.wait()
        snapshot = await self._store.commit(transaction)
        if held.how == "reply":
            held.reached.set()
            await held.go.wait()
        if held.how == "lose reply":
            held.reached.set()
            raise StoreUnavailable("no answer")
        return snapshot

    def _plan(self, held: Held) -> Held:
        self._held.append(held)
        return held


class WiredDocument:
    """A document beside that of the fleet."""

    def __init__(self, wire: Wire, document: Document) -> None:
        self._wire = wire
        self._document = document

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        if self._wire.fault is not None:
            raise self._wire.fault
        if self._wire.cut or self._wire.cut_documents:
            raise StoreUnavailable("cut off")
        held = self._wire.held_digest
        if held is not None and transaction is not None and held.when(transaction):
            self._wire.held_digest = None
            held.reached.set()
            await held.go.wait()
        snapshot = await self._document.commit(transaction)
        if self._wire.replies_to_lose and transaction is not None and changes_core(transaction):
            self._wire.replies_to_lose -= 1
            raise StoreUnavailable("no answer")
        if self._wire.log_replies_to_lose and transaction is not None and not changes_core(transaction):
            self._wire.log_replies_to_lose -= 1
            raise StoreUnavailable("no answer")
        return snapshot
