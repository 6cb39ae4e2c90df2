"""This host's exchange of routing edits with the store: reads them and all hosts' records, and keeps its own there."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Final, Protocol

from gateway.control.fleet.host import HostState, still
from gateway.control.fleet.routing_entries import RoutingEntries
from gateway.control.fleet.routing_memory import RoutingMemory
from gateway.control.fleet.routing_state import (
    RoutingCore,
    RoutingEdit,
    RoutingRecord,
    decoded_core,
    decoded_record,
    encoded_core,
    encoded_record,
)
from gateway.control.fleet.routing_step import Due, Elsewhere, Stand, brought_back, differs, due, undone
from gateway.control.fleet.store import OwnDocument, RecordChange, Snapshot, Transaction
from gateway.control.fleet.timing import Timing

MOST_DROPS: Final = 64  # etcd takes 128 changes in one transaction
NO_CONTACT: Final = "this host has not had contact with the fleet yet"


class Member(Protocol):
    """What is read of the membership."""

    host: HostState
    timing: Timing

    def now_ns(self) -> int: ...


class RoutingExchange:
    """`core`, `records`: as last read or written. `refused`: by model, why its edits cannot be made here.
    `under_way`: models with an edit that was given here and that the store does not have yet.
    """

    def __init__(self, store: OwnDocument, member: Member, entries: RoutingEntries, memory: RoutingMemory) -> None:
        self._store = store
        self._member = member
        self._entries = entries
        self._memory = memory
        self._absent_ns: dict[str, int] = {}  # since when hosts that have a record are no members
        self._known: Mapping[str, tuple[RoutingEdit, ...]] = {}  # the edits that the store has had
        self._others: frozenset[str] = frozenset()  # in contact when the records were read
        self._core = b"", RoutingCore()
        self._records: dict[str, tuple[bytes, RoutingRecord]] = {}
        self.core = RoutingCore()
        self.records: Mapping[str, RoutingRecord] = {}
        self.refused: dict[str, str] = {}
        self.under_way: set[str] = set()

    @property
    def host(self) -> HostState:
        """This host's part in the fleet."""
        return self._member.host

    @property
    def me(self) -> str:
        """This host's incarnation."""
        return self._member.host.incarnation

    @property
    def in_contact(self) -> bool:
        """Whether all stops that the fleet has confirmed are known here."""
        host = self._member.host
        return host.open and self._member.now_ns() < host.contact_until_ns

    @property
    def source(self) -> str:
        """The routing file, for messages."""
        return self._entries.source

    @property
    def present(self) -> frozenset[str]:
        """The hosts in contact, with this one."""
        host, now_ns, timing = self._member.host, self._member.now_ns(), self._member.timing
        return frozenset({host.incarnation, *(one for one in host.members if not still(host, one, now_ns, timing))})

    def applied(self, model: str) -> str:
        """Id of the model's edit that this host has made last, or an empty text."""
        return self._memory.applied.get(model, "")

    def elsewhere(self, model: str) -> list[Elsewhere]:
        """The entry on the other hosts in contact."""
        others = [self.records[name] for name in self.records.keys() & self._others]
        return [
            Elsewhere(other.entries.get(model), other.applied.get(model, "")) for other in others if other.revision
        ]  # without a revision its entries are not known

    def due(self, model: str) -> Due:
        """What is to be done here."""
        here = self._entries.entries.get(model)
        return due(self.core.edits.get(model, ()), self.applied(model), here, self.elsewhere(model))

    async def commit(self, change: Callable[[RoutingCore], RoutingCore]) -> None:
        """Change the core, and write this host's record with it. Raises StoreUnavailable, TimeoutError; ValueError if
        this host may not take part, or the data is damaged.
        """
        if problem := self.host.refused or ("" if self.host.identity is not None else NO_CONTACT):
            raise ValueError(problem)
        await self._entries.read()
        async with asyncio.timeout(self._member.timing.lease_ns / 1e9):  # no beat waits for it
            snapshot = await self._store.commit(None)
            while True:
                before = self._core_of(snapshot.core)
                self._read(snapshot)
                self.core = change(brought_back(before, self._known))
                applied = self._applied()
                record = self._record(applied)
                changes = [*self._own(snapshot, record), *self._gone(snapshot)]
                core = encoded_core(self.core) if self.core != before else None
                if core is not None or changes:
                    snapshot = await self._store.commit(_transaction(snapshot, core, changes))
                    if not snapshot.committed:
                        continue
                    self._read(snapshot)
                self._memory.keep(applied)
                self._known = self.core.edits
                return

    async def leave(self) -> None:
        """Remove this host's record. Raises StoreUnavailable."""
        snapshot = await self._store.commit(None)
        while record := snapshot.members.get(self.me):
            snapshot = await self._store.commit(_transaction(snapshot, None, [RecordChange(self.me, record, None)]))

    async def close(self) -> None:
        """Close the store. Nothing else may be under way."""
        await self._store.close()

    def _read(self, snapshot: Snapshot) -> None:
        """Only what has changed is decoded: it is much, and most ticks bring nothing new."""
        read, self._others = self._records, self.present - {self.me}
        self._records = {
            name: read[name] if name in read and read[name][0] == record else (record, decoded_record(record))
            for name, record in snapshot.members.items()
        }
        self.records = {name: record for name, (_, record) in self._records.items()}

    def _core_of(self, data: bytes) -> RoutingCore:
        if self._core[0] != data:
            self._core = data, decoded_core(data)
        return self._core[1]

    def _applied(self) -> Mapping[str, str]:
        """By model the newest edit that this host has made, or that was undone by hand since."""
        newest = {model: self.core.newest(model) for model in self.core.edits}
        known = [one for one in newest.items() if one[0] not in self.under_way]
        current = {model: id_ for model, id_ in known if self.due(model).stand is Stand.CURRENT}
        return {**self._memory.applied, **current}

    def _record(self, applied: Mapping[str, str]) -> RoutingRecord:
        waiting = {}
        for model, edits in self.core.edits.items():
            stand = self.due(model).stand
            if stand is Stand.DIFFERS:
                waiting[model] = differs(edits[-1])
            elif stand is Stand.UNDONE:
                waiting[model] = undone(edits[-1])
            elif stand is Stand.BEHIND and model in self.refused:
                waiting[model] = self.refused[model]
        # an entry in which an edit is half made says nothing of the edits before
        said = {model: id_ for model, id_ in applied.items() if model not in self.under_way}
        return RoutingRecord(self.host.name, self._entries.revision, self._entries.entries, said, waiting)

    def _own(self, snapshot: Snapshot, record: RoutingRecord) -> list[RecordChange]:
        before, after = snapshot.members.get(self.me), encoded_record(record)
        return [RecordChange(self.me, before, after)] if before != after else []

    def _gone(self, snapshot: Snapshot) -> list[RecordChange]:
        """Records of hosts that have been no members for longer than a lease."""
        now_ns, longest_ns = self._member.now_ns(), self._member.timing.longest_ns
        absent = snapshot.members.keys() - self.host.members.keys() - {self.me}
        self._absent_ns = {name: self._absent_ns.get(name, now_ns) for name in absent}
        gone = sorted(name for name, since_ns in self._absent_ns.items() if now_ns - since_ns >= longest_ns)
        return [RecordChange(name, snapshot.members[name], None) for name in gone[:MOST_DROPS]]


def _transaction(snapshot: Snapshot, core: bytes | None, changes: list[RecordChange]) -> Transaction:
    tag = secrets.token_hex(8) if core is not None else snapshot.tag
    return Transaction(snapshot.run_id, snapshot.tag, core, tag, tuple(changes), urgent=False)
