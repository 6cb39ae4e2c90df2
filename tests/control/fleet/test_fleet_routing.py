"""Edits of routing files over hosts with real files, editors and a real store, under faults at each point."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import pytest

from gateway.backends.repository import Repository
from gateway.control.config.editor import Edit, RoutingEditor
from gateway.control.config.file_history import RoutingHistory
from gateway.control.config.watcher import RoutingFileWatcher
from gateway.control.config.yaml_edit import PROMOTE, WEIGHT, RoutingChange
from gateway.control.fleet import fleet_routing
from gateway.control.fleet.fleet_routing import SUFFIX, FleetRouting
from gateway.control.fleet.host import HostState, Observed
from gateway.control.fleet.routing_entries import RoutingEntries
from gateway.control.fleet.routing_exchange import RoutingExchange
from gateway.control.fleet.routing_memory import RoutingMemory
from gateway.control.fleet.routing_step import Stand
from gateway.control.fleet.store import Transaction
from gateway.control.fleet.store_state import Identity, Member
from gateway.control.fleet.stores import open_store
from gateway.control.fleet.timing import Timing
from gateway.control.release.decisions import DecisionLog
from gateway.errors import Conflict
from gateway.settings.document import parse_yaml
from tests.control.fleet.hosts import LEASE_NS, TIMING
from tests.control.fleet.servers import LONG_S, RedisServer, asynchronous
from tests.control.fleet.wire import Wire

ROUTING = """models:
  m:  # a comment
    stable: 1
    candidate: 2
    split:
      routes:
        - {name: everyone, weight: 5}
"""
numbers = itertools.count()


@dataclass
class Membership:
    """A host's view of who is there, given by the test."""

    host: HostState
    fleet: "Routing"
    timing: Timing = field(default=TIMING)

    def now_ns(self) -> int:
        return self.fleet.now_ns


class RoutingHost:
    def __init__(self, fleet: "Routing", name: str, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.fleet = fleet
        self.name = name
        self.folder = folder
        self.file = folder / "routing.yaml"
        if not self.file.exists():
            self.file.write_text(ROUTING)
        self.log = DecisionLog(folder)
        self.watcher = RoutingFileWatcher(self.file, Repository(folder))
        self.wire = Wire(open_store(fleet.server.url, fleet.name + SUFFIX, LONG_S))
        state = HostState(f"{name}{next(numbers)}", name, open=True, identity=Identity("r", "k"))
        self.member = Membership(state._replace(contact_until_ns=fleet.now_ns + LEASE_NS), fleet)
        memory = RoutingMemory(folder, fleet.name, self.log.replace_file)
        exchange = RoutingExchange(self.wire, self.member, RoutingEntries(self.watcher), memory)
        editor = RoutingEditor(self.watcher, self.log, self.reload, RoutingHistory(folder / "history"))
        self.routing = FleetRouting(exchange, editor)
        self.before_reload: Callable[[], None] = lambda: None
        self.may_reload = asyncio.Event()
        self.may_reload.set()
        self._tasks: list[asyncio.Task[None]] = []

    async def reload(self, written: bytes, note: Callable[[], object]) -> None:
        self.before_reload()
        await self.may_reload.wait()
        self.watcher.read()
        note()
        self.watcher.record_success()

    @property
    def weight(self) -> object:
        return parse_yaml(self.file.read_text(), "")["models"]["m"]["split"]["routes"][0]["weight"]

    @property
    def stable(self) -> object:
        return parse_yaml(self.file.read_text(), "")["models"]["m"]["stable"]

    @property
    def waiting(self) -> str:
        exchange = self.routing.exchange
        return exchange.records[exchange.me].waiting.get("m", "")

    def edit_by_hand(self, text: str) -> None:
        self.file.write_text(text)
        self.watcher.read()
        self.watcher.record_success()

    async def weigh(self, percent: float) -> tuple[int, int]:
        """(applied, hosts)"""
        return await self.edit(RoutingChange(WEIGHT, "m", "everyone", percent))

    async def promote(self) -> tuple[int, int]:
        return await self.edit(RoutingChange(PROMOTE, "m"))

    async def edit(self, change: RoutingChange, reason: str = "a test") -> tuple[int, int]:
        action, make = change.action, change.made
        edit = Edit(model="m", candidate=2, action=action, make=make, by="ann", reason=reason, evidence={})
        _, spread = await self.routing.apply(edit, change, dry_run=False)
        assert spread is not None
        return spread.applied, spread.hosts

    async def tick(self) -> None:
        await self.routing.tick()
        assert not self.routing.problem, self.routing.problem

    def actions(self) -> list[str]:
        return [decision.action for decision in self.log.decisions]

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self.routing.run_forever())]

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await self.wire.close()
        self.log.close()

    async def restarted(self) -> "RoutingHost":
        """As after kill -9."""
        await self.end()
        new = RoutingHost(self.fleet, self.name, self.folder)
        self.fleet.hosts[self.fleet.hosts.index(self)] = new
        self.fleet.meet()
        return new


class Routing:
    def __init__(self, server: RedisServer, folder: Path, names: str) -> None:
        self.server = server
        self.name = f"routing {next(numbers)}"
        self.now_ns = 10**15
        self.hosts = [RoutingHost(self, name, folder / name) for name in names]
        self.meet()

    def meet(self, *silent: RoutingHost) -> None:
        """All hosts see each other, but `silent` ones as out of contact."""
        members = {host.member.host.incarnation: Member(1, 0, False, host.name) for host in self.hosts}
        gone = {host.member.host.incarnation for host in silent}
        since = {name: Observed(1, self.now_ns - (2 * LEASE_NS if name in gone else 0)) for name in members}
        for host in self.hosts:
            host.member.host = host.member.host._replace(members=members, observed=since)

    async def ticks(self, times: int = 3) -> None:
        for _ in range(times):
            for host in self.hosts:
                await host.tick()

    @property
    def weights(self) -> list[object]:
        return [host.weight for host in self.hosts]


@asynccontextmanager
async def fleet_of(names: str, server: RedisServer, folder: Path, *, running: bool = True) -> AsyncIterator[Routing]:
    """Not `running`: exchanges are made by the test."""
    fleet = Routing(server, folder, names)
    for host in fleet.hosts if running else ():
        host.start()
    try:
        async with asyncio.timeout(60):
            yield fleet
    finally:
        for host in fleet.hosts:
            await host.end()


def changes_core(transaction: Transaction) -> bool:
    return transaction.core is not None


@asynchronous
async def test_edit_reaches_all_files_and_leaves_their_layout(redis: RedisServer, tmp_path: Path) -> None:
    async with fleet_of("abc", redis, tmp_path) as fleet:
        other = ROUTING.replace("{name: everyone, weight: 5}", "weight: 5\n          name: everyone")
        fleet.hosts[1].edit_by_hand(f"# another layout\n{other}")
        assert await fleet.hosts[0].weigh(7) == (3, 3)
        assert fleet.weights == [7, 7, 7]
        assert fleet.hosts[1].file.read_text().startswith("# another layout\n")
        assert [host.actions() for host in fleet.hosts] == [["weight"]] * 3


@asynchronous
async def test_a_promotion_of_a_candidate_that_was_replaced_since_it_was_seen_is_refused(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        for host in fleet.hosts:
            host.edit_by_hand(ROUTING.replace("candidate: 2", "candidate: 3"))
        for change in (PROMOTE, WEIGHT):
            with pytest.raises(Conflict, match="has just been changed by another edit"):
                await fleet.hosts[0].edit(RoutingChange(change, "m", "everyone", 7, versions=(1, 2)))
        await fleet.ticks()
        assert [host.stable for host in fleet.hosts] == [1, 1] and fleet.weights == [5, 5]
        assert await fleet.hosts[0].edit(RoutingChange(PROMOTE, "m", versions=(1, 3))) == (2, 2)


@pytest.mark.parametrize("fault", ["lose", "lose_reply"])
@pytest.mark.parametrize("which", ["proposal", "acceptance"])
@asynchronous
async def test_lost_message_leaves_no_edit_half_made(
    redis: RedisServer, tmp_path: Path, which: str, fault: str
) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        seen = itertools.count()
        wanted = 0 if which == "proposal" else 1
        getattr(a.wire, fault)(lambda transaction: changes_core(transaction) and next(seen) == wanted)
        if which == "proposal":
            with pytest.raises(Conflict, match="nothing was changed"):
                await a.weigh(7)
        else:
            assert await a.weigh(7) == (2, 2)
        await fleet.ticks()
        assert fleet.weights == ([5, 5] if which == "proposal" else [7, 7])
        assert await b.weigh(9) == (2, 2) and fleet.weights == [9, 9]


@asynchronous
async def test_edit_of_a_host_that_was_frozen_is_taken_back_if_another_came_first(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        seen = itertools.count()
        held = a.wire.hold_request(lambda transaction: changes_core(transaction) and next(seen) == 1)
        frozen = asyncio.create_task(a.weigh(7))
        await held.reached.wait()
        assert a.weight == 7
        with pytest.raises(Conflict, match="under way"):
            await b.weigh(9)
        fleet.meet(a)
        assert await b.weigh(9) == (1, 2)
        fleet.meet()
        held.go.set()
        with pytest.raises(Conflict, match="another edit of the model came first"):
            await frozen
        await fleet.ticks()
        assert fleet.weights == [9, 9]
        assert a.actions() == ["weight", "taken-back", "weight"]


@asynchronous
async def test_host_killed_in_the_middle_of_its_edit_is_not_in_the_way_and_is_said(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        seen = itertools.count()
        held = a.wire.hold_request(lambda transaction: changes_core(transaction) and next(seen) == 1)
        killed = asyncio.create_task(a.weigh(7))
        await held.reached.wait()
        killed.cancel()
        await asyncio.wait([killed])
        (await a.restarted()).start()
        await fleet.ticks()
        assert fleet.weights == [7, 5]
        assert await b.weigh(7) == (2, 2)


@asynchronous
async def test_edit_that_fails_here_is_withdrawn(redis: RedisServer, tmp_path: Path) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts

        def fail() -> None:
            a.before_reload = lambda: None
            a.watcher.status.error = "the disk burns"
            raise Conflict("the disk burns")

        a.before_reload = fail
        with pytest.raises(Conflict, match="the disk burns"):
            await a.weigh(7)
        a.edit_by_hand(ROUTING)
        assert await b.weigh(9) == (2, 2) and fleet.weights == [9, 9]


@asynccontextmanager
async def frozen_edit(fleet: Routing, percent: float) -> "AsyncIterator[asyncio.Task[tuple[int, int]]]":
    """The first host's edit is in force there when it freezes and counts as gone; it goes on at the end."""
    a, seen = fleet.hosts[0], itertools.count()
    held = a.wire.hold_request(lambda transaction: changes_core(transaction) and next(seen) == 1)
    task = asyncio.create_task(a.weigh(percent))
    await held.reached.wait()
    fleet.meet(a)
    yield task
    fleet.meet()
    held.go.set()


@asynchronous
async def test_edit_that_came_second_with_the_same_result_stays(redis: RedisServer, tmp_path: Path) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        async with frozen_edit(fleet, 7) as frozen:
            assert await b.weigh(7) == (1, 2)
        with pytest.raises(Conflict, match="came first in the fleet, with the same result"):
            await frozen
        await fleet.ticks()
        assert fleet.weights == [7, 7] and a.actions() == ["weight"]
        assert await a.weigh(8) == (2, 2)


@asynchronous
async def test_edit_that_came_second_is_taken_back_from_a_file_that_has_changed_elsewhere(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        full = asyncio.Event()

        def fail() -> None:
            full.set()
            a.before_reload = lambda: None
            a.watcher.status.error = "the disk is full"
            raise Conflict("the disk is full")

        async with frozen_edit(fleet, 7) as frozen:
            assert await b.weigh(9) == (1, 2)
            a.edit_by_hand(f"{a.file.read_text()}# another comment\n")
            a.before_reload = fail
        with pytest.raises(Conflict, match=r"in force on this host only, until .*; .*the disk is full"):
            await frozen
        with pytest.raises(Conflict, match="not settled yet"):
            await a.weigh(11)
        a.edit_by_hand(a.file.read_text().replace("weight: 5", "weight: 7"))
        await fleet.ticks()
        assert fleet.weights == [9, 9] and a.file.read_text().endswith("# another comment\n")


@asynchronous
async def test_second_edit_waits_until_the_store_has_the_first(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_routing, "PATIENCE_S", 0.0)
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a = fleet.hosts[0]

        def cut() -> None:
            a.wire.cut = True

        a.before_reload = cut
        assert await a.weigh(7) == (1, 2)
        a.wire.cut = False
        a.wire.lose(changes_core)
        with pytest.raises(Conflict, match="not settled yet"):
            await a.weigh(9)
        a.before_reload = lambda: None
        a.wire.forget()
        await fleet.ticks()
        assert fleet.weights == [7, 7]


@asynchronous
async def test_edit_does_not_wait_for_ever_for_an_exchange_under_way(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleet_routing, "TURN_S", 0.0)
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a = fleet.hosts[0]
        held = a.wire.hold_request(lambda _: True)
        a.edit_by_hand(f"{ROUTING}# a comment\n")
        await held.reached.wait()
        with pytest.raises(Conflict, match="nothing was changed: edits of other hosts are still being made"):
            await a.weigh(7)
        held.go.set()
        assert a.weight == 5


@asynchronous
async def test_dry_run_does_not_wait_for_an_edit_and_a_reason_is_kept_short(redis: RedisServer, tmp_path: Path) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        held = a.wire.hold_request(changes_core)
        change = RoutingChange(WEIGHT, "m", "everyone", 7)
        task = asyncio.create_task(a.edit(change, "why " * 100))
        await held.reached.wait()
        edit = Edit(model="m", candidate=2, action=WEIGHT, make=change.made, by="ann", reason="", evidence={})
        found, spread = await a.routing.apply(edit, change, dry_run=True)
        assert "weight: 7" in found.difference and spread is None and not task.done()
        held.go.set()
        assert await task == (2, 2)
        assert len(b.routing.exchange.core.edits["m"][0].reason) == 200


@pytest.mark.parametrize("restart", [False, True])
@asynchronous
async def test_store_that_returns_to_an_older_snapshot_makes_no_edit_again(
    redis: RedisServer, tmp_path: Path, restart: bool
) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, _b = fleet.hosts
        assert await a.weigh(50) == (2, 2)
        store = open_store(redis.url, fleet.name + SUFFIX, LONG_S)
        old = (await store.commit(None)).core
        assert await a.weigh(5) == (2, 2)
        for host in list(fleet.hosts) if restart else []:
            await host.restarted()  # their lists are lost too
        now = await store.commit(None)
        assert (await store.commit(Transaction(now.run_id, now.tag, old, "old", (), urgent=False))).committed
        await store.close()
        await fleet.ticks()
        assert fleet.weights == [5, 5]
        assert len(fleet.hosts[0].routing.exchange.core.edits["m"]) == (1 if restart else 2)
        for host in fleet.hosts if restart else []:
            host.start()
        assert await fleet.hosts[1].weigh(6) == (2, 2) and fleet.weights == [6, 6]


@asynchronous
async def test_stopped_candidate_is_not_made_stable_by_an_edit_of_another_host(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet_of("abc", redis, tmp_path) as fleet:
        a, b, c = fleet.hosts
        c.member.host = c.member.host._replace(contact_until_ns=fleet.now_ns)
        a.before_reload = lambda: b.log.stop("m", 2, "bob", "a test", {}) and None
        assert await a.promote() == (1, 3)
        assert [host.stable for host in fleet.hosts] == [2, 1, 1]
        assert "is stopped" in b.waiting and "out of contact" in c.waiting


@asynchronous
async def test_candidate_stopped_while_its_promotion_waited_is_not_made_stable(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        a.may_reload.clear()
        before = asyncio.create_task(a.weigh(7))
        while a.weight != 7:
            await asyncio.sleep(0)
        promotion = asyncio.create_task(a.promote())
        a.log.stop("m", 2, "bob", "a test", {})
        a.may_reload.set()
        assert await before == (2, 2)
        with pytest.raises(Conflict, match="is stopped"):
            await promotion
        assert [host.stable for host in fleet.hosts] == [1, 1]
        assert await b.weigh(9) == (2, 2)  # it is withdrawn


@asynchronous
async def test_host_that_leaves_settles_its_edit_first(redis: RedisServer, tmp_path: Path) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, b = fleet.hosts
        a.may_reload.clear()
        task = asyncio.create_task(a.weigh(7))
        while a.weight != 7:
            await asyncio.sleep(0)
        leaving = asyncio.create_task(a.routing.leave())
        await asyncio.sleep(0)
        a.may_reload.set()
        await leaving
        with pytest.raises(Conflict, match="is leaving"):
            await asyncio.gather(task, a.weigh(8))
        fleet.meet(a)
        await b.tick()
        assert a.member.host.incarnation not in b.routing.exchange.records
        assert b.weight == 7 and not b.routing.exchange.core.proposals


@asynchronous
async def test_any_error_is_said_and_the_exchange_goes_on(redis: RedisServer, tmp_path: Path) -> None:
    async with fleet_of("ab", redis, tmp_path) as fleet:
        a, _b = fleet.hosts
        a.wire.fault = RuntimeError("what nobody thought of")
        await a.routing.tick()
        assert a.routing.problem == "RuntimeError: what nobody thought of"
        a.wire.fault = None
        large = "customer: 123456789012345678901234567890"
        text = ROUTING.replace("        - {", f"        - {{name: vip, match: [{{{large}}}], weight: 5}}\n        - {{")
        for host in fleet.hosts:
            host.edit_by_hand(text)
        change = RoutingChange(WEIGHT, "m", "vip", 7)
        assert await a.edit(change) == (2, 2)


@asynchronous
async def test_what_was_undone_by_hand_elsewhere_is_said_and_a_refused_file_says_nothing(
    redis: RedisServer, tmp_path: Path
) -> None:
    async with fleet_of("abc", redis, tmp_path) as fleet:
        a, b, c = fleet.hosts
        c.member.host = c.member.host._replace(refused="not yet")
        fleet.meet(c)
        assert await a.weigh(7) == (2, 3)
        for host in (a, b):
            host.edit_by_hand(ROUTING)
        await a.tick()
        await b.tick()
        c.member.host = c.member.host._replace(refused="")
        fleet.meet()
        await c.tick()
        assert c.weight == 5 and "undone by hand" in c.waiting
        records = c.routing.exchange.records
        unknown = {name: record._replace(revision="", entries={}) for name, record in records.items()}
        c.routing.exchange.records = unknown
        assert c.routing.exchange.due("m").stand is Stand.BEHIND


@asynchronous
async def test_host_that_was_away_skips_superseded_weights(redis: RedisServer, tmp_path: Path) -> None:
    async with fleet_of("abc", redis, tmp_path) as fleet:
        a, _b, c = fleet.hosts
        c.wire.cut = True
        fleet.meet(c)
        for percent in (50, 1):
            assert await a.weigh(percent) == (2, 3)
        fleet.meet()
        seen: list[object] = []
        c.before_reload = lambda: seen.append(c.weight)
        c.wire.cut = False
        await c.tick()
        assert seen == [1] and c.actions() == ["weight"]


@asynchronous
async def test_edit_in_force_while_the_store_answers_is_brought_later(redis: RedisServer, tmp_path: Path) -> None:
    """An exchange that began before the edit was in force says nothing of it."""
    async with fleet_of("ab", redis, tmp_path, running=False) as fleet:
        a, b = fleet.hosts

        async def ticks_until(done: Callable[[], bool], *hosts: RoutingHost) -> None:
            while not done():
                for host in hosts:
                    await host.tick()
                await asyncio.sleep(0)

        weigh = asyncio.create_task(a.weigh(6))
        await ticks_until(weigh.done, a, b)
        a.may_reload.clear()
        reloading = asyncio.Event()
        a.before_reload = reloading.set
        weigh = asyncio.create_task(a.weigh(7))
        await reloading.wait()
        held = a.wire.hold_reply(
            lambda _: True
        )  # of the record, which says nothing of an entry in which an edit is made
        tick = asyncio.create_task(a.tick())
        await held.reached.wait()
        a.may_reload.set()
        await ticks_until(lambda: all(own.accept for own in a.routing._own.values()))
        held.go.set()
        await tick
        await ticks_until(weigh.done, b)
        assert await weigh == (2, 2) and fleet.weights == [7, 7]


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 3))])
@asynchronous
async def test_after_any_faults_files_are_the_same_or_differ_by_what_was_said(
    redis: RedisServer, tmp_path: Path, seed: int
) -> None:
    """Edits on all hosts at once, with lost messages and replies, kills and an emptied store."""
    random = Random(seed)
    async with fleet_of("abc", redis, tmp_path, running=False) as fleet:
        edits = 0
        for _ in range(12):
            for host in fleet.hosts:
                for _ in range(random.randrange(3)):
                    lose = random.choice([host.wire.lose, host.wire.lose_reply])
                    lose(lambda _: random.random() < 0.5)
            if random.random() < 0.2:
                await random.choice(fleet.hosts).restarted()
            if random.random() < 0.1:
                redis.wipe()
            asked = random.sample(fleet.hosts, 2)
            weigh = [asyncio.create_task(host.weigh(float(random.randrange(1, 90)))) for host in asked]
            while not all(task.done() for task in weigh):
                for host in fleet.hosts:
                    await host.routing.tick()
                await asyncio.sleep(0)
            done = await asyncio.gather(*weigh, return_exceptions=True)
            assert all(isinstance(one, tuple | Conflict | AssertionError) for one in done), done
            edits += sum(isinstance(one, tuple) for one in done)
            for host in fleet.hosts:
                host.wire.forget()
            await fleet.ticks()
            assert len(set(fleet.weights)) == 1, fleet.weights
        assert edits > 5
