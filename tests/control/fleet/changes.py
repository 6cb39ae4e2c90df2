"""Changes that a fleet's host makes in its store, and waits for a store that is not there at once."""

import asyncio
import time

from gateway.control.fleet.codec import encoded_member
from gateway.control.fleet.scripts import exchange
from gateway.control.fleet.store import (
    Change,
    FleetStore,
    RecordChange,
    Snapshot,
    StoreUnavailable,
    Transaction,
    transact,
)
from gateway.control.fleet.store_state import Exchange, Member, StoreState, Word

FIRST = Exchange("a", "host a", 1, 0, None, 0, False, 1, 3_000_000_000, "key")


def beats(number: int, incarnation: str = "a") -> Change:
    """A host's exchange."""
    request = FIRST._replace(incarnation=incarnation, name=f"host {incarnation}", beat=number)
    return lambda state: exchange(state, request)[0]


def stops(release: str, number: int, incarnation: str = "a") -> Change:
    """An exchange that stops the release's present epoch."""
    request = FIRST._replace(incarnation=incarnation, name=f"host {incarnation}", beat=number, stops=(release,))
    return lambda state: exchange(state, request)[0]


def counts(word: str) -> Change:
    """A change of the core that must happen exactly once."""

    def change(state: StoreState) -> StoreState:
        old = state.words.get(word, Word(0, 0))
        return state._replace(revision=state.revision + 1, words={**state.words, word: Word(old.epoch + 1, 0)})

    return change


def record(beat: int) -> bytes:
    """A member's record."""
    return encoded_member(Member(beat, 0, False, "host"))


def beat_record(snapshot: Snapshot, before: bytes | None, after: bytes | None, incarnation: str = "a") -> Transaction:
    """A transaction that changes one record and nothing else."""
    return Transaction(
        snapshot.run_id, snapshot.tag, None, snapshot.tag, (RecordChange(incarnation, before, after),), False
    )


async def until_available(store: FleetStore) -> Snapshot:
    """A read, tried again while the machine is slow."""
    for _ in range(100):
        try:
            return await store.commit(None)
        except StoreUnavailable:
            continue
    raise AssertionError("the store does not come back")


async def heard_within_s(waiting: "asyncio.Task[None]", began: float) -> float:
    """How long after `began` the wait for a hint returns."""
    await asyncio.wait_for(waiting, 30)
    return time.monotonic() - began


async def listening(store: FleetStore, other: FleetStore) -> None:
    """Return once the store hears hints, which it does some time after the first wait began."""
    while True:
        waiting = asyncio.create_task(store.wait_urgent())
        await transact(other, None, counts("listening"))
        done, _ = await asyncio.wait([waiting], timeout=0.1)
        if done:
            break
        waiting.cancel()
    while True:  # hints of the changes before the last
        try:
            await asyncio.wait_for(store.wait_urgent(), 0.1)
        except TimeoutError:
            return
