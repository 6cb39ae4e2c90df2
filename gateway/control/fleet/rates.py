"""This host's shares of the rate limits: exchanges its record with the store and puts into force what it may admit.

All decisions are those of `rates_step`; here is their I/O. Runs on control's loop, over a connection of its own, so no
beat waits for it. Without the store the host keeps the shares that it has.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from gateway.auth.fleet_rate_limit import BY_SHARE, WITHOUT_SHARE_NS
from gateway.control.fleet.count_budget import CountBudget
from gateway.control.fleet.host import HostState, still
from gateway.control.fleet.membership import CALLS
from gateway.control.fleet.rate_counts import RateCounts, count_name, pace_of
from gateway.control.fleet.rates_memory import RatesMemory
from gateway.control.fleet.rates_state import (
    RateRecord,
    RatesCore,
    decoded_core,
    decoded_record,
    encoded_core,
    encoded_record,
    limit_of,
    window_of,
)
from gateway.control.fleet.rates_step import Held, Seen, Step, next_step
from gateway.control.fleet.rates_usage import RateUsage
from gateway.control.fleet.store import OwnDocument, RecordChange, Snapshot, StoreUnavailable, Transaction
from gateway.control.fleet.timing import Timing

TICK_S: Final = 0.25
WINDOW_NS: Final = 1_000_000_000  # of most limits: for so long the base stays reserved after it has fallen
PATIENCE_NS: Final = 3 * WINDOW_NS  # that a newcomer has with hosts that have to give up a part of theirs
LARGE: Final = 150  # limits named in all records together
LEAVE_S: Final = 2.0
COUNT_AGAIN_NS: Final = 2_000_000_000  # after the store was too slow to count a request
SUFFIX: Final = ":rates"  # of the fleet's name in the store
REMEDY: Final = "gateway fleet remove HOST"
log: Final = logging.getLogger("gateway.control.fleet")


class FleetRates:
    """`host`: the state of this host's membership, whose incarnation names the record too. `clock`: of leases;
    `workers_clock`: of windows.

    `newcomer`: the host has not had shares yet, and takes a tenth of each limit.
    """

    def __init__(
        self,
        store: OwnDocument,
        timing: Timing,
        host: Callable[[], HostState],
        usage: RateUsage,
        memory: RatesMemory,
        clock: Callable[[], int],
        workers_clock: Callable[[], int] = time.monotonic_ns,
        counts: RateCounts | None = None,
    ) -> None:
        self._store = store
        self._timing = timing
        self._host = host
        self._usage = usage
        self._memory = memory
        self._clock = clock
        self._workers_clock = workers_clock
        self._counts = counts
        self._counting = False
        self.budget = CountBudget()
        self._count_again_ns = 0  # not before, since the store has been too slow for it
        self._turn = asyncio.Lock()
        self._left = False
        self._orphans_ended = False
        self._unanswered = False  # a transaction may still be on its way
        self._life = RatesCore()  # of the store, as it was seen last
        self._since_ns = 0  # this host has seen this life of the store
        self._base_since_ns = 0  # the base in force has not been larger
        self._known: Mapping[str, bytes] = {}  # the records that the store had last
        self.records: Mapping[str, RateRecord] = {}
        self.held = Held()
        self.newcomer = True
        self.problem = "the store has not answered yet"
        self.errors = 0
        usage.put_newcomers()

    @property
    def incarnation(self) -> str:
        """Of this host."""
        return self._host().incarnation

    @property
    def moving(self) -> frozenset[str]:
        """The other hosts in contact."""
        host, now_ns = self._host(), self._clock()
        others = host.members.keys() - {host.incarnation}
        return frozenset(name for name in others if not still(host, name, now_ns, self._timing))

    async def run_forever(self) -> None:
        """Exchange shares, until cancelled."""
        self._memory.keep(self._host().incarnation)
        while True:
            next_s = asyncio.get_running_loop().time() + TICK_S
            await self.tick()
            await asyncio.sleep(next_s - asyncio.get_running_loop().time())

    async def tick(self) -> None:
        """One exchange."""
        async with self._turn:
            if self._left:
                return
            if refused := self._host().refused:
                self._failed(refused)
                return
            try:
                async with asyncio.timeout(self._timing.lease_ns / 1e9 / CALLS):
                    await self._exchange()
            except (StoreUnavailable, TimeoutError, ValueError) as error:
                self._failed(str(error) or "the store did not answer in time")
            else:
                if self.problem:
                    log.info("fleet: this host's shares of the rate limits follow the demand")
                self.problem = ""
                may_count = self._counts is not None and self._life.settled
                self.budget.renew()
                self._count_in_store(may_count and self._clock() >= self._count_again_ns)

    async def count(self, places: tuple[int, ...]) -> int:
        """Count a request of the quota at these places in the store; returns the time in ns until one may be admitted,
        0 if this one is; BY_SHARE if the store does not answer in time: then the shares hold for a while; so they do
        until the next tick once the budget is used up. Never raises.
        """
        if self._counts is None or not self._counting:
            return BY_SHARE
        if not self.budget.take(self._clock()):
            self._count_in_store(False)
            return BY_SHARE
        key = self._usage.key(places[0])
        away = self.records.keys() - self.moving - {self.incarnation}
        left = limit_of(key) - sum(self.records[host].share(key) for host in away)
        if left <= 0:
            return WITHOUT_SHARE_NS
        try:
            return await self._counts.take(count_name(key, places), pace_of(left, window_of(key)))
        except StoreUnavailable as error:
            self._count_again_ns = self._clock() + COUNT_AGAIN_NS
            self._failed(str(error))
            return BY_SHARE

    def orphans_ended(self) -> None:
        """No worker of an earlier gateway of this state folder admits anything any more: what it had is free."""
        self._orphans_ended = True

    async def leave(self) -> None:
        """Give all shares back, once the workers have ended. Gives up after LEAVE_S: the shares then stay reserved
        until this state folder's next gateway takes them over, or someone removes the host.
        """
        me = self._host().incarnation
        try:
            async with asyncio.timeout(LEAVE_S), self._turn:
                self._left = True
                await self._remove([me])
        except (StoreUnavailable, TimeoutError, ValueError):
            log.warning("this host's shares of the rate limits could not be given back to the fleet")

    async def remove(self, incarnations: Iterable[str]) -> None:
        """Remove records of hosts that have ended. Raises StoreUnavailable, TimeoutError, ValueError."""
        async with asyncio.timeout(self._timing.lease_ns / 1e9 / CALLS):
            await self._remove(incarnations)

    async def close(self) -> None:
        """Close the store. Nothing else may be under way."""
        await self._store.close()

    async def _remove(self, incarnations: Iterable[str]) -> None:
        wanted = set(incarnations)
        snapshot = await self._store.commit(None)
        while found := sorted(wanted & snapshot.members.keys()):
            changes = tuple(RecordChange(name, snapshot.members[name], None) for name in found)
            removal = Transaction(snapshot.run_id, snapshot.tag, None, snapshot.tag, changes, False)
            snapshot = await self._store.commit(removal)

    async def _exchange(self) -> None:
        snapshot = await self._store.commit(None)
        while True:
            core = self._seen_life(snapshot)
            known = self._orphans_ended and self._host().incarnation in self._host().members  # who beats: it has joined
            ended = self._memory.predecessors(snapshot.members, self.moving) if known else []
            step = await self._lowered(snapshot, core, ended)
            transaction = self._transaction(snapshot, core, ended, step)
            if transaction is None:
                break
            self._unanswered = True
            snapshot = await self._store.commit(transaction)
            self._unanswered = False
            if snapshot.committed:
                break
        self._life = core
        self._known = snapshot.members
        self.records = {name: decoded_record(record) for name, record in snapshot.members.items()}
        self._granted(step, core)

    async def _lowered(self, snapshot: Snapshot, core: RatesCore, ended: Sequence[str]) -> Step:
        """The next step, once what falls has fallen here: only then is it known what was admitted before."""
        while True:
            self._usage.measure(self._workers_clock())
            step = await self._next_step(self._seen(snapshot, core, ended))
            if step.now == self.held:
                return step
            self._put(step.now)

    async def _next_step(self, seen: Seen) -> Step:
        """In a thread if there is much to compute."""
        named = sum(len(record.entries) for record in seen.records.values())
        return next_step(seen) if named < LARGE else await asyncio.to_thread(next_step, seen)

    def _seen_life(self, snapshot: Snapshot) -> RatesCore:
        """The store's core for its present life; notes when this host has first seen it."""
        core = decoded_core(snapshot.core)
        if core.run_id != snapshot.run_id or not core.life:
            core = RatesCore(core.life or secrets.token_hex(8), snapshot.run_id)
        if (core.life, core.run_id) != (self._life.life, self._life.run_id):
            self._since_ns = self._clock()
        if not core.settled and self._clock() - self._since_ns >= self._timing.longest_ns:
            core = core._replace(settled=True)
        return core

    def _seen(self, snapshot: Snapshot, core: RatesCore, ended: Sequence[str]) -> Seen:
        host = self._host()
        records = {name: decoded_record(record) for name, record in {**self._lost(core), **snapshot.members}.items()}
        for name in ended:
            del records[name]
        in_use = self._clock() - self._base_since_ns >= WINDOW_NS
        hot = self._usage.hot(self.held)
        return Seen(
            host.incarnation, host.name, records, self.moving, core.settled, in_use, self.held, hot, self._usage.used
        )

    def _lost(self, core: RatesCore) -> Mapping[str, bytes]:
        """The records that the store has lost with all data, if this is the first exchange after it. Once it is settled
        others have brought what there was, and what this host knows may be old.
        """
        if not self._life.life or core.life == self._life.life or core.settled:
            return {}
        return {name: record for name, record in self._known.items() if name != self._host().incarnation}

    def _transaction(self, snapshot: Snapshot, core: RatesCore, ended: Sequence[str], step: Step) -> Transaction | None:
        """None if there is nothing to write. Whatever is reserved anew is written with a new tag. A transaction without
        an answer may yet be carried out, and lower what is reserved: the record is written again, so that it fails.
        """
        me, stored, record = self._host().incarnation, snapshot.members, step.record
        if self._unanswered:
            record = record._replace(turn=record.turn + 1)
        changes = [RecordChange(me, stored.get(me), encoded_record(record))]
        changes += [RecordChange(name, stored[name], None) for name in ended]
        lost = self._lost(core)
        changes += [RecordChange(name, None, lost[name]) for name in sorted(lost.keys() - stored.keys())]
        changes = [change for change in changes if change.before != change.after]
        grows = step.grows or len(changes) > 1 or encoded_core(core) != snapshot.core
        if not changes and not grows:
            return None
        new_core, tag = (encoded_core(core), secrets.token_hex(8)) if grows else (None, snapshot.tag)
        return Transaction(snapshot.run_id, snapshot.tag, new_core, tag, tuple(changes), False)

    def _granted(self, step: Step, core: RatesCore) -> None:
        self._put(step.then)
        if not self.newcomer:
            return
        waited = core.settled and self._clock() - self._since_ns >= self._timing.longest_ns + PATIENCE_NS
        if step.then.base_ppm or (waited and not self._memory.predecessors(self.records, self.moving)):
            self.newcomer = False
            if not step.then.base_ppm:
                log.error("fleet: hosts out of contact keep all of each rate limit; if they have ended: %s", REMEDY)
            log.info("fleet: %.3g%% of each rate limit are this host's", step.then.base_ppm / 1e4)
            self._put(step.then)

    def _put(self, held: Held) -> None:
        if held.base_ppm < self.held.base_ppm:
            self._base_since_ns = self._clock()
        self.held = held
        if not self.newcomer:
            self._usage.put(held, counting=self._counting)

    def _count_in_store(self, counting: bool) -> None:
        if counting != self._counting:
            self._counting = counting
            self._put(self.held)

    def _failed(self, problem: str) -> None:
        self.errors += 1
        if problem != self.problem:
            kept = "a tenth of each limit is admitted here" if self.newcomer else "this host keeps its shares"
            log.warning("the fleet's rate limits: %s; %s", problem, kept)
        self.problem = problem
        self._count_in_store(False)
