"""Allocates the slots of a board (switchboard or scoreboard) to releases or versions, and reclaims unused ones.

Used by the control process only.
"""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Final, Protocol

from gateway.errors import SettingsError
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.switchboard import Switchboard
from gateway.shm.tally import Totals
from gateway.version_key import VersionKey

MAX_REMOVED: Final = 256  # versions no longer served whose totals are kept individually
EARLIER_VERSIONS: Final = 0  # stands for all versions of a model that went before those; no version has this number
EARLIER_MODELS: Final = (
    "(earlier)",
    EARLIER_VERSIONS,
)  # the sum over models with no other totals left; no model can have this name


class Board(Protocol):
    """The board whose slots are allocated."""

    def open(self, slot: int) -> None:
        """Prepare the slot for its new owner; raise SettingsError if that is impossible."""

    def held(self, slot: int) -> bool:
        """Whether a worker still uses the slot, for its present or previous owner."""


class Slots:
    """Allocates one slot to each key (model, version), and keeps it as long as the key is wanted.

    `capacity`: number of slots. `what`: what they are for, in the error text.
    """

    def __init__(self, capacity: int, what: str, board: Board | None = None) -> None:
        self._capacity = capacity
        self._what = what
        self._board = board
        self._in_use: dict[VersionKey, int] = {}
        self._names: dict[int, VersionKey] = {}
        self._by_name: dict[str, dict[int, int]] = {}  # slots by version: a stop must not look at all models
        self._back: list[int] = []  # heap of reclaimed slots: the lowest is reused first, so memory stays small
        self._fresh = 0

    def of(self, name: str, version: int) -> int:
        """Return the key's slot, allocating one if it has none; raise SettingsError if all slots are in use."""
        slot = self._in_use.get((name, version))
        return self._give((name, version)) if slot is None else slot

    def name_of(self, slot: int) -> VersionKey | None:
        """Return the key that has the slot, or None."""
        return self._names.get(slot)

    def items(self) -> Iterator[tuple[VersionKey, int]]:
        """Yield all (key, slot) pairs, sorted."""
        yield from sorted(self._in_use.items())

    def in_use(self) -> Iterable[tuple[VersionKey, int]]:
        """Return all (key, slot) pairs, unsorted."""
        return self._in_use.items()

    def versions_of(self, name: str) -> Mapping[int, int]:
        """Return the slots of a model's versions."""
        return self._by_name.get(name, {})

    def __contains__(self, key: VersionKey) -> bool:
        return key in self._in_use

    def slots(self) -> Collection[int]:
        """Return all slots in use."""
        return self._in_use.values()

    def used(self) -> range:
        """Return all slots ever used: a late worker may have died while using one that was already reclaimed."""
        return range(self._fresh)

    def sweep(self, wanted: Callable[[VersionKey], bool]) -> list[VersionKey]:
        """Reclaim the slots of keys that are not wanted and that no worker uses any more; return these keys."""
        gone = [key for key, slot in self._in_use.items() if not wanted(key) and not self._held(slot)]
        for key in gone:
            slot = self._in_use.pop(key)
            del self._names[slot]
            del self._by_name[key[0]][key[1]]
            if not self._by_name[key[0]]:
                del self._by_name[key[0]]
            heapq.heappush(self._back, slot)
            self._ended(key, slot)
        return gone

    def _give(self, key: VersionKey) -> int:
        fresh = self._fresh
        slot = self._next(key)
        try:
            if self._board is not None:
                self._board.open(slot)
            self._begun(key, slot)
        except SettingsError:
            if slot == fresh:
                self._fresh = fresh  # it has no memory, so reading it like a reclaimed slot would kill us
            else:
                heapq.heappush(self._back, slot)
            raise
        self._in_use[key] = slot
        self._names[slot] = key
        self._by_name.setdefault(key[0], {})[key[1]] = slot
        return slot

    def _next(self, key: VersionKey) -> int:
        held = []
        slot: int | None = None
        while self._back and slot is None:
            lowest = heapq.heappop(self._back)
            if self._held(lowest):  # a late worker uses it for its previous owner
                held.append(lowest)
            else:
                slot = lowest
        for late in held:
            heapq.heappush(self._back, late)
        if slot is None:
            slot = self._fresh
            if slot == self._capacity:
                problem = (
                    f"{key[0]}: no more than {self._capacity} {self._what} can be in use at once, including those"
                    " that are draining; serve fewer models, or divide them between gateways"
                )
                raise SettingsError("models", [problem])
            self._fresh += 1
        return slot

    def _held(self, slot: int) -> bool:
        return self._board is not None and self._board.held(slot)

    def _begun(self, key: VersionKey, slot: int) -> None:
        """Hook for subclasses: the key has got the slot."""

    def _ended(self, key: VersionKey, slot: int) -> None:
        """Hook for subclasses: the key's slot has been reclaimed."""


class ReleaseSlots(Slots):
    """The switchboard's slots for releases. Their names are written there too, in case control is killed."""

    def __init__(self, capacity: int, switchboard: Switchboard) -> None:
        super().__init__(capacity, "releases", switchboard)
        self._switchboard = switchboard

    def _begun(self, key: VersionKey, slot: int) -> None:
        self._switchboard.names.put(slot, *key)


class VersionSlots(Slots):
    """The scoreboard's slots for versions, and the totals of versions no longer served, so that totals never fall.

    A version that comes back continues from its totals. The last MAX_REMOVED versions are kept individually, older ones
    as one sum per model, so that a model's sums do not fall either; once nothing else is left of the model, in EARLIER.
    """

    def __init__(self, capacity: int, scoreboard: Scoreboard) -> None:
        super().__init__(capacity, "model versions", scoreboard)
        self._scoreboard = scoreboard
        self._removed: dict[VersionKey, Totals] = {}
        self._before: dict[VersionKey, Totals] = {}
        self._versions: Counter[str] = Counter()  # by model: versions in service or kept individually

    def totals(self) -> Iterator[tuple[VersionKey, Totals]]:
        """Yield the totals of every version, those in service first."""
        yield from ((key, self.totals_of(key)) for key, _ in self.items())
        yield from self.removed()

    def totals_of(self, key: VersionKey) -> Totals:
        """Return the totals of a version in service."""
        return self._scoreboard.totals(self._in_use[key])

    def removed(self) -> Iterator[tuple[VersionKey, Totals]]:
        """Yield the totals of versions no longer in service, sorted."""
        yield from sorted((self._removed | self._before).items())

    def _begun(self, key: VersionKey, slot: int) -> None:
        before = self._removed.pop(key, None)
        if before is None:
            self._versions[key[0]] += 1
        else:
            self._scoreboard.restore(slot, before)

    def _ended(self, key: VersionKey, slot: int) -> None:
        self._removed[key] = self._scoreboard.left(slot)
        if len(self._removed) > MAX_REMOVED:
            oldest = next(iter(self._removed))
            name = oldest[0]
            self._versions[name] -= 1
            self._add((name, EARLIER_VERSIONS), self._removed.pop(oldest))
            if not self._versions[name]:
                del self._versions[name]
                self._add(EARLIER_MODELS, self._before.pop((name, EARLIER_VERSIONS)))

    def _add(self, key: VersionKey, totals: Totals) -> None:
        before = self._before.get(key)
        self._before[key] = totals if before is None else before + totals
