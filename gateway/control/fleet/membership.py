"""This host's membership of the fleet: beats to the store, puts stops into force and confirms them, holds the lease.

All decisions are those of `host`, `stop_call` and `scripts`; here is their I/O. Runs on control's loop. Stable versions
never depend on it: without the store only candidates close.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from gateway.control.fleet import host as step
from gateway.control.fleet.confirmation import Confirmation, confirmation
from gateway.control.fleet.deadline import at_most
from gateway.control.fleet.host import NEVER_NS, HostState
from gateway.control.fleet.memory import FleetMemory
from gateway.control.fleet.pending_stops import PendingStop, PendingStops
from gateway.control.fleet.releases import RESUME, STOP, FleetReleases, release_name
from gateway.control.fleet.scripts import exchange, reply_of, resume
from gateway.control.fleet.shared_releases import SharedReleases
from gateway.control.fleet.stop_call import begin_stop
from gateway.control.fleet.store import Change, FleetStore, Snapshot, StoreUnavailable, transact
from gateway.control.fleet.store_state import FIRST, Exchange, Identity, Note, Reply, StoreState
from gateway.control.fleet.timing import Timing
from gateway.control.release.decisions import ReleaseDecision
from gateway.errors import Conflict
from gateway.shm.switchboard import FOREVER_NS, Switchboard
from gateway.version_key import VersionKey

BEAT_S: Final = 0.5
BEAT_SHARE: Final = 6  # beats in a lease at least
SOON_S: Final = 0.02  # between beats while a stop waits, if no member's news comes
PAUSE_S: Final = 0.002  # from the start of a beat to that of the next one at least
CALLS: Final = 3  # a store call may take a lease's third
LEAVE_S: Final = 4.0
log: Final = logging.getLogger("gateway.control.fleet")


class Membership:
    """`fleet`: its name. `url`: the store's, to be shown. `fence`: waits until all sends in progress of candidates have
    ended. `heartbeat_timeout_ns`: after it, workers take control for dead.
    """

    def __init__(
        self,
        store: FleetStore,
        timing: Timing,
        board: Switchboard,
        releases: FleetReleases,
        memory: FleetMemory,
        fence: Callable[[], Awaitable[None]],
        *,
        fleet: str,
        url: str,
        name: str,
        hold: bool,
        heartbeat_timeout_ns: int,
    ) -> None:
        self.fleet = fleet
        self.url = url
        self._store = store
        self.timing = timing
        self._board = board
        self._releases = releases
        self._memory = memory
        self._fence = fence
        self._heartbeat_timeout_ns = heartbeat_timeout_ns
        words, stops = releases.known_at_start(memory)
        self.host: HostState = step.started(secrets.token_hex(8), name, words, stops, memory.holders, hold=hold)
        self.notes: dict[str, Note] = {}  # of what the store does not have yet
        self.problem = "the store has not answered yet"
        self.errors = 0
        self.ramps: SharedReleases | None = None
        self._seen: Snapshot | None = None
        self._stops = PendingStops(timing)
        self._fenced = False  # while leaving: no send of a candidate is in progress any more
        self._turn = asyncio.Lock()  # one transaction at a time: a reply is taken in before the next is computed
        self._kicked = asyncio.Event()
        self._replied = asyncio.Condition()
        self._grant()

    @property
    def unconfirmed(self) -> tuple[str, ...]:
        """The releases with a stop that is not confirmed, or that the store does not have yet. Safe in a thread."""
        host, notes = self.host, dict(self.notes)
        noted = {release for release, note in notes.items() if note.action == STOP}
        return tuple(sorted(self._stops.releases | host.stops.keys() | noted))

    async def beat_forever(self) -> None:
        """Beat until cancelled: regularly, and at once if kicked."""
        pause_s = min(BEAT_S, self.timing.lease_ns / 1e9 / BEAT_SHARE)
        while True:
            self._kicked.clear()
            next_s = asyncio.get_running_loop().time() + PAUSE_S
            await self._beat()
            eager = self._stops.awaited and not self.problem
            await at_most(SOON_S if eager else pause_s, self._kicked.wait())
            await asyncio.sleep(next_s - asyncio.get_running_loop().time())

    async def listen_forever(self) -> None:
        """Beat at once whenever another member has news, until cancelled."""
        while True:
            await self._store.wait_urgent()
            self._kicked.set()

    def stopped_here(self, decision: ReleaseDecision) -> None:
        """Bring a stop that was made on this host to the fleet: for the epoch that this host sees, or before its first
        contact for whichever is current.
        """
        if self._releases.syncing:
            return
        release = release_name(decision.model, decision.candidate)
        if self.host.identity is None:
            self.host = step.stop_here(self.host, release)
        else:
            self.host = step.trip(self.host, release, self.host.words.get(release, FIRST).epoch)
        self._note(release, STOP, decision.by, decision.reason)
        self._kicked.set()

    async def confirm(self, stopped: Iterable[VersionKey], by: str, reason: str) -> Confirmation:
        """Stop these releases, and the candidates that other hosts have of these models, whichever epoch is current in
        the fleet. Wait until no host can answer from them, but no longer than a lease and some calls to the store.
        """
        began_ns = self.now_ns()
        mine: list[PendingStop] = []
        for release in sorted(self._releases.to_stop(stopped, self.host.members)):
            self.host, call = begin_stop(self.host, release)
            self._note(release, STOP, by, reason)
            mine.append(self._stops.add(call))
        self._kicked.set()
        try:
            if self._releases.sync(self.host, self.notes):  # another host has resumed it since it was stopped here
                await self._fence()
            self._remember()
            await self._wait_settled(mine, began_ns)
        finally:
            for stop in mine:
                stop.awaited = False
        return confirmation(mine, self.host, self.now_ns(), began_ns, self.timing)

    async def resume(self, key: VersionKey, by: str, reason: str, evidence: dict[str, Any]) -> None:
        """Begin a new epoch of the release on all hosts; it is resumed here on return. Raises Conflict."""
        release = release_name(*key)
        await self._beat()  # the store may not have the stop yet
        async with self._turn:
            earlier = self._stops.of(release)
            state = await self._resumed_in_store(release, by, reason)
            self._stops.withdraw(earlier)
            self.host = self.host._replace(words={**self.host.words, release: state.words[release]})
            if release in self.host.stops:
                raise Conflict(f"'{key[0]}' was stopped again meanwhile")
            self.notes.pop(release, None)
            self._releases.evidence[release] = evidence
            self._in_force(state)
        self._kicked.set()

    async def leave(self) -> None:
        """Close here for good, and remove this host's record once no send of a candidate is in progress. Gives up after
        LEAVE_S: others then wait for this host's lease.
        """
        self.host = step.leave(self.host)
        self._grant()
        try:
            async with asyncio.timeout(LEAVE_S):
                await self._fence()
                self._fenced = True
                await self._beat()
        except Exception:  # nothing may keep the gateway from ending in good order
            log.warning("this host's record could not be removed from the fleet: others wait for its lease")

    async def close(self) -> None:
        """Close the store. Nothing else may be under way."""
        await self._store.close()

    async def _wait_settled(self, stops: list[PendingStop], began_ns: int) -> None:
        patience_ns = self.timing.longest_ns + self.timing.lease_ns // CALLS
        async with self._replied:
            while any(stop.settled is None for stop in stops):
                left_ns = began_ns + patience_ns - self.now_ns()
                if left_ns <= 0:
                    return
                await at_most(min(left_ns / 1e9, SOON_S), self._replied.wait())
                self._stops.settle(self.host, self.now_ns())

    async def _resumed_in_store(self, release: str, by: str, reason: str) -> StoreState:
        if release in self.host.stops:
            raise Conflict(f"'{release}' is not resumed: the fleet's store does not have its stop yet; try again")
        refused = ""

        def change(state: StoreState) -> StoreState:
            nonlocal refused
            known, epoch = self.host.identity, self.host.told.get(release, FIRST).epoch
            if known is None:
                refused = "the store has not answered yet; try again"
                return state
            state, refused = resume(state, known, release, epoch)
            note = Note(RESUME, by, self.host.name, reason)
            return state if refused else state._replace(notes={**state.notes, release: note})

        try:
            state = await self._transact(change)
        except (StoreUnavailable, TimeoutError, ValueError) as error:
            self._seen = None
            problem = str(error) or "no answer in time"
            unknown = "it may be resumed yet; stop it to be sure that it is not"
            raise Conflict(f"'{release}' is not known to be resumed: the fleet's store: {problem}; {unknown}") from None
        if refused:
            raise Conflict(f"'{release}' is not resumed: {refused}")
        return state

    async def _transact(self, change: Change) -> StoreState:
        async with asyncio.timeout(self.timing.lease_ns / 1e9 / CALLS):
            self._seen, state = await transact(self._store, self._seen, change)
        return state

    async def _beat(self) -> None:
        async with self._turn:
            self.host, request = step.begin_beat(self.host, self.now_ns(), self.timing, secrets.token_hex(8))
            request = request._replace(leaving=request.leaving and self._fenced, candidates=self._releases.candidates())
            told = dict(self.notes)
            refused = ""

            def change(state: StoreState) -> StoreState:
                nonlocal refused
                after, reply = exchange(state, request)
                refused = reply.refused
                if told and after.words is not state.words:
                    after = after._replace(notes={**after.notes, **told})
                return after

            try:
                state = await self._transact(change)
            except (StoreUnavailable, TimeoutError, ValueError) as error:
                self._failed(error)
                return
            await self._take(request, reply_of(state, refused), state)
            for release, note in told.items():
                if not refused and self.notes.get(release) is note and release not in self.host.stops:
                    del self.notes[release]

    async def _take(self, request: Exchange, reply: Reply, state: StoreState) -> None:
        """What restricts is put into force before what permits."""
        was_open = self.host.open
        self.host = step.on_reply(self.host, self.now_ns(), request, reply, self.timing)
        self._in_force(state)
        self._report(was_open, reply.refused)
        identity, revision = self.host.identity, self.host.revision
        if identity is not None and revision > self.host.applied:
            await self._fence()
            self._applied(identity, revision)
        self._stops.follow(self.host, self.now_ns(), request, reply)
        async with self._replied:
            self._replied.notify_all()

    def _in_force(self, state: StoreState) -> None:
        self._releases.sync(self.host, state.notes)
        self._grant()
        self._remember()

    def _remember(self) -> None:
        host = self.host
        self._memory.keep(host.words, tuple(host.stops), self._releases.last_sequence, step.holders(host))

    def _applied(self, identity: Identity, revision: int) -> None:
        before = self.host.applied
        self.host = step.applied(self.host, identity, revision)
        if self.host.applied > before and len(self.host.members) > 1:
            self._kicked.set()  # whoever waits for this host should hear it

    def _grant(self) -> None:
        """Put the lease onto the switchboard."""
        host = self.host
        until_ns = (FOREVER_NS if host.hold else host.contact_until_ns) if host.open else NEVER_NS
        self._board.grant_lease(until_ns, self._heartbeat_timeout_ns)

    def _failed(self, error: Exception) -> None:
        self._seen = None  # what was sent may have been carried out
        self.errors += 1
        problem = str(error) or "the store did not answer in time"
        if problem != self.problem:
            log.warning("the fleet's store: %s; candidates close here once the lease has ended", problem)
        self.problem = problem

    def _report(self, was_open: bool, refused: str) -> None:
        if refused and refused != self.problem:
            log.error("this host may not take part in the fleet: %s; its candidates stay closed", refused)
        if self.host.open != was_open:
            log.info(
                "candidates are %s here", "open" if self.host.open else "closed: contact was lost, or the store is new"
            )
        self.problem = refused

    def _note(self, release: str, action: str, by: str, reason: str) -> None:
        self.notes[release] = Note(action, by, self.host.name, reason)

    def now_ns(self) -> int:
        """The time on the clock of all leases."""
        return self._board.clock.now_ns()
