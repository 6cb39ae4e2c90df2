"""Removes what a host that was killed has left in the fleet: its shares of the rate limits, and its membership.

Time frees neither the shares nor the membership of a host that holds its candidates without contact, since such a host
may go on. A person who knows that it has ended says so here.
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn, Protocol

from gateway.control.fleet.host import HostState, still
from gateway.control.fleet.rates_state import RateRecord
from gateway.control.fleet.store import OwnDocument, StoreUnavailable, transact
from gateway.control.fleet.store_state import StoreState
from gateway.control.fleet.timing import Timing
from gateway.errors import Conflict, NotFound


class Watched(Protocol):
    """What is read of the membership."""

    timing: Timing
    host: HostState
    problem: str

    def now_ns(self) -> int: ...


class Shares(Protocol):
    """The records of the rates."""

    records: Mapping[str, RateRecord]

    async def remove(self, incarnations: Iterable[str]) -> None: ...


@dataclass(frozen=True, slots=True)
class Removed:
    """Incarnations of the host whose shares, and whose membership, were removed. `problem`: why not all; or empty."""

    name: str
    shares: tuple[str, ...]
    memberships: tuple[str, ...]
    problem: str = ""

    def evidence(self) -> dict[str, Any]:
        """For the decision."""
        return {"host": self.name, "shares": list(self.shares), "memberships": list(self.memberships)} | (
            {"problem": self.problem} if self.problem else {}
        )


class HostRemoval:
    """`open_store`: opens the membership's store for one call, so that no beat waits."""

    def __init__(self, membership: Watched, rates: Shares | None, open_store: Callable[[], OwnDocument]) -> None:
        self._membership = membership
        self._rates = rates
        self._open_store = open_store

    async def remove(self, name: str) -> Removed:
        """Remove a host, by its name or incarnation. Raises NotFound; Conflict if it beats, or without
        contact."""
        host = self._membership.host
        if self._membership.problem:
            raise Conflict(f"'{name}' is not removed: {self._membership.problem}")
        shares = {one: record.name for one, record in (self._rates.records if self._rates else {}).items()}
        names = shares | {one: member.name for one, member in host.members.items()}
        called = {one for one, known in names.items() if name in (one, known)}
        if not called:
            known = ", ".join(sorted(set(names.values())))
            raise NotFound(f"the fleet has no host '{name}'; there are {known}")
        ended = frozenset(one for one in called if self._has_ended(host, one))
        if not ended:
            self._refuse(host, name, called)
        members: frozenset[str] = frozenset()
        try:
            members, ended = await self._removed_members(host, ended)
            if not ended:
                self._refuse(host, name, called)
            if self._rates is not None:
                await self._rates.remove(ended & shares.keys())
        except (StoreUnavailable, TimeoutError, ValueError) as error:
            said = f"the fleet's store: {str(error) or 'no answer in time'}; try again"
            return Removed(name, (), tuple(sorted(members)), f"'{name}' is not known to be removed: {said}")
        return Removed(name, tuple(sorted(ended & shares.keys())), tuple(sorted(members)))

    def _has_ended(self, host: HostState, incarnation: str) -> bool:
        """Whether it does not beat: it may have been cut off, though."""
        if incarnation == host.incarnation:
            return False
        now_ns, timing = self._membership.now_ns(), self._membership.timing
        return incarnation not in host.members or still(host, incarnation, now_ns, timing)

    def _refuse(self, host: HostState, name: str, called: set[str]) -> NoReturn:
        lease_s = self._membership.timing.longest_ns / 1e9
        ending = "end it with SIGTERM, and it leaves the fleet by itself"
        if called == {host.incarnation}:
            raise Conflict(f"'{name}' is the host that was asked: {ending}")
        since = f"beats, or did until less than {lease_s:.2g} s ago"
        raise Conflict(f"'{name}' {since}: {ending}; if it was killed, try again then")

    async def _removed_members(self, host: HostState, ended: frozenset[str]) -> tuple[frozenset[str], frozenset[str]]:
        """Remove memberships; returns them, and which of the hosts have ended: some may have beaten meanwhile."""
        beats = {one: host.members[one].beat for one in ended & host.members.keys()}
        store = self._open_store()
        try:
            async with asyncio.timeout(self._membership.timing.lease_ns / 1e9):
                _, state = await transact(store, None, lambda state: _without(state, beats))
        finally:
            await store.close()
        return frozenset(beats.keys() - state.members.keys()), ended - state.members.keys()


def _without(state: StoreState, beats: Mapping[str, int]) -> StoreState:
    """The state without members whose beats stand still."""
    members = {one: member for one, member in state.members.items() if beats.get(one) != member.beat}
    return state._replace(members=members)
