"""Counts the requests of small rate limits in the fleet's store, one by one, for all hosts together.

A limit below five a second cannot be shared out well: a host's part would be a few requests, too few for a load that
moves and too many for one burst. So each request is counted by the generic cell rate algorithm (ITU-T I.371), whose
state is one number, the theoretical arrival time of the next request, on the hosts' wall clock. It is a record in a
document of its own, changed by compare-and-set. The number of documents is bounded, as customers' names are hashed.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from gateway.control.fleet.store import Document, RecordChange, Snapshot, StoreUnavailable, Transaction

WITHIN_S: Final = 0.25  # then the host's share applies
ATTEMPTS: Final = 32  # if others count at the same moment
CACHED: Final = 4096  # documents of which the last state is known
RECORD: Final = "arrival"
DIGITS: Final = 20  # of a number in it; a longer one is damage
SECOND_PLACES: Final = 16  # of a customer's second hash: so many times more documents than places of the first
SECOND_NS: Final = 1_000_000_000
NEW: Final = Snapshot(False, "", "", b"", {})


class Pace(NamedTuple):
    """A request each `interval_ns`, and `burst` at once after a pause."""

    interval_ns: int
    burst: int


class Counted(NamedTuple):
    """`wait_ns`: until a request may be admitted; 0: this one is, and `arrival_ns` is the new state."""

    wait_ns: int
    arrival_ns: int


def pace_of(requests: int, window_ns: int) -> Pace:
    """Of so many requests in a window: as many at once as one host alone admits, those of about a second."""
    return Pace(window_ns // requests, max(1, round(requests * SECOND_NS / window_ns)))


def counted(arrival_ns: int, now_ns: int, pace: Pace) -> Counted:
    """One request more. Requests may be half an interval early, as the sliding window of one host alone lets them be:
    else those that come about evenly would lose their turn. At most 2 * burst are admitted in any burst * interval_ns.

    A state further ahead than requests make it is of a clock that was wrong: it is forgotten.
    """
    interval_ns, burst = pace
    if arrival_ns > now_ns + 2 * burst * interval_ns:
        arrival_ns = 0
    wait_ns = arrival_ns - burst * interval_ns + interval_ns // 2 - now_ns
    if wait_ns > 0:
        return Counted(wait_ns, arrival_ns)
    return Counted(0, max(arrival_ns, now_ns) + interval_ns)


class RateCounts:
    """`document`: opens one by its name. `clock`: the wall's, in ns. `within_s`: for a request, others before it
    included.
    """

    def __init__(
        self, document: Callable[[str], Document], clock: Callable[[], int] = time.time_ns, within_s: float = WITHIN_S
    ) -> None:
        self._document = document
        self._clock = clock
        self._within_s = within_s
        self._turn = asyncio.Lock()  # the connection serves one call at a time
        self._known: dict[str, tuple[Document, Snapshot, int]] = {}  # and the state from this host's requests alone

    async def take(self, name: str, pace: Pace) -> int:
        """Count a request; returns the time in ns until one may be admitted: 0, it is. Raises StoreUnavailable."""
        try:
            async with asyncio.timeout(self._within_s), self._turn:
                return await self._take(name, pace)
        except TimeoutError:
            raise StoreUnavailable(f"the store has not counted a request within {self._within_s:g} s") from None

    async def _take(self, name: str, pace: Pace) -> int:
        known = self._known.pop(name, None)
        document, snapshot, own_ns = (self._document(name), NEW, 0) if known is None else known
        for _ in range(ATTEMPTS):
            if snapshot is NEW:
                snapshot = await document.commit(None)
            before = snapshot.members.get(RECORD)
            arrival_ns = int(before) if before and before.isdigit() and len(before) <= DIGITS else 0
            now_ns = self._clock()
            wait_ns, arrival_ns = counted(arrival_ns, now_ns, pace)
            if not wait_ns:  # hosts whose clocks disagree do not see each other's requests, but each sees its own
                wait_ns, next_own_ns = counted(own_ns, now_ns, pace)
            if not wait_ns:
                change = RecordChange(RECORD, before, b"%d" % arrival_ns)
                snapshot = await document.commit(
                    Transaction(snapshot.run_id, snapshot.tag, None, snapshot.tag, (change,), False)
                )
                own_ns = next_own_ns if snapshot.committed else own_ns
            if wait_ns or snapshot.committed:
                self._remember(name, document, snapshot, own_ns)
                return wait_ns
        raise StoreUnavailable(f"a request could not be counted in {ATTEMPTS} attempts: others changed the count")

    def _remember(self, name: str, document: Document, snapshot: Snapshot, own_ns: int) -> None:
        if len(self._known) >= CACHED:
            del self._known[next(iter(self._known))]
        self._known[name] = document, snapshot, own_ns


def count_name(key: str, places: tuple[int, ...]) -> str:
    """Of the document of a quota: the same for all limits that a customer has on different hosts, so the highest is not
    exceeded. A customer without a limit of its own is told apart by both of its places.
    """
    second = f"-{places[1] % SECOND_PLACES}" if len(places) > 1 else ""
    return f"count-{key.partition('/')[0]}{second}"
