"""Which slot of a board belongs to which version or release, and when another may have it."""

import heapq
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Final, Protocol

from gateway.errors import SettingsError
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.switchboard import Switchboard
from gateway.shm.tally import Totals
from gateway.version_key import VersionKey

GONE_SHOWN: Final = 256  # versions no longer served whose totals are kept one by one
BEFORE: Final = 0  # as a version: all of a model that went before those; no version has this number
EARLIER: Final = "(earlier)", BEFORE  # all of models of which nothing else is left: no model can be called so


class Board(Protocol):
    """What has the slots."""

    def open(self, slot: int) -> None:
        """Make the slot ready for who gets it now; raises SettingsError where that cannot be."""

    def held(self, slot: int) -> bool:
        """Whether a worker still works with it, for whoever had it before."""


class Slots:
    """Gives each name a slot, the same one as long as the name is wanted; raises SettingsError when all are in use."""

    def __init__(self, capacity: int, what: str, board: Board | None = None) -> None:
        self._capacity = capacity
        self._what = what
        self._board = board
        self._given: dict[VersionKey, int] = {}
        self._names: dict[int, VersionKey] = {}
        self._back: list[int] = []  # a heap of those given back: the lowest is used next, so memory stays small
        self._fresh = 0

    def of(self, name: str, version: int) -> int:
        """The slot of the name; a new one where it has none."""
        slot = self._given.get((name, version))
        return self._give((name, version)) if slot is None else slot

    def name_of(self, slot: int) -> VersionKey | None:
        """Who has the slot."""
        return self._names.get(slot)

    def items(self) -> Iterator[tuple[VersionKey, int]]:
        """All names that have one, in order."""
        yield from sorted(self._given.items())

    def given(self) -> Iterable[tuple[VersionKey, int]]:
        """All names that have one."""
        return self._given.items()

    def __contains__(self, key: VersionKey) -> bool:
        return key in self._given

    def slots(self) -> Collection[int]:
        """All that are in use."""
        return self._given.values()

    def used(self) -> range:
        """All that have ever been in use: a late worker may have died at work with one that was given back."""
        return range(self._fresh)

    def sweep(self, wanted: Callable[[VersionKey], bool]) -> list[VersionKey]:
        """Take the slots back of those who are not wanted and with whom no worker is at work any more: these."""
        gone = [key for key, slot in self._given.items() if not wanted(key) and not self._held(slot)]
        for key in gone:
            slot = self._given.pop(key)
            del self._names[slot]
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
                self._fresh = fresh  # it has no memory yet: to look at it as at those given back would kill us
            else:
                heapq.heappush(self._back, slot)
            raise
        self._given[key] = slot
        self._names[slot] = key
        return slot

    def _next(self, key: VersionKey) -> int:
        held = []
        slot: int | None = None
        while self._back and slot is None:
            lowest = heapq.heappop(self._back)
            if self._held(lowest):  # someone came late, for who had it before
                held.append(lowest)
            else:
                slot = lowest
        for late in held:
            heapq.heappush(self._back, late)
        if slot is None:
            slot = self._fresh
            if slot == self._capacity:
                problem = (
                    f"{key[0]}: no more than {self._capacity} {self._what} can be in service at once, those included"
                    " that still answer; serve fewer models, or divide them between gateways"
                )
                raise SettingsError("models", [problem])
            self._fresh += 1
        return slot

    def _held(self, slot: int) -> bool:
        return self._board is not None and self._board.held(slot)

    def _begun(self, key: VersionKey, slot: int) -> None:
        """For those who keep something by name."""

    def _ended(self, key: VersionKey, slot: int) -> None:
        """For those who keep something by name."""


class ReleaseSlots(Slots):
    """The slots of releases; the switchboard says whose each is, for who finds it when control has been killed."""

    def __init__(self, capacity: int, switchboard: Switchboard) -> None:
        super().__init__(capacity, "releases", switchboard)
        self._switchboard = switchboard

    def _begun(self, key: VersionKey, slot: int) -> None:
        self._switchboard.names.put(slot, *key)


class VersionSlots(Slots):
    """The slots of versions, and what those had counted that have gone: totals never fall while the gateway runs.

    A version that comes back goes on from there. The last GONE_SHOWN are kept one by one, those before them as one for
    each model, so that a model's own sums do not fall either; once nothing else is left of the model, as EARLIER.
    """

    def __init__(self, capacity: int, scoreboard: Scoreboard) -> None:
        super().__init__(capacity, "model versions", scoreboard)
        self._scoreboard = scoreboard
        self._gone: dict[VersionKey, Totals] = {}
        self._before: dict[VersionKey, Totals] = {}
        self._versions: Counter[str] = Counter()  # of each model, in service or kept one by one

    def totals(self) -> Iterator[tuple[VersionKey, Totals]]:
        """What every version has counted, those in service first."""
        yield from ((key, self.totals_of(key)) for key, _ in self.items())
        yield from self.gone()

    def totals_of(self, key: VersionKey) -> Totals:
        """What one has counted that is in service."""
        return self._scoreboard.totals(self._given[key])

    def gone(self) -> Iterator[tuple[VersionKey, Totals]]:
        """What those have counted that are no longer in service."""
        yield from sorted((self._gone | self._before).items())

    def _begun(self, key: VersionKey, slot: int) -> None:
        before = self._gone.pop(key, None)
        if before is None:
            self._versions[key[0]] += 1
        else:
            self._scoreboard.restore(slot, before)

    def _ended(self, key: VersionKey, slot: int) -> None:
        self._gone[key] = self._scoreboard.left(slot)
        if len(self._gone) > GONE_SHOWN:
            oldest = next(iter(self._gone))
            name = oldest[0]
            self._versions[name] -= 1
            self._add((name, BEFORE), self._gone.pop(oldest))
            if not self._versions[name]:
                del self._versions[name]
                self._add(EARLIER, self._before.pop((name, BEFORE)))

    def _add(self, key: VersionKey, totals: Totals) -> None:
        before = self._before.get(key)
        self._before[key] = totals if before is None else before + totals
