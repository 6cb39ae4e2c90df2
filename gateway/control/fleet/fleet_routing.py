"""Edits of the routing file by command over all hosts: brings this host's own to the store, and makes those of others.

All decisions are those of `routing_step`. Every edit is made by the same editor as without a fleet, so it is in force
in all workers or rolled back, and recorded as a decision on each host. Runs on control's loop.
"""

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from gateway.control.config.editor import Edit, EditResult, RoutingEditor
from gateway.control.config.yaml_edit import PROMOTE, WEIGHT, RoutingChange
from gateway.control.fleet.routing_entries import EntryEdit
from gateway.control.fleet.routing_exchange import RoutingExchange
from gateway.control.fleet.routing_spread import Spread, spread
from gateway.control.fleet.routing_state import Proposal, RoutingCore, RoutingEdit, new_id
from gateway.control.fleet.routing_step import Stand, accepted, next_number, proposed, undoes, withdrawn
from gateway.control.fleet.store import StoreUnavailable
from gateway.errors import Conflict, GatewayError

TICK_S: Final = 0.5
SOON_S: Final = 0.1  # between looks while a command waits for the other hosts
PATIENCE_S: Final = 10.0  # that a command has with them
TURN_S: Final = 10.0  # that it waits for an exchange under way
RETRY_S: Final = 5.0  # until an edit that was refused here is tried again
REASON_LENGTH: Final = 200  # of what the store keeps
LEAVE_S: Final = 2.0
SUFFIX: Final = ":routing"  # of the fleet's name in the store
TAKEN_BACK: Final = "another edit of the model came first in the fleet"
log: Final = logging.getLogger("gateway.control.fleet")


@dataclass(slots=True)
class _Own:
    """An edit given here, until the store has what became of it. `accept`: it is in force here, and is to be accepted;
    False: it is not, and is to be withdrawn; None: it is being made. `lost`: another one came first. `problem`: what
    became of it then.
    """

    proposal: Proposal
    entry: EntryEdit
    accept: bool | None = None
    lost: bool = False
    problem: str = ""


class FleetRouting:
    """`problem`: why edits are not exchanged; empty if they are."""

    def __init__(self, exchange: RoutingExchange, editor: RoutingEditor) -> None:
        self.exchange = exchange
        self._editor = editor
        self._turn = asyncio.Lock()  # one exchange at a time
        self._command = asyncio.Lock()
        self._own: dict[str, _Own] = {}
        self._tried: dict[str, tuple[str, float]] = {}  # by model: the newest edit when one was refused here, and when
        self._leaving = False
        self._left = False
        self.problem = "the store has not answered yet"
        self.errors = 0

    async def run_forever(self) -> None:
        """Make the others' edits, until cancelled."""
        while True:
            await self.tick()
            await asyncio.sleep(TICK_S)

    async def apply(self, edit: Edit, change: RoutingChange, *, dry_run: bool) -> tuple[EditResult, Spread | None]:
        """Make the edit here, then on all hosts; None if nothing was changed. Raises Conflict if it is not in force
        here, with the reason.
        """
        if dry_run:
            make = EntryEdit(change, self.exchange.source).first
            return await self._editor.apply(replace(edit, make=make), dry_run=True), None
        async with self._command:
            if self._leaving:
                raise Conflict("nothing was changed: this host is leaving the fleet")
            if any(own.proposal.edit.model == edit.model for own in self._own.values()):
                raise Conflict(f"nothing was changed: an edit of '{edit.model}' is not settled yet; try again")
            self._refuse_out_of_contact(edit)
            entry = EntryEdit(change, self.exchange.source)
            found = await self._editor.apply(replace(edit, make=entry.first), dry_run=True)
            if not found.difference:
                return found, None
            own = _Own(await self._propose(edit, change, entry), entry)
            self._own[own.proposal.edit.id] = own
            self.exchange.under_way.add(edit.model)
            try:
                result = await self._editor.apply(replace(edit, make=entry.again), dry_run=False)
                own.accept = True
            finally:
                own.accept = own.accept or False
                await self.tick()
            reached = await self._spread(own)
            if own.lost:
                raise Conflict(own.problem or f"not in force: {TAKEN_BACK}; try again")
            return result, reached

    async def tick(self) -> None:
        """One exchange, and the edits of one model that are due here."""
        async with self._turn:
            if self._left and not self._own:
                return
            try:
                await self._settle()
                if not self._leaving and (edits := self._next()):
                    await self._make_all(edits)
                    await self._settle()
                for own in [own for own in self._own.values() if own.lost]:
                    await self._take_back(own)
            except Exception as error:  # the others' edits go on once it is mended
                self.errors += 1
                problem = str(error) or "the store did not answer in time"
                if not isinstance(error, StoreUnavailable | TimeoutError | ValueError):
                    problem = f"{type(error).__name__}: {error}"
                if problem != self.problem:
                    log.warning("the fleet's edits of the routing file: %s", problem)
                self.problem = problem
            else:
                self.problem = ""

    async def leave(self) -> None:
        """Bring an edit that is being made here to the store, then remove this host's record; gives up after LEAVE_S
        each.
        """
        self._leaving = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LEAVE_S):
                while self._own:
                    await self.tick()
                    await asyncio.sleep(SOON_S)
        try:
            async with asyncio.timeout(LEAVE_S), self._turn:
                self._left = True
                await self.exchange.leave()
        except (StoreUnavailable, TimeoutError, ValueError):
            log.warning("this host's record of its routing file could not be removed from the fleet")

    def _refuse_out_of_contact(self, edit: Edit) -> None:
        """A stop that the fleet has confirmed is known here, unless this host is out of contact."""
        if edit.action == PROMOTE and not self.exchange.in_contact:
            raise Conflict(f"'{edit.model}' is not promoted while this host is out of contact: it may be stopped")

    async def _propose(self, edit: Edit, change: RoutingChange, entry: EntryEdit) -> Proposal:
        exchange, refused = self.exchange, ""
        new = RoutingEdit(
            "", edit.model, edit.candidate, change.action, change.route, change.percent,
            entry.before, entry.after, edit.by, exchange.host.name, edit.reason[:REASON_LENGTH], change.stable
        )  # fmt: skip

        def propose(core: RoutingCore) -> RoutingCore:
            nonlocal refused
            applied, others = exchange.applied(new.model), exchange.elsewhere(new.model)
            number = next_number(core, new.model, [applied, *(other.applied for other in others)])
            numbered = new._replace(id=new_id(number, secrets.token_hex(8)))
            core, refused = proposed(core, numbered, exchange.me, exchange.present, applied, others)
            return core

        try:
            async with asyncio.timeout(TURN_S):
                await self._turn.acquire()
        except TimeoutError:
            raise Conflict("nothing was changed: edits of other hosts are still being made here; try again") from None
        try:
            try:
                await exchange.commit(propose)
            except (StoreUnavailable, TimeoutError, ValueError) as error:
                said = str(error) or "no answer in time"
                raise Conflict(f"nothing was changed, since the other hosts cannot be told: {said}") from None
            if refused:
                raise Conflict(f"nothing was changed: {refused}")
            return exchange.core.proposals[new.model]
        finally:
            self._turn.release()

    async def _settle(self) -> None:
        """Bring what became of this host's edits to the store, with its record."""
        brought: list[_Own] = []  # not those that come into force while the store answers

        def settle(core: RoutingCore) -> RoutingCore:
            brought[:] = [own for own in self._own.values() if own.accept is not None]
            return self._settled(core, brought)

        await self.exchange.commit(settle)
        for own in brought:
            if not own.lost:
                self._forget(own)

    def _settled(self, core: RoutingCore, brought: Iterable[_Own]) -> RoutingCore:
        for own in brought:
            if own.accept and not own.lost:
                core, kept = accepted(core, own.proposal)
                own.lost = not kept
            if own.lost or own.accept is False:
                core = withdrawn(core, own.proposal.edit)
        for stands in core.proposals.values():
            if stands.incarnation == self.exchange.me and stands.edit.id not in self._own:
                core = withdrawn(core, stands.edit)  # the store has taken it without a reply
        return core

    def _next(self) -> tuple[RoutingEdit, ...]:
        """The edits of one model that are to be made here now."""
        now_s = asyncio.get_running_loop().time()
        for model in self.exchange.core.edits:
            found = self.exchange.due(model)
            if found.stand is Stand.BEHIND:
                newest, since_s = self._tried.get(model, ("", 0.0))
                if newest != found.edits[-1].id or now_s - since_s >= RETRY_S:
                    return found.edits
        return ()

    async def _make_all(self, edits: tuple[RoutingEdit, ...]) -> None:
        """Make these edits of one model, superseded weights together with the last one: they are never in force."""
        for _, group in groupby(
            edits, lambda edit: (edit.action, edit.candidate, edit.id if edit.action != WEIGHT else "")
        ):
            if why := await self._make(tuple(group)):
                self.exchange.refused[edits[-1].model] = why
                self._tried[edits[-1].model] = edits[-1].id, asyncio.get_running_loop().time()
                return

    async def _make(self, edits: tuple[RoutingEdit, ...]) -> str:
        """Make other hosts' edits here at once, if the entry is as it was there. Returns why not, or an empty text."""
        edit = edits[-1]

        def make(text: str) -> str:
            for one in edits:
                change = RoutingChange(one.action, one.model, one.route, one.percent, one.stable)
                text = EntryEdit(change, self.exchange.source, one.before, one.after).again(text)
            return text

        here = Edit(
            model=edit.model, candidate=edit.candidate, action=edit.action, make=make, by=edit.by,
            reason=edit.reason, evidence={"fleet_host": edit.host, "fleet_edit": edit.id}
        )  # fmt: skip
        try:
            self._refuse_out_of_contact(here)
            await self._editor.apply(here, dry_run=False)
        except GatewayError as error:
            if str(error) != self.exchange.refused.get(edit.model):
                log.warning("the edit of '%s' by %s on %s is not made here: %s", edit.model, edit.by, edit.host, error)
            return str(error)
        self.exchange.refused.pop(edit.model, None)
        return ""

    async def _take_back(self, own: _Own) -> None:
        """Restore the entry as before an edit that came second, unless it has been edited since."""
        edit = own.proposal.edit
        if not undoes(self.exchange.core, edit):
            own.problem = f"{TAKEN_BACK}, with the same result"
            self._forget(own)
            return
        back = Edit(
            model=edit.model, candidate=edit.candidate, action="taken-back", make=own.entry.back, by=edit.by,
            reason=TAKEN_BACK, evidence={"fleet_edit": edit.id}
        )  # fmt: skip
        try:
            await self._editor.apply(back, dry_run=False)
        except GatewayError as error:
            problem = f"in force on this host only, until it can be taken back: {TAKEN_BACK}; {error}"
            if problem != own.problem:
                log.error("the edit of '%s' by %s: %s", edit.model, edit.by, problem)
            own.problem = problem
        else:
            self._forget(own)

    def _forget(self, own: _Own) -> None:
        del self._own[own.proposal.edit.id]
        self.exchange.under_way = {one.proposal.edit.model for one in self._own.values()}

    async def _spread(self, own: _Own) -> Spread:
        """Wait until all hosts that are present have the edit, or say why not."""
        loop, exchange, edit = asyncio.get_running_loop(), self.exchange, own.proposal.edit
        end_s, enough_s = loop.time() + PATIENCE_S, loop.time() + 3 * TICK_S
        while True:
            waited = loop.time() >= enough_s
            members = exchange.host.members
            found = spread(
                edit, exchange.core, exchange.records, members, exchange.present, self.problem, waited=waited
            )
            if found.is_final or own.lost or self._left or loop.time() >= end_s:
                return found
            await asyncio.sleep(SOON_S)
            await self.tick()
