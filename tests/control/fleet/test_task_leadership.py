"""Which host does a task for the fleet: one at a time, another one once it has ended, and none without contact."""

import itertools
import random
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from gateway.control.fleet.host import HostState, Observed
from gateway.control.fleet.store import Snapshot, Transaction
from gateway.control.fleet.store_state import Identity, Member
from gateway.control.fleet.task_leader import TaskLeader
from gateway.control.fleet.task_leadership import (
    SILENT_NS,
    VALID_NS,
    WRITE_NS,
    Heard,
    Lead,
    decoded,
    encoded,
    given_up_ns,
    is_confirmed,
    next_lead,
    silent_ns,
)
from gateway.control.fleet.timing import Timing
from gateway.control.registry.lead import FleetLead
from gateway.control.registry.news import RegistryNews
from tests.control.fleet.servers import RedisServer, asynchronous, opened
from tests.control.fleet.task_members import TIMING, TaskMember

NOW = 10**15
SAID = {"found": 1}
LED_BY_B = Lead(number=7, leader="b", asks=2, said=SAID)
LED_HERE = LED_BY_B._replace(leader="a")


def host(*members: str, contact: bool = True, still_since_ns: int = NOW) -> HostState:
    """The host a. `still_since_ns`: since when the others' beats are the same."""
    found = {name: Member(1, 0, False, f"host-{name}") for name in ("a", *members)}
    return HostState(
        "a", "host-a", open=True, settled=True, identity=Identity("r", "k"), members=found,
        contact_until_ns=NOW + TIMING.lease_ns if contact else NOW,
        observed={name: Observed(1, still_since_ns) for name in found},
    )  # fmt: skip


def after(
    state: HostState, lead: Lead, *, age_ns: int = 0, said: Any = None, asked: bool = False, confirmed: bool = True
) -> Lead:
    heard = Heard(lead.number, NOW - age_ns)
    return next_lead(state, lead, heard, NOW, TIMING, said=said, asked=asked, confirmed=confirmed)


@pytest.mark.parametrize(
    ("state", "lead", "age_ns", "takes"),
    [
        (host(), Lead(), 0, True),  # nobody does it yet
        (host("b"), LED_BY_B, 0, False),
        (host("b", still_since_ns=NOW - TIMING.longest_ns + 1), LED_BY_B, 0, False),  # its lease may last
        (host("b", still_since_ns=NOW - TIMING.longest_ns), LED_BY_B, 0, True),
        (host("b", still_since_ns=NOW - TIMING.longest_ns), LED_BY_B, -1, False),  # it has written since the last beat
        (host(), LED_BY_B, 0, True),  # it has left
        (host(), LED_BY_B, -1, False),  # or it was new
        (host("b"), LED_BY_B, SILENT_NS - 1, False),
        (host("b"), LED_BY_B, SILENT_NS, True),  # it beats, but has written nothing
        (host(contact=False), Lead(), 0, False),
        (host(contact=False), LED_BY_B, SILENT_NS, False),
        (host()._replace(open=False), LED_BY_B, 0, False),
        (host()._replace(settled=False), LED_BY_B, 0, False),
    ],
)
def test_a_host_takes_over_from_one_that_is_gone(state: HostState, lead: Lead, age_ns: int, takes: bool) -> None:
    expected = lead._replace(number=lead.number + 1, leader="a") if takes else lead
    assert after(state, lead, age_ns=age_ns, said={"of": "another time"}) == expected


def test_the_leader_writes_what_is_new_and_now_and_then_that_it_is_there() -> None:
    assert after(host(), LED_HERE, said=SAID) == after(host(), LED_HERE) == LED_HERE
    assert after(host(), LED_HERE, said={"found": 2}) == LED_HERE._replace(number=8, said={"found": 2})
    assert after(host(), LED_HERE, said=SAID, age_ns=WRITE_NS) == LED_HERE._replace(number=8)
    assert after(host(), LED_HERE, said=SAID, confirmed=False) == LED_HERE._replace(number=8)
    assert after(host(contact=False), LED_HERE, said={"found": 2}) == LED_HERE


def test_a_write_confirms_the_leader_in_one_lease_and_for_some_time() -> None:
    state = host()._replace(steady_since_ns=NOW - 60)
    assert is_confirmed(state, NOW - 60, NOW)
    assert not is_confirmed(state, NOW - 61, NOW)  # contact was lost since
    assert is_confirmed(state, NOW - 60, NOW - 60 + VALID_NS - 1)
    assert not is_confirmed(state, NOW - 60, NOW - 60 + VALID_NS)
    assert VALID_NS < SILENT_NS  # others wait longer


def test_any_host_in_contact_may_ask_the_leader_to_act() -> None:
    assert after(host("b"), LED_BY_B, asked=True) == LED_BY_B._replace(asks=3)
    assert after(host("b", contact=False), LED_BY_B, asked=True) == LED_BY_B
    assert after(host(), LED_HERE, asked=True) == LED_HERE._replace(number=8, asks=3)  # else it counted as silent


def test_what_is_stored_is_read_again_and_damage_is_refused() -> None:
    assert decoded(encoded(LED_BY_B)) == LED_BY_B
    assert decoded(b"") == Lead()
    for damaged in (b"[]", b"{", b'{"protocol": 2}', encoded(LED_BY_B).replace(b'"b"', b"1")):
        with pytest.raises(ValueError, match="choose another fleet"):
            decoded(damaged)


class _Store:
    """A store of one host; `meanwhile`: called once, between a write and its reply."""

    def __init__(self, meanwhile: Callable[[], None]) -> None:
        self._snapshot = Snapshot(True, "r", "", b"", {})
        self._meanwhile = meanwhile

    async def commit(self, transaction: Transaction | None) -> Snapshot:
        if transaction is not None and transaction.core is not None:
            self._snapshot = Snapshot(True, "r", transaction.new_tag, transaction.core, {})
            self._meanwhile()
            self._meanwhile = lambda: None
        return self._snapshot

    async def close(self) -> None:
        pass


@asynchronous
async def test_a_hint_that_comes_during_an_exchange_is_passed_on_with_the_next() -> None:
    member, asks = TaskMember("a", [NOW]), []
    member.see({"a": 1})
    task = TaskLeader("a task", _Store(lambda: task.ask()), member)
    task.ask()
    for _ in range(3):
        await task.tick()
        asks.append(task.lead.asks)
    assert asks == [1, 2, 2]


@asynchronous
async def test_a_leader_says_again_what_another_one_has_replaced_in_the_meantime() -> None:
    member, other = TaskMember("a", clock := [NOW]), TaskMember("b", clock)
    store = _Store(lambda: None)
    task, second = TaskLeader("a task", store, member), TaskLeader("a task", store, other)
    lead, theirs = FleetLead(task), FleetLead(second)
    found = RegistryNews("it is away", 17.5)
    member.see({"a": 1})
    for _ in range(2):
        await task.tick()
        lead.say(found)
    await task.tick()
    assert lead.news() == found
    clock[0] += 1
    other.see({"b": 1})  # a is gone
    theirs_found = RegistryNews("", 18.5)
    for _ in range(2):
        await second.tick()
        theirs.say(theirs_found)
    await second.tick()
    await task.tick()
    assert (lead.leads, lead.news()) == (False, theirs_found)
    clock[0] += 1
    member.see({"a": 2})  # b is gone
    await task.tick()
    assert lead.leads
    lead.say(found)
    await task.tick()
    assert lead.news() == found


def test_what_a_store_has_lost_is_brought_back_but_for_who_leads() -> None:
    lost = Lead(number=1, leader="b")
    brought_back = LED_BY_B._replace(number=8)
    assert next_lead(host("b"), lost, Heard(1, NOW), NOW, TIMING, said=None, asked=False, confirmed=True,
                     newest=LED_BY_B._replace(leader="c")) == brought_back  # fmt: skip
    assert next_lead(host("b"), brought_back, Heard(8, NOW), NOW, TIMING, said=None, asked=False, confirmed=True,
                     newest=LED_BY_B) == brought_back  # fmt: skip
    assert next_lead(host(), Lead(), Heard(0, NOW), NOW, TIMING, said=None, asked=False, confirmed=True,
                     newest=LED_BY_B) == LED_BY_B._replace(number=9, leader="a")  # fmt: skip


def test_a_host_that_could_not_act_yet_leaves_a_free_lead_to_others_for_some_time() -> None:
    for free in (Lead(), Lead(number=7, leader="away", said=SAID)):
        for waited_ns, takes in ((SILENT_NS - 1, False), (SILENT_NS, True)):
            heard = Heard(free.number, NOW - waited_ns)
            ready, unready = (
                next_lead(
                    host(),
                    free,
                    heard,
                    NOW,
                    TIMING,
                    said=None,
                    asked=False,
                    confirmed=True,
                    unready=partial(bool, is_unready),
                )
                for is_unready in (False, True)
            )
            assert (ready.leader, unready.leader == "a", unready.said) == ("a", takes, free.said)


@pytest.mark.parametrize("timing", [TIMING, Timing(60_000_000_000, 100_000_000)])
def test_what_a_leader_gives_up_goes_to_a_host_that_can_act_and_not_to_one_that_cannot(timing: Timing) -> None:
    silent, resumes = silent_ns(timing), given_up_ns(timing) + WRITE_NS  # since its last write, at the latest
    taken = [
        next_lead(
            host("b"), LED_BY_B, Heard(LED_BY_B.number, NOW - waited_ns), NOW, timing,
            said=None, asked=False, confirmed=True, unready=partial(bool, unready),
        ).leader == "a"
        for waited_ns, unready in ((silent - 1, False), (silent, False), (resumes - 1, True), (resumes, True))
    ]  # fmt: skip
    assert taken == [False, True, False, True] and given_up_ns(timing) > silent


@asynchronous
async def test_a_leader_that_gives_up_ends_to_act_before_another_one_begins_and_goes_on_if_none_does(
    tmp_path: Any,
) -> None:
    clock = [NOW]
    with RedisServer(tmp_path / "redis") as server:
        async with opened(server.url) as one, opened(server.url) as two:
            members = {"a": TaskMember("a", clock), "b": TaskMember("b", clock)}
            a, b = TaskLeader("a task", one, members["a"]), TaskLeader("a task", two, members["b"])

            async def turns(seconds: float, *tasks: TaskLeader) -> list[str]:
                acting = []
                for _ in range(int(seconds * 2)):
                    clock[0] += 500_000_000
                    for member in members.values():
                        member.see({"a": clock[0], "b": clock[0]})
                    for task in tasks:
                        await task.tick()
                    acting.append("".join(name for name, task in (("a", a), ("b", b)) if task.leads))
                return acting

            await turns(3, a)
            a.gives_up = lambda: True
            acting = await turns(30, a, b)
            assert [one for one, _ in itertools.groupby(acting)] == ["a", "", "b"]
            b.gives_up = lambda: True
            a.is_unready = lambda: True
            acting = await turns(12, b)
            assert acting[-1] == "" and b.leader == "", "it does not say that it acts"
            b.gives_up = lambda: False
            assert (await turns(1, b))[-1] == "b"


@asynchronous
async def test_a_leader_is_told_when_another_host_brings_back_what_was_found_before(tmp_path: Any) -> None:
    clock = [NOW]
    with RedisServer(tmp_path / "redis") as server:
        async with opened(server.url) as one, opened(server.url) as two:
            members = {"a": TaskMember("a", clock), "b": TaskMember("b", clock)}
            a, b = TaskLeader("a task", one, members["a"]), TaskLeader("a task", two, members["b"])
            for member in members.values():
                member.see({"a": 1, "b": 1})
            await a.tick()
            for _ in range(3):
                a.say(SAID)
                await a.tick()
                await b.tick()
            assert (a.leads, a.taken, b.taken, b.lead.said, a.settled) == (True, 1, 0, SAID, True)
            server.wipe()
            members["b"].see({"a": 2, "b": 2})
            members["a"].see({"a": 2, "b": 2})
            empty = TaskLeader("a task", one, members["a"])
            await empty.tick()
            assert (empty.leads, empty.taken, empty.lead.said, empty.settled) == (True, 1, {}, False)
            empty.say({"of": "old"})
            await b.tick()
            await empty.tick()
            assert (empty.leads, empty.taken, empty.lead.said, empty.settled) == (True, 2, SAID, True)


@pytest.mark.parametrize("seed", range(2))
@asynchronous
async def test_at_no_time_do_two_hosts_act(tmp_path: Any, seed: int) -> None:
    """Over a real store; beats and exchanges of each host fail at random."""
    rng, clock, beats = random.Random(seed), [NOW], dict.fromkeys("abc", 0)
    leaders: list[str] = []
    with RedisServer(tmp_path / "redis") as server:
        async with opened(server.url) as one, opened(server.url) as two, opened(server.url) as three:
            members = {name: TaskMember(name, clock) for name in "abc"}
            tasks = {
                name: TaskLeader("a task", store, members[name])
                for name, store in zip("abc", (one, two, three), strict=True)
            }
            away = {"": 0}
            for turn in itertools.count():
                clock[0] += rng.randrange(50_000_000, 400_000_000)
                if rng.random() < 0.02:
                    away[rng.choice("abc")] = turn + rng.randrange(40)
                for name in rng.sample("abc", 3):
                    if away.get(name, 0) > turn:
                        continue
                    if rng.random() < 0.9:
                        beats[name] += 1
                        members[name].see(dict(beats))
                    if rng.random() < 0.9:
                        tasks[name].say({"turn": turn})
                        await tasks[name].tick()
                    acting = [other for other in "abc" if tasks[other].leads]
                    assert len(acting) <= 1
                    leaders += [one for one in acting if leaders[-1:] != [one]]
                if turn == 800:
                    break
    assert len(leaders) > 5  # it has changed hands
    assert tasks["a"].lead.number > 50
