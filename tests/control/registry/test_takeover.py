"""A host that takes over the registry's lead does not act on what it remembers of long ago."""

import itertools
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.control.fleet.store import OwnDocument, Transaction
from gateway.control.fleet.task_leadership import decoded, encoded
from gateway.control.registry.takeover import LACKS, Takeover
from tests.control.fleet.servers import RedisServer, asynchronous, opened
from tests.control.registry.hosts import MODEL, Host, World

NOW = 10**15
SLOW_NS = 400_000_000  # between two turns at most
TURNS = 700


class Fleet:
    """Hosts by name. `away`: those out of contact."""

    def __init__(self, folder: Path, server: RedisServer, **stores: OwnDocument) -> None:
        self.server = server
        self.clock = [NOW]
        self.world = World()
        self.folder, self.stores = folder, stores
        self.hosts: dict[str, Host] = {}
        self.away: set[str] = set()
        self.beats: dict[str, int] = {}
        for name in stores:
            self.start(name, known=True)

    def start(self, name: str, *, known: bool = False) -> Host:
        """A new process over the host's state folder. `known`: it has the fleet's release already."""
        host = Host(name, self.world, self.stores[name], self.clock, self.folder / name)
        self.hosts[name], self.beats[name] = host, 0
        host.behind = not known
        return host

    @property
    def present(self) -> list[Host]:
        return [host for name, host in self.hosts.items() if name not in self.away]

    def see(self, host: Host) -> None:
        """A beat. It knows all stops before it counts as in contact; an edit is made as soon as it is told."""
        host.take_stops()
        if not host.behind:
            host.take_release()
        self.beats[host.name] += 1
        host.member.see({name: beat for name, beat in self.beats.items() if beat})

    async def turn(self, *names: str, step_ns: int = SLOW_NS) -> None:
        """These hosts do all that they do, in this order."""
        self.clock[0] += step_ns
        for name in names:
            host = self.hosts[name]
            self.see(host)
            await host.task.tick()
            await host.tick()

    async def until_dealt_with(self, *names: str) -> None:
        """One of these asks the registry, and the others know all that it has done."""
        for _ in range(40):
            await self.turn(*names)
            hosts = [self.hosts[name] for name in names]
            if any(host.takeover.acts(MODEL) for host in hosts) and all(self.knows(host) for host in hosts):
                return
        raise AssertionError("no host asks the registry")

    def knows(self, host: Host) -> bool:
        """Whether what has been said last is of the aliases and the release as they are now."""
        news, aliases, release = host.lead.news().models.get(MODEL), self.world.aliases, self.world.release
        return news is not None and (
            (news.champion, news.done_champion) == (aliases["champion"],) * 2
            and (news.challenger, news.done_challenger) == (aliases.get("challenger"),) * 2
            and (news.stable, news.candidate, news.to_tell) == (release.stable, release.candidate, False)
            and set(news.tags) == release.stopped.keys()
            and (host.release.stable, host.release.candidate) == (release.stable, release.candidate)
        )


@asynccontextmanager
async def fleet_of(folder: Path, *names: str) -> AsyncIterator[Fleet]:
    """Hosts of these names over a store of their own."""
    with RedisServer(folder / "redis") as server:
        async with AsyncExitStack() as stack:
            stores = {name: await stack.enter_async_context(opened(server.url)) for name in names}
            yield Fleet(folder, server, **stores)


@asynchronous
async def test_a_host_that_was_away_moves_no_champion_that_a_person_has_moved_since(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a", "b") as fleet:
        await fleet.until_dealt_with("a", "b")
        fleet.world.release.stable = 2  # it is promoted while b is away, and told
        await fleet.until_dealt_with("a")
        assert fleet.world.writes == [("a", 2)]
        fleet.world.aliases["champion"] = 1  # by a person
        await fleet.until_dealt_with("a")
        fleet.beats["a"] = 0  # it has left
        fleet.hosts["b"].behind = True
        for _ in range(48):
            await fleet.turn("b")
        assert fleet.hosts["b"].lead.leads, "no other one does"
        assert not fleet.hosts["b"].takeover.acts(MODEL), "what the others have made stable is not so here yet"
        fleet.hosts["b"].behind = False
        await fleet.until_dealt_with("b")
        assert (fleet.world.writes, fleet.world.aliases) == ([("a", 2)], {"champion": 1})


@asynchronous
async def test_a_host_that_is_behind_leaves_the_lead_to_one_that_is_not(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a", "b", "c") as fleet:
        await fleet.until_dealt_with("a", "b", "c")
        fleet.beats["a"] = 0  # it has left
        fleet.hosts["b"].behind = True
        for _ in range(12):
            await fleet.turn("b", "c")
        assert (fleet.hosts["b"].lead.leads, fleet.hosts["c"].takeover.acts(MODEL)) == (False, True)


@asynchronous
async def test_all_hosts_say_that_the_one_that_follows_the_registry_cannot_make_an_edit(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a", "b") as fleet:
        await fleet.until_dealt_with("a", "b")
        fleet.hosts["a"].refusal = "routing.yaml cannot be written"
        for _ in range(4):
            await fleet.turn("a", "b")
        assert fleet.hosts["b"].note == LACKS + "routing.yaml cannot be written" and fleet.hosts["b"].problem
        assert not fleet.hosts["a"].followed
        fleet.hosts["a"].refusal = ""
        for _ in range(4):
            await fleet.turn("a", "b")
        assert (fleet.hosts["b"].note, fleet.hosts["b"].problem) == ("", False)
        assert fleet.hosts["a"].followed and fleet.hosts["b"].followed


@asynchronous
async def test_a_leader_that_lacks_an_edit_of_one_of_its_models_says_that_not_all_are_followed(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a") as fleet:
        host = fleet.hosts["a"]
        host.bind("tumor")
        host.behind_of = {"tumor"}
        await fleet.until_dealt_with("a")
        assert (host.takeover.acts(MODEL), host.takeover.acts("tumor"), host.elsewhere) == (True, False, "")
        assert not host.followed
        host.behind_of = set()
        await fleet.turn("a")
        assert host.takeover.acts("tumor") and host.followed


@asynchronous
async def test_what_the_last_leader_said_and_cannot_be_read_is_neither_acted_on_nor_overwritten(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a", "b") as fleet:
        fleet.world.aliases["challenger"] = 2
        await fleet.until_dealt_with("a")
        fleet.world.release.candidate = None  # a person has taken it out
        damaged = await said_in(fleet.stores["a"], {"models": {MODEL: {"champion": "one"}}})
        await fleet.turn("b")
        b = fleet.hosts["b"]
        assert not b.followed and b.elsewhere.startswith("host-a follows the registry, but what")
        fleet.beats["a"] = 0  # it has left
        for _ in range(100):
            await fleet.turn("b")
        assert b.lead.leads and not b.takeover.acts(MODEL) and not b.followed
        assert (fleet.world.brought, fleet.world.writes, decoded((await fleet.stores["a"].commit(None)).core).said) == (
            [("a", 2)], [], damaged,
        )  # fmt: skip
        assert f"models.{MODEL}." in b.elsewhere and "update this host" in b.elsewhere and "\n" not in b.elsewhere
        assert b.elsewhere.count("http") == 0
        await emptied(fleet.stores["a"])  # the remedy
        for _ in range(20):
            await fleet.turn("b")
        assert b.takeover.acts(MODEL) and b.followed and b.elsewhere == ""


def test_a_lead_is_not_taken_over_before_what_was_found_can_be_read() -> None:
    lead: Any = SimpleNamespace(leads=True, in_contact=True, settled=True, taken=1, unreadable="damaged")
    ready: Any = SimpleNamespace(behind=lambda model: False)
    takeover = Takeover(lead, ready)
    assert takeover.takes_over(MODEL) is None
    lead.unreadable = ""
    assert takeover.takes_over(MODEL) == 1
    takeover.followed(MODEL, 1)
    assert takeover.acts(MODEL)
    lead.unreadable = "damaged"
    assert not takeover.acts(MODEL)


async def said_in(store: OwnDocument, said: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a leader of another release would have said last."""
    snapshot = await store.commit(None)
    lead = decoded(snapshot.core)
    core = encoded(lead._replace(number=lead.number + 1, said=said))
    assert (await store.commit(Transaction(snapshot.run_id, snapshot.tag, core, "said", (), False))).committed
    return said


async def emptied(store: OwnDocument) -> None:
    """Without what has been said."""
    snapshot = await store.commit(None)
    assert (await store.commit(Transaction(snapshot.run_id, snapshot.tag, b"", "empty", (), False))).committed


@asynchronous
async def test_a_new_host_does_not_propose_what_was_dealt_with(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a", "b") as fleet:
        fleet.world.aliases["challenger"] = 2
        await fleet.until_dealt_with("a")
        fleet.world.release.candidate = None  # a person has taken it out
        await fleet.until_dealt_with("a")
        fleet.beats["a"] = 0
        await fleet.until_dealt_with("b")
        assert fleet.world.brought == [("a", 2)]


@asynchronous
async def test_a_stop_that_the_last_leader_has_not_seen_holds_for_what_waited(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a", "b") as fleet:
        fleet.world.release.candidate = 2
        fleet.world.by_hand = {2}
        await fleet.until_dealt_with("a")
        fleet.world.aliases["challenger"] = 3
        while fleet.hosts["a"].lead.news().models[MODEL].challenger != 3:
            await fleet.turn("a")
        fleet.world.release.stopped[2] = 1
        fleet.beats["a"] = 0  # it has left
        while not fleet.hosts["b"].takeover.acts(MODEL):
            await fleet.turn("b")
        await fleet.turn("b")
        assert fleet.world.brought == [] and "before candidate 2 was stopped" in fleet.hosts["b"].note


@asynchronous
async def test_what_the_store_has_lost_is_brought_back_to_a_host_that_was_away(tmp_path: Path) -> None:
    async with fleet_of(tmp_path, "a", "b") as fleet:
        fleet.world.aliases["challenger"] = 2
        await fleet.until_dealt_with("a")
        fleet.world.release.candidate = None  # a person has taken it out
        await fleet.until_dealt_with("a")
        fleet.server.wipe()
        while not fleet.hosts["b"].takeover.acts(MODEL):
            await fleet.turn("b", "a")
        await fleet.until_dealt_with("b", "a")
        assert fleet.hosts["b"].takeover.acts(MODEL) and fleet.world.brought == [("a", 2)]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
@asynchronous
async def test_no_host_acts_on_old_memory(tmp_path: Path, seed: int) -> None:
    """People move aliases, promote, stop and take out once the host that asks the registry has told the others of all
    before; hosts are away at random, start anew with an old or an empty state folder, and the store loses all data.
    """
    rng, names, leaders = random.Random(seed), itertools.count(3), list[str]()
    async with fleet_of(tmp_path, "a", "b", "c") as fleet:
        world, back, dropped, champions = fleet.world, dict.fromkeys("abc", 0), set[int](), [1]
        for turn in range(TURNS):
            for name in [name for name in fleet.away if back[name] <= turn]:
                fleet.away.discard(name)
                if rng.random() < 0.3:
                    fleet.folder = tmp_path if rng.random() < 0.5 else tmp_path / f"empty{turn}"
                    fleet.start(name)
                fleet.hosts[name].behind = True
            for name in set(fleet.hosts) - fleet.away:
                fleet.hosts[name].behind &= rng.random() < 0.7
            acting = [host for host in fleet.present if host.takeover.acts(MODEL)]
            known = [host for host in fleet.present if fleet.knows(host)]
            if acting and acting[0] in known and rng.random() < 0.5:
                version, what = next(names), rng.random()
                if what < 0.3:
                    champions.append(rng.choice([one for one in champions if one != champions[-1]] or [1]))
                    world.aliases["champion"] = champions[-1]
                elif what < 0.5:
                    world.aliases["challenger"] = version
                elif what < 0.7 and world.release.candidate is not None:
                    dropped.add(world.release.candidate)
                    world.release.candidate = None
                elif what < 0.8 and world.release.candidate is not None:
                    world.release.stopped[world.release.candidate] = turn
                elif world.release.candidate is not None:
                    world.release.stable, world.release.candidate = world.release.candidate, None
            elif len(known) > 1 and rng.random() < 0.05:
                fleet.server.wipe()
            elif known and rng.random() < 0.2:
                name = rng.choice(acting or fleet.present).name
                others = [host for host in fleet.present if host.name != name and host in known]
                if others or rng.random() < 0.3:
                    fleet.away.add(name)
                    back[name] = turn + rng.randrange(1, 60)
            writes, brought = len(world.writes), len(world.brought)
            await fleet.turn(
                *rng.sample([host.name for host in fleet.present], len(fleet.present)),
                step_ns=rng.randrange(50_000_000, SLOW_NS),
            )
            for name, version in world.writes[writes:]:
                assert version == world.release.stable != champions[-1], (turn, name)
                champions.append(version)
            for name, version in world.brought[brought:]:
                assert version not in dropped, (turn, name)
            leaders += [host.name for host in acting if leaders[-1:] != [host.name]]
    assert len(leaders) > 10 and len(world.writes) > 5 and len(world.brought) > 5
