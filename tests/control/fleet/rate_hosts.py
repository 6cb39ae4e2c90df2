"""Hosts with rate limits in one process: real counters in shared memory, a real limiter, and FleetRates over a store.

Time is the test's own: a tick of all hosts is a quarter of a second, in which requests are asked for evenly.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.auth.fleet_rate_limit import attach_fleet_rate_limiter, create_rate_shares, share_of
from gateway.auth.rate_limit import Quota, create_rate_counters
from gateway.control.fleet.host import HostState, Observed
from gateway.control.fleet.rate_counts import RateCounts
from gateway.control.fleet.rates import FleetRates
from gateway.control.fleet.rates_memory import RatesMemory
from gateway.control.fleet.rates_usage import RateUsage
from gateway.control.fleet.store import Document, FleetStore, Snapshot, StoreUnavailable, Transaction
from gateway.control.fleet.store_state import Member
from gateway.control.fleet.timing import Timing
from gateway.errors import RateExceeded
from gateway.settings.gateway import RateSettings
from gateway.shm.scoreboard import HEAD
from tests.control.fleet.servers import LONG_S

S: Final = 1_000_000_000
TICK_NS: Final = S // 4
TIMING: Final = Timing(30 * S, S // 10)  # a third of it is a deadline in real time
numbers = itertools.count()


def replace_file(path: Path, content: Callable[[], bytes]) -> None:
    path.write_bytes(content())


class Wire:
    """A host's connection, which can be cut."""

    def __init__(self, store: FleetStore) -> None:
        self.store = store
        self.cut = False
        self.writes = 0
        self.counted = 0  # calls that count requests of small limits
        self.counts_cut = False  # only those

    def document(self, name: str) -> "WireDocument":
        return WireDocument(self, self.store.document(name))

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        if self.cut:
            raise StoreUnavailable("cut off")
        self.writes += transaction is not None
        return await self.store.commit(transaction)

    async def wait_urgent(self) -> None:
        await self.store.wait_urgent()

    async def close(self) -> None:
        await self.store.close()


class WireDocument:
    """A document over a host's connection."""

    def __init__(self, wire: Wire, document: Document) -> None:
        self.wire = wire
        self.document = document

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        self.wire.counted += 1
        if self.wire.cut or self.wire.counts_cut:
            raise StoreUnavailable("cut off")
        return await self.document.commit(transaction)


class RateHost:
    """One life of a host with one worker. `state`: its folder's; `alive`: it beats."""

    def __init__(self, fleet: "RateFleet", state: Path, name: str, settings: Mapping[str, Any]) -> None:
        self.fleet, self.state, self.name = fleet, state, name
        self.incarnation = f"{name}{next(numbers)}"
        self.alive = True
        self.joined = True  # whether its membership has seen who else is there
        self.refused = ""  # why the fleet refuses it
        self.settings = settings
        rate = RateSettings.model_validate(settings)
        board = state / f"{next(numbers)}.scoreboard"
        counters, shares = create_rate_counters(rate, board, 1), create_rate_shares(rate, board, 1)
        assert counters is not None and shares is not None
        self.shares = shares
        limiter = attach_fleet_rate_limiter(rate, board, 1, 0, memoryview(bytearray(8 * HEAD)).cast("q"))
        assert limiter is not None
        self.limiter = limiter
        self.wire = Wire(fleet.new_store())
        self.usage = RateUsage(rate, counters, shares)
        memory = RatesMemory(state, "test", replace_file)
        memory.keep(self.incarnation)
        clock = fleet.clock
        self.clock_error_ns = 0  # of its wall clock
        counts = RateCounts(self.wire.document, lambda: fleet.now_ns + self.clock_error_ns, LONG_S)
        self.rates = FleetRates(self.wire, TIMING, self.host_state, self.usage, memory, clock, clock, counts)

    def host_state(self) -> HostState:
        """As its membership would have it."""
        if not self.joined:
            return HostState(self.incarnation, self.name, refused=self.refused)
        others = [host for host in self.fleet.hosts if (host.alive and not host.wire.cut) or host is self]
        members = {host.incarnation: Member(1, 0, False, host.name) for host in others}
        observed = {name: Observed(1, self.fleet.now_ns) for name in members}
        return HostState(self.incarnation, self.name, refused=self.refused, members=members, observed=observed)

    async def ask(self, customer: str | None) -> bool:
        try:
            await self.limiter.counted(lambda: self.limiter.admit(customer, self.fleet.now_ns), self._count)
        except RateExceeded:
            return False
        return True

    async def _count(self, quota: Quota) -> int:
        return await self.rates.count(quota.places)

    def share(self, place: int = 0) -> int:
        """In force, or to be if the store does not answer, of a named customer."""
        return share_of(int(self.shares.words[place]))


class RateFleet:
    """Hosts over one store."""

    def __init__(self, folder: Path, new_store: Any, **settings: Any) -> None:
        self.folder = folder
        self.new_store = new_store
        self.settings = settings
        self.now_ns = 10**15 + 123_456_789
        self.hosts: list[RateHost] = []
        self._lives: list[RateHost] = []  # of all hosts

    def clock(self) -> int:
        return self.now_ns

    def add(self, name: str) -> RateHost:
        state = self.folder / f"{name}{next(numbers)}"
        state.mkdir()
        self.hosts.append(self._started(state, name))
        return self.hosts[-1]

    def _started(self, state: Path, name: str) -> RateHost:
        self._lives.append(RateHost(self, state, name, self.settings))
        return self._lives[-1]

    def restart(self, host: RateHost, *, orphans: bool = False) -> RateHost:
        """A new process over the same state folder, after the old one was killed. `orphans`: its workers go on."""
        host.alive = False
        new = self._started(host.state, host.name)
        if not orphans:
            new.rates.orphans_ended()
        self.hosts[self.hosts.index(host)] = new
        return new

    def clone(self, host: RateHost, name: str) -> RateHost:
        """Another machine with a clone of the host's disk, which has not joined yet."""
        new = self._started(host.state, name)
        new.joined = False
        new.rates.orphans_ended()
        self.hosts.append(new)
        return new

    async def run(self, seconds: float, offered: Mapping[tuple[str, str], float]) -> Counter[str]:
        """Requests admitted by host and in all. `offered`: per second, by host and customer."""
        admitted: Counter[str] = Counter()
        begin_ns = self.now_ns
        due = sorted(
            (begin_ns + int((number + place / len(offered)) * S / per_s), host, customer)
            for place, ((host, customer), per_s) in enumerate(sorted(offered.items()))
            for number in range(int(seconds * per_s))
        )
        asked = iter(due)
        request = next(asked, None)
        phases = {host.name: TICK_NS * place // len(self.hosts) for place, host in enumerate(self.hosts)}
        ticks = sorted(
            (begin_ns + TICK_NS * tick + phases[host.name], host.name)
            for host in self.hosts
            for tick in range(int(seconds * S / TICK_NS))
        )
        by_name = {host.name: host for host in self.hosts}
        for at_ns, name in ticks:
            while request is not None and request[0] <= at_ns:
                self.now_ns = max(self.now_ns, request[0])
                got = await by_name[request[1]].ask(request[2])
                admitted[request[1]] += got
                admitted["all"] += got
                request = next(asked, None)
            self.now_ns = max(self.now_ns, at_ns)
            if by_name[name].alive:
                await by_name[name].rates.tick()
        self.now_ns = begin_ns + int(seconds * S)
        return admitted

    async def close(self) -> None:
        for host in self._lives:
            await host.wire.close()
            host.shares.segment.remove()
