"""Shares of rate limits whatever order messages arrive in: their sum in force never exceeds a limit."""

import asyncio
from collections.abc import Mapping
from random import Random
from typing import Any, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from gateway.control.fleet.host import HostState, Observed
from gateway.control.fleet.rates import FleetRates
from gateway.control.fleet.rates_state import MILLION, quota_key
from gateway.control.fleet.rates_step import Held, Used
from gateway.control.fleet.store import Snapshot, StoreUnavailable, Transaction
from gateway.control.fleet.store_state import Member
from gateway.control.fleet.timing import Timing

S: Final = 1_000_000_000
TIMING: Final = Timing(600 * S, S)  # a third of it is a deadline in real time
HOSTS: Final = 3
KEYS: Final = {quota_key("acme", 100, S): 100, quota_key("h7", 10, 10 * S): 10, quota_key("h8", 37, S): 37}
KEY: Final = next(iter(KEYS))


class Store:
    """One copy of the data, which carries out transactions as the real ones do."""

    def __init__(self) -> None:
        self.life, self.tag, self.core = 1, "", b""
        self.records: dict[str, bytes] = {}
        self.documents: dict[str, Store] = {}

    def commit(self, transaction: Transaction | None) -> Snapshot:
        done = transaction is not None and self._carry_out(transaction)
        return Snapshot(done, f"run {self.life}", self.tag, self.core, dict(self.records))

    def _carry_out(self, transaction: Transaction) -> bool:
        if (transaction.run_id, transaction.tag) != (f"run {self.life}", self.tag):
            return False
        if any(self.records.get(name) != before for name, before, _ in transaction.records):
            return False
        for name, _, after in transaction.records:
            self.records.pop(name, None)
            if after is not None:
                self.records[name] = after
        if transaction.core is not None:
            self.core, self.tag = transaction.core, transaction.new_tag
        return True


class Local:
    """A connection to it that never fails."""

    def __init__(self, store: Store) -> None:
        self._store = store

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        return self._store.commit(transaction)

    def document(self, name: str) -> "Local":
        return Local(self._store.documents.setdefault(name, Store()))

    async def close(self) -> None:
        pass


class Wire:
    """A host's connection: a call waits until the test lets it pass."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.call: tuple[Transaction | None, asyncio.Future[Snapshot]] | None = None
        self.late: list[Transaction] = []

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        future: asyncio.Future[Snapshot] = asyncio.get_running_loop().create_future()
        self.call = transaction, future
        return await future

    async def close(self) -> None:
        pass

    def go(self, how: str) -> None:
        """Let the call pass, or lose its reply, or the request, which the store may have later."""
        if self.call is None:
            return
        transaction, future = self.call
        self.call = None
        if how == "lost" and transaction is not None:
            self.late.append(transaction)
        reply = self.store.commit(transaction) if how != "lost" else None
        if how == "pass" and reply is not None:
            future.set_result(reply)
        else:
            future.set_exception(StoreUnavailable("no answer"))


class Usage:
    """As much is admitted as may be, and is demanded."""

    def __init__(self) -> None:
        self.demands: dict[str, int] = {}
        self.admitted: dict[str, int] = {}
        self.newcomer = True
        self.held = Held()

    def put_newcomers(self) -> None:
        self.newcomer = True

    def put(self, held: Held, *, counting: bool) -> None:
        self.newcomer, self.held = False, held

    def measure(self, now_ns: int) -> None:
        for key in KEYS:
            may = KEYS[key] // 10 if self.newcomer else self.held.share(key)
            self.admitted[key] = min(may, self.demands.get(key, 0))

    def hot(self, held: Held) -> tuple[str, ...]:
        wanted = [key for key in KEYS if 4 * self.demands.get(key, 0) > 3 * KEYS[key] * held.base_ppm // MILLION]
        return tuple(sorted(wanted, key=lambda key: -self.demands.get(key, 0)))

    def used(self, key: str) -> Used:
        return Used(self.admitted.get(key, 0), self.demands.get(key, 0))


class Memory:
    """Of a state folder."""

    def __init__(self, last: str | None) -> None:
        self._last = last

    def keep(self, incarnation: str) -> None:
        pass

    def predecessors(self, records: Mapping[str, bytes], beating: frozenset[str]) -> list[str]:
        return [one for one in (self._last,) if one is not None and one in records and one not in beating]


class Host:
    """One life of a host."""

    def __init__(self, world: "Hosts", number: int, last: str | None) -> None:
        self.name = f"{'abc'[number]}{next(world.numbers)}"
        self.world = world
        self.wire = Wire(world.store)
        self.usage = Usage()
        self.cut = False
        usage: Any = self.usage
        memory: Any = Memory(last)
        self.rates = FleetRates(self.wire, TIMING, self.state, usage, memory, lambda: world.now_ns)
        self.rates.orphans_ended()
        self.ticking: asyncio.Task[None] | None = None

    def state(self) -> HostState:
        hosts = [host for host in self.world.hosts if host.rates.records or host is self]
        members = {host.name: Member(1, 0, False, host.name) for host in hosts if not host.cut}
        observed = {name: Observed(1, self.world.now_ns) for name in members}
        return HostState(self.name, self.name, members=members, observed=observed)

    async def begin(self) -> None:
        if self.ticking is None or self.ticking.done():
            self.ticking = asyncio.create_task(self.rates.tick())
        await self.world.calm()

    async def whole(self) -> None:
        await self.begin()
        while self.wire.call is not None:
            self.wire.go("lost" if self.cut else "pass")
            await self.world.calm()
        if self.ticking is not None and self.ticking.done():
            self.ticking.result()


class Hosts(RuleBasedStateMachine):
    """Three hosts and a store. What a host that was killed had in force stays so until its successor has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.numbers = iter(range(10**6))
        self.now_ns = 10**15
        self.store = Store()
        self.ghosts: list[Held] = []
        self.hosts: list[Host] = []

    def teardown(self) -> None:
        for host in self.hosts:
            if host.ticking is not None:
                host.ticking.cancel()
        self.loop.run_until_complete(self.calm())
        self.loop.close()

    async def calm(self) -> None:
        for _ in range(6):
            await asyncio.sleep(0)

    def run(self, what: Any) -> None:
        self.loop.run_until_complete(what)

    @initialize(old=st.booleans())
    def begin(self, old: bool) -> None:
        """`old`: the hosts have their shares."""

        async def make() -> None:
            for number in range(HOSTS):
                self.hosts.append(Host(self, number, None))

        self.run(make())
        for seconds in (700, 1, 1) if old else ():
            self.ticks([0, 1, 2])
            self.now_ns += seconds * S

    @rule(numbers=st.lists(st.integers(0, HOSTS - 1), min_size=3, max_size=12))
    def ticks(self, numbers: list[int]) -> None:
        for number in numbers:
            self.run(self.hosts[number].whole())
            self.check()

    @rule(
        number=st.integers(0, HOSTS - 1),
        hows=st.lists(st.sampled_from(["pass", "pass", "lost", "no reply"]), max_size=3),
    )
    def a_tick_goes_on(self, number: int, hows: list[str]) -> None:
        """Begin one unless one has begun, and let some of its messages pass, or lose them."""
        host = self.hosts[number]
        self.run(host.begin())
        for how in hows:
            host.wire.go("lost" if host.cut else how)
            self.run(self.calm())
            self.check()

    @rule(number=st.integers(0, HOSTS - 1))
    def a_late_message_arrives(self, number: int) -> None:
        if self.hosts[number].wire.late:
            self.store.commit(self.hosts[number].wire.late.pop(0))

    @rule(
        number=st.integers(0, HOSTS - 1), key=st.sampled_from(sorted(KEYS)), demand=st.sampled_from([0, 1, 5, 40, 300])
    )
    def demand_moves(self, number: int, key: str, demand: int) -> None:
        self.hosts[number].usage.demands[key] = demand

    @rule(seconds=st.sampled_from([1, 700]))
    def time_passes(self, seconds: int) -> None:
        self.now_ns += seconds * S

    @rule(number=st.integers(0, HOSTS - 1))
    def a_cable_is_pulled_or_plugged_in(self, number: int) -> None:
        self.hosts[number].cut = not self.hosts[number].cut

    @rule(number=st.integers(0, HOSTS - 1), own=st.booleans())
    def a_host_is_killed_and_restarted(self, number: int, own: bool) -> None:
        """With its own state folder, or an empty one: then the old one's workers go on."""

        async def restart() -> None:
            host = self.hosts[number]
            if host.ticking is not None:
                host.ticking.cancel()
            if not own and not host.usage.newcomer:
                self.ghosts.append(host.usage.held)
            self.hosts[number] = Host(self, number, host.name if own else None)
            self.hosts[number].wire.late = host.wire.late
            await self.calm()

        if len(self.ghosts) < 3:
            self.run(restart())

    @rule()
    def the_store_restarts(self) -> None:
        self.store.life += 1

    @rule()
    def the_store_loses_all_data(self) -> None:
        """Hosts in contact know what the others have, and all exchange within a lease after it. There is one."""
        if all(host.cut or host.rates.newcomer for host in self.hosts):
            return
        self.ticks([0, 1, 2, 0, 1, 2])
        self.store.core, self.store.tag, self.store.records = b"", "", {}
        self.ticks([0, 1, 2, 0, 1, 2])

    @invariant()
    def check(self) -> None:
        """Newcomers are not counted: without contact they have a tenth."""
        held = [host.usage.held for host in self.hosts if not host.usage.newcomer] + self.ghosts
        assert sum(one.base_ppm for one in held) <= MILLION
        for key, limit in KEYS.items():
            assert sum(one.share(key) for one in held) <= limit, (key, held)


TestHosts = Hosts.TestCase
TestHosts.settings = settings(max_examples=25, stateful_step_count=40, deadline=None)


def random_run(seed: int, steps: int = 250) -> None:
    """The same without hypothesis, with more at once: most ticks wait in the middle while others go on."""
    random, hosts = Random(seed), Hosts()
    hosts.begin(old=True)
    try:
        for _ in range(steps):
            number, chance = random.randrange(HOSTS), random.random()
            if chance < 0.75:
                hosts.a_tick_goes_on(
                    number, random.choices(["pass", "lost", "no reply"], [8, 1, 1], k=random.randrange(3))
                )
            elif chance < 0.9:
                hosts.demand_moves(number, random.choice(sorted(KEYS)), random.choice([0, 0, 30, 300]))
            elif chance < 0.95:
                hosts.time_passes(random.choice([1, 1, 1, 700]))
            elif chance < 0.965:
                hosts.a_late_message_arrives(number)
            elif chance < 0.98:
                hosts.a_cable_is_pulled_or_plugged_in(number)
            elif chance < 0.995:
                hosts.a_host_is_killed_and_restarted(number, random.random() < 0.7)
            elif chance < 0.9975:
                hosts.the_store_restarts()
            else:
                hosts.the_store_loses_all_data()
            hosts.check()
    finally:
        hosts.teardown()


@pytest.mark.parametrize("seed", range(40))
def test_seeded_runs(seed: int) -> None:
    random_run(seed)


def test_fall_that_arrives_late_frees_nothing_that_is_in_force_again() -> None:
    hosts = Hosts()
    hosts.begin(old=True)
    hosts.demand_moves(0, KEY, 300)
    hosts.ticks([0, 1, 2, 0])
    hosts.demand_moves(0, KEY, 5)
    hosts.demand_moves(1, KEY, 300)
    hosts.ticks([1])
    hosts.a_tick_goes_on(0, ["pass", "lost"])
    hosts.demand_moves(0, KEY, 300)
    hosts.demand_moves(1, KEY, 0)
    hosts.ticks([1, 0])
    assert hosts.hosts[0].usage.held.share(KEY) == 100
    hosts.a_late_message_arrives(0)
    hosts.demand_moves(1, KEY, 300)
    hosts.ticks([1, 1])
    hosts.teardown()


def test_host_that_was_taken_over_is_not_brought_back() -> None:
    hosts = Hosts()
    hosts.begin(old=True)
    old = hosts.hosts[0].name
    hosts.a_host_is_killed_and_restarted(0, own=True)
    hosts.the_store_restarts()
    hosts.ticks([0, 2, 0, 1])
    assert old not in hosts.store.records
    hosts.teardown()
