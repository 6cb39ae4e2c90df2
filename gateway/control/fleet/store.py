"""The port to a fleet's store, which holds one core document and a record for each member, and changes them atomically.

A transaction says what it has seen: the store's run id, the core's tag, the records that it changes. It is carried out
if all that is still so, else not at all. Members' beats change only their own records, so they do not get in each
other's way; only changes of the core do. `transact` computes a transaction from one of the pure functions of `scripts`
and tries again with the present data until it is carried out, so what is simulated is what runs.
"""

import secrets
from collections.abc import Callable, Mapping
from typing import NamedTuple, Protocol

from gateway.control.fleet.codec import decoded, encoded_core, encoded_member
from gateway.control.fleet.store_state import StoreState

Change = Callable[[StoreState], StoreState]


class StoreUnavailable(Exception):
    """The store did not answer in time, or with an error. What was sent may have been carried out, or may be yet."""


class Snapshot(NamedTuple):
    """All data of the fleet at one moment: directly after the transaction, if it was `committed`.

    `run_id`: of the server's present life. `tag`: random, new with each change of the core. Without data `tag` and
    `core` are empty.
    """

    committed: bool
    run_id: str
    tag: str
    core: bytes
    members: Mapping[str, bytes]


class RecordChange(NamedTuple):
    """A member's record before and after; None: it does not exist."""

    incarnation: str
    before: bytes | None
    after: bytes | None


class Transaction(NamedTuple):
    """Carried out if the store has this run id, the core this tag, and each record is as `before` says.

    `core`: the new one with its `new_tag`; None: it stays. `urgent`: the other members should be told at once.
    """

    run_id: str
    tag: str
    core: bytes | None
    new_tag: str
    records: tuple[RecordChange, ...]
    urgent: bool


class Document(Protocol):
    """A core with its records, used from one event loop."""

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        """Carry out the transaction, or not, atomically, and return the data after it. None: only read. Raises
        StoreUnavailable.
        """


class OwnDocument(Document, Protocol):
    """A document over a connection of its own, so that no other one delays it."""

    async def close(self) -> None:
        """Close all connections."""


class FleetStore(OwnDocument, Protocol):
    """The fleet's document, whose beats nothing delays; others beside it."""

    def document(self, name: str) -> Document:
        """Another document of the same fleet. All of these share one more connection."""

    async def wait_urgent(self) -> None:
        """Return once a member has committed an urgent transaction since the last call. A hint: some may be missed."""


async def transact(store: Document, seen: Snapshot | None, change: Change) -> tuple[Snapshot, StoreState]:
    """Apply `change` to the store's state; returns the data and the state after it. `seen`: the data known so far.

    The state returned has the records that other members have written meanwhile. `change` may be called several times.
    """
    snapshot = seen if seen is not None else await store.commit(None)
    while True:
        before = decoded(snapshot)
        after = change(before)
        snapshot = await store.commit(_transaction(snapshot, before, after))
        if snapshot.committed:
            return snapshot, decoded(snapshot)


def _transaction(snapshot: Snapshot, before: StoreState, after: StoreState) -> Transaction:
    core_changed = after._replace(members=before.members) != before
    records = tuple(
        RecordChange(
            incarnation,
            snapshot.members.get(incarnation),
            encoded_member(after.members[incarnation]) if incarnation in after.members else None,
        )
        for incarnation in sorted(before.members.keys() | after.members.keys())
        if before.members.get(incarnation) != after.members.get(incarnation)
    )
    applied_more = any(
        incarnation in before.members and member.applied > before.members[incarnation].applied
        for incarnation, member in after.members.items()
    )
    return Transaction(
        snapshot.run_id,
        snapshot.tag,
        encoded_core(after) if core_changed else None,
        secrets.token_hex(8) if core_changed else snapshot.tag,
        records,
        urgent=core_changed or applied_more,
    )
