"""This host's part in what one host of the fleet does for all: it is the leader, or reads what that has found.

All decisions are those of `task_leadership`. Runs on control's loop.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

from gateway.control.fleet.host import NEVER_NS, HostState
from gateway.control.fleet.leadership import in_contact
from gateway.control.fleet.store import OwnDocument, Snapshot, StoreUnavailable, Transaction
from gateway.control.fleet.task_leadership import (
    NO_LEAD,
    WRITE_NS,
    Heard,
    Lead,
    decoded,
    encoded,
    given_up_ns,
    is_confirmed,
    next_lead,
)
from gateway.control.fleet.timing import Timing

TICK_S: Final = 0.5
BRING_BACK_NS: Final = 2_000_000_000  # for some exchanges of the others
log: Final = logging.getLogger("gateway.control.fleet")


class Member(Protocol):
    """What is read of the membership."""

    host: HostState
    timing: Timing

    def now_ns(self) -> int: ...


class TaskLeader:
    """`task`: for the log. `lead`: as last read or written. `problem`: why that is not known; empty if it is.

    `is_unready`: whether this host could not act yet as the leader; `gives_up`: whether it is to leave that to another;
    `is_unreadable`: whether it cannot read what a leader has said: that is not brought back once the store has lost it.
    `taken`: rises whenever this host has become the leader, or another one has brought back what the store had lost:
    `lead.said` is then what others have found, and is to be read before this host acts.
    """

    def __init__(self, task: str, store: OwnDocument, member: Member) -> None:
        self._task = task
        self._store = store
        self._member = member
        self.is_unready: Callable[[], bool] = lambda: False
        self.gives_up: Callable[[], bool] = lambda: False
        self.is_unreadable: Callable[[Mapping[str, Any]], bool] = lambda said: False
        self._said: Mapping[str, Any] | None = None
        self._hints = 0
        self._passed_on = 0  # how many of these the store has
        self._heard = Heard(-1, NEVER_NS)
        self._known_ns = NEVER_NS  # when the exchange was begun from which `lead` is
        self._wrote_ns = NEVER_NS  # when the last write was begun that the store has taken
        self._data: tuple[bytes, Lead] = b"", NO_LEAD
        self._newest = NO_LEAD
        self._number = -1  # of this host's last write as the leader that the store is known to have taken
        self._taken_ns = NEVER_NS
        self.taken = 0
        self.lead = NO_LEAD
        self.problem = ""

    @property
    def in_contact(self) -> bool:
        """Whether `lead` is of now, and all stops that the fleet has confirmed are known here."""
        now_ns = self._member.now_ns()
        return in_contact(self._member.host, now_ns) and now_ns - self._known_ns < WRITE_NS

    @property
    def leads(self) -> bool:
        """Whether this host acts for all now."""
        host, now_ns = self._member.host, self._member.now_ns()
        own = in_contact(host, now_ns) and is_confirmed(host, self._wrote_ns, now_ns)
        return own and self.lead.leader == host.incarnation

    @property
    def settled(self) -> bool:
        """Whether `lead.said` is all that the hosts in contact know of what was found before: where the store has lost
        it, they have had time to bring it back.
        """
        waited_ns = self._member.now_ns() - self._taken_ns
        return bool(self.lead.said) or waited_ns >= self._member.timing.longest_ns + BRING_BACK_NS

    @property
    def leader(self) -> str:
        """The leader's name; empty if none is known, or if it is this host, which has given that up."""
        host = self._member.host
        member = host.members.get(self.lead.leader)
        known = self.in_contact and (self.leads or self.lead.leader != host.incarnation)
        return member.name if member is not None and known else ""

    @property
    def given_up_ns(self) -> int:
        """For how long this host gives up, if it does."""
        return given_up_ns(self._member.timing)

    def say(self, said: Mapping[str, Any]) -> None:
        """Tell the others, soon, what this host has found as the leader: an object as JSON would bring it back."""
        self._said = said

    def ask(self) -> None:
        """Ask the leader to act now, with the next exchange: whoever sends hints sets no pace."""
        self._hints += 1

    async def run_forever(self) -> None:
        """Exchange, until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def tick(self) -> None:
        """One exchange."""
        if not in_contact(self._member.host, self._member.now_ns()):
            return
        led = self.leads
        try:
            async with asyncio.timeout(self._member.timing.lease_ns / 1e9):
                await self._exchange()
        except (StoreUnavailable, TimeoutError, ValueError) as error:
            problem = str(error) or "the store did not answer in time"
            if problem != self.problem:
                log.warning("which host does %s for the fleet is not known here: %s", self._task, problem)
            self.problem = problem
        else:
            self.problem = ""
        if self.leads != led:
            log.info("this host %s %s for the fleet", "does" if self.leads else "no longer does", self._task)

    async def close(self) -> None:
        """Close the store. Nothing else may be under way."""
        await self._store.close()

    async def _exchange(self) -> None:
        began_ns = self._member.now_ns()
        snapshot = await self._store.commit(None)
        while True:
            before, hints = self._hear(snapshot), self._hints
            me = self._member.host.incarnation
            if before.leader == me and before.number != self._number:
                self._take(before)  # by a write without a reply; or another host has brought it back
            said = self._said if before.leader == me else None
            host, now_ns, timing = self._member.host, self._member.now_ns(), self._member.timing
            confirmed = is_confirmed(host, self._wrote_ns, now_ns)
            asked = hints > self._passed_on
            after = next_lead(
                host, before, self._heard, now_ns, timing,
                said=said, asked=asked, confirmed=confirmed, newest=self._newest, unready=self.is_unready,
                gives_up=before.leader == me and self.gives_up(),
            )  # fmt: skip
            if after != before:
                snapshot = await self._store.commit(_change(snapshot, after))
                if not snapshot.committed:
                    continue
                self._wrote_ns = now_ns
            if after.leader != before.leader:
                self._take(after)
            if after.leader == me:
                self._number = after.number
            if after.asks != before.asks:
                self._passed_on = hints
            self.lead, self._known_ns = self._hear(snapshot), began_ns
            return

    def _hear(self, snapshot: Snapshot) -> Lead:
        """What is in the store; since when it is the same is noted."""
        if self._data[0] != snapshot.core:
            self._data = snapshot.core, decoded(snapshot.core)
        lead = self._data[1]
        if lead.number != self._heard.number:
            self._heard = Heard(lead.number, self._member.now_ns())
        if lead.number >= self._newest.number or self.is_unreadable(self._newest.said):
            self._newest = lead
        return lead

    def _take(self, lead: Lead) -> None:
        self._said = None  # of an earlier time as the leader
        self._number = lead.number
        self._taken_ns = self._member.now_ns()
        self.taken += 1


def _change(snapshot: Snapshot, lead: Lead) -> Transaction:
    return Transaction(snapshot.run_id, snapshot.tag, encoded(lead), secrets.token_hex(8), (), urgent=False)
