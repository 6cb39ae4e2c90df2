"""Edits of the routing file over hosts, as pure functions: nothing is overwritten, and all come to the same entry."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import count
from random import Random

import pytest

from gateway.control.fleet.routing_state import (
    MOST_KEPT,
    Proposal,
    RoutingCore,
    RoutingEdit,
    RoutingRecord,
    decoded_core,
    decoded_record,
    encoded_core,
    encoded_record,
    new_id,
    number_of,
)
from gateway.control.fleet.routing_step import (
    Due,
    Elsewhere,
    Stand,
    accepted,
    brought_back,
    drifts,
    due,
    next_number,
    proposed,
    undoes,
    withdrawn,
)

M = "m"


def edit(id_: str, before: str, after: str, host: str = "a") -> RoutingEdit:
    return RoutingEdit(id_, M, 2, "weight", "everyone", 5.0, before, after, "ann", host, "a test")


CHAIN = (edit("1", "A", "B"), edit("2", "B", "C"), edit("3", "C", "D"))
BACK = (edit("1", "A", "B"), edit("2", "B", "A"), edit("3", "A", "C"))
NUMBERED = (edit("1-x", "A", "B"), edit("2-y", "B", "A"), edit("3-z", "A", "C"))
BROKEN = (edit("1", "A", "B"), edit("2", "X", "C"))  # between the two all hosts were edited by hand


@pytest.mark.parametrize(
    ("edits", "applied", "here", "elsewhere", "expected"),
    [
        ((), "", "A", "B1", Due(Stand.CURRENT)),
        (CHAIN, "3", "D", "D3", Due(Stand.CURRENT)),
        (CHAIN, "3", "A", "D3", Due(Stand.CURRENT)),  # undone by hand: not made again
        (CHAIN, "", "D", "D3", Due(Stand.CURRENT)),
        (CHAIN, "", "A", "D3", Due(Stand.BEHIND, CHAIN)),
        (CHAIN, "1", "B", "D3", Due(Stand.BEHIND, CHAIN[1:])),
        (CHAIN, "of a store that was lost", "C", "D3", Due(Stand.BEHIND, CHAIN[2:])),
        (CHAIN, "1", "X", "D3", Due(Stand.DIFFERS)),
        (CHAIN, "2", "A", "D3", Due(Stand.DIFFERS)),  # by hand, back to before an edit that was made
        (CHAIN, "2", None, "D3", Due(Stand.DIFFERS)),
        (CHAIN, "2", "C", "C3 A3", Due(Stand.UNDONE)),
        (CHAIN, "2", "C", "C2 A3", Due(Stand.UNDONE)),
        (CHAIN, "2", "C", "C3 D3", Due(Stand.BEHIND, CHAIN[2:])),
        (CHAIN, "2", "C", "C2 A1", Due(Stand.BEHIND, CHAIN[2:])),  # the host that had made it is away
        (BACK, "", "A", "C3", Due(Stand.BEHIND, BACK[2:])),
        (BACK, "1", "B", "C3", Due(Stand.BEHIND, BACK[1:])),
        (NUMBERED[:1], "2-y", "A", "A2-y", Due(Stand.CURRENT)),  # the store went back: not made once more
        (NUMBERED, "2-lost", "A", "C3-z", Due(Stand.BEHIND, NUMBERED[2:])),
        (BROKEN, "", "A", "C2", Due(Stand.DIFFERS)),
        (BROKEN, "", "X", "C2", Due(Stand.BEHIND, BROKEN[1:])),
    ],
)
def test_what_is_due(
    edits: tuple[RoutingEdit, ...], applied: str, here: str | None, elsewhere: str, expected: Due
) -> None:
    others = [Elsewhere(other[0], other[1:]) for other in elsewhere.split()]
    assert due(edits, applied, here, others) == expected


def test_two_edits_of_a_model_are_not_made_at_once() -> None:
    core, refused = proposed(RoutingCore(), edit("1", "A", "B"), "a1", {"a1", "b1"}, "", ())
    assert not refused
    assert "is under way" in proposed(core, edit("2", "A", "C", "b"), "b1", {"a1", "b1"}, "", ())[1]
    assert "is under way" in proposed(core, edit("2", "B", "C"), "a1", {"a1", "b1"}, "", ())[1]
    other = edit("2", "A", "C", "b")._replace(model="n")
    assert not proposed(core, other, "b1", {"a1", "b1"}, "", ())[1]
    core, kept = accepted(core, core.proposals[M])
    assert kept and core.newest(M) == "1" and not core.proposals
    both, others = {"a1", "b1"}, [Elsewhere("B", "1")]
    assert "not in force here yet" in proposed(core, edit("2", "A", "C", "b"), "b1", both, "", others)[1]
    assert "edited by hand" in proposed(core, edit("2", "X", "C", "b"), "b1", both, "", others)[1]
    assert not proposed(core, edit("2", "B", "C", "b"), "b1", both, "", others)[1]


def test_edit_of_a_host_that_has_ended_gives_way_and_is_then_lost() -> None:
    core, _ = proposed(RoutingCore(), edit("1", "A", "B"), "a1", {"a1"}, "", ())
    stood = core.proposals[M]
    core, refused = proposed(core, edit("2", "A", "C", "b"), "b1", {"b1"}, "", ())
    assert not refused
    assert accepted(core, stood) == (core, False)
    core, kept = accepted(core, core.proposals[M])
    assert kept and accepted(core, stood) == (core, False)


def test_accepting_twice_or_in_a_store_without_data_is_accepting_once() -> None:
    proposal = Proposal("a1", "", edit("1", "A", "B"))
    core, kept = accepted(RoutingCore(), proposal)
    assert kept and accepted(core, proposal) == (core, True)
    assert not accepted(core, Proposal("b1", "", edit("2", "A", "C", "b")))[1]
    assert withdrawn(core, proposal.edit) is core


def test_edits_that_the_store_has_lost_are_brought_back_and_numbers_go_on() -> None:
    core = RoutingCore({M: NUMBERED[:1], "n": CHAIN})
    assert brought_back(core, {M: NUMBERED[:2], "n": CHAIN[:1]}) == RoutingCore({M: NUMBERED[:2], "n": CHAIN})
    assert brought_back(RoutingCore(), {M: CHAIN}) == RoutingCore({M: CHAIN})
    assert brought_back(RoutingCore({M: NUMBERED}), {M: NUMBERED[:2], "n": ()}) == RoutingCore({M: NUMBERED})
    assert next_number(core, M, ["", "4-x", "of the release before"]) == 5 and next_number(RoutingCore(), M, []) == 1
    assert number_of(new_id(12, "ab-c")) == 12


def test_only_the_latest_edits_are_kept() -> None:
    core = RoutingCore()
    for number in range(MOST_KEPT + 3):
        core, _ = accepted(core, Proposal("a1", core.newest(M), edit(str(number), str(number), str(number + 1))))
    assert [one.id for one in core.edits[M]] == [str(number) for number in range(3, MOST_KEPT + 3)]


def test_hosts_with_other_entries_are_named() -> None:
    records = {
        "a1": RoutingRecord("a", "r", {"m": "1", "n": "2"}),
        "b1": RoutingRecord("b", "r", {"m": "1", "n": "3"}),
        "c1": RoutingRecord("c", "r", {"m": "1"}),
        "d1": RoutingRecord("d", "r", {"m": "9"}),
        "e1": RoutingRecord("e", "", {}),  # its file was refused from its start on
    }
    assert list(drifts("a1", records, {"a1", "b1", "c1", "e1"})) == [("b", "n"), ("c", "n")]
    assert not list(drifts("z1", records, {"a1", "b1"}))


def test_what_is_stored_is_read_again() -> None:
    core = RoutingCore({M: CHAIN}, {"n": Proposal("a1", "3", edit("4", "D", "E"))})
    assert decoded_core(encoded_core(core)) == core and decoded_core(b"") == RoutingCore()
    record = RoutingRecord("a", "r", {"m": "1"}, {"m": "3"}, {"n": "why"})
    assert decoded_record(encoded_record(record)) == record


@pytest.mark.parametrize(
    "data",
    [b"{", b"[]", b"7", b"{}", b'{"protocol":2,"edits":{},"proposals":{}}', b'{"protocol":1,"edits":[],"proposals":{}}',
     b'{"protocol":1,"edits":{"m":[{}]},"proposals":{}}', b'{"protocol":1,"edits":{"m":7},"proposals":{}}'],
    ids=repr,
)  # fmt: skip
def test_damaged_data_is_refused_with_the_remedy(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"choose another fleet.name, or delete the data"):
        decoded_core(data)
    with pytest.raises(ValueError, match=r"choose another fleet.name, or delete the data"):
        decoded_record(data)


@dataclass
class Host:
    """`strange`: its entry was edited by hand, or by an edit that was never accepted."""

    name: str
    entry: str = "A"
    applied: str = ""
    up: bool = True
    frozen: bool = False
    strange: bool = False
    own: Proposal | None = None
    made: bool = False
    read: tuple[RoutingEdit, ...] = ()
    known: Mapping[str, tuple[RoutingEdit, ...]] = field(default_factory=dict)


@dataclass
class World:
    """Hosts with one store, whose every operation is atomic; a host acts on what it has read earlier."""

    random: Random
    hosts: list[Host]
    core: RoutingCore = field(default_factory=RoutingCore)
    ids: "count[int]" = field(default_factory=count)
    accepted: list[str] = field(default_factory=list)
    past: list[RoutingCore] = field(default_factory=list, repr=False)

    def others(self, host: Host) -> list[Elsewhere]:
        others = [one for one in self.hosts if one is not host and one.up and not one.frozen]
        return [Elsewhere(one.entry, "" if one.own else one.applied) for one in others]

    def present(self) -> set[str]:
        return {one.name for one in self.hosts if one.up and not one.frozen}

    def reach(self, host: Host) -> None:
        """Give a store that has lost its latest data what the host knows, and learn what is there."""
        self.core = brought_back(self.core, host.known)
        host.known = self.core.edits
        stands = self.core.proposals.get(M)
        if stands is not None and stands.incarnation == host.name and stands != host.own:
            self.core = withdrawn(self.core, stands.edit)
        self.past.append(self.core)

    def lose_data(self) -> None:
        """Go back to an older snapshot, while a host that knows all is there, and comes soon."""
        knows = [host for host in self.hosts if host.up and not host.frozen and host.known == self.core.edits]
        if knows:
            self.core = self.random.choice([RoutingCore(), *self.past])
            first = self.random.choice([host for host in self.hosts if host.up and not host.frozen])
            for host in (first, knows[0]):
                self.reach(host)
                self.look(host)
                self.follow(host)

    def stand(self, host: Host) -> Due:
        return due(self.core.edits.get(M, ()), host.applied, host.entry, self.others(host))

    def propose(self, host: Host) -> None:
        if host.own is None:
            unique = str(next(self.ids))
            others = self.others(host)
            number = next_number(self.core, M, [host.applied, *(other.applied for other in others)])
            after = self.random.choice(["A", "B", f"E{unique}"])
            new = edit(new_id(number, unique), host.entry, after, host.name)
            if new.after != new.before:
                self.core, refused = proposed(self.core, new, host.name, self.present(), host.applied, others)
                host.own = None if refused else self.core.proposals[M]

    def make(self, host: Host) -> None:
        if host.own is not None and not host.made:
            if host.entry == host.own.edit.before:
                host.entry, host.made = host.own.edit.after, True
            else:
                self.core, host.own = withdrawn(self.core, host.own.edit), None

    def accept(self, host: Host) -> None:
        if host.own is not None and host.made:
            own, host.own, host.made = host.own, None, False
            self.core, kept = accepted(self.core, own)
            if kept:
                self.accepted.append(own.edit.id)
            elif host.entry == own.edit.after and undoes(self.core, own.edit):
                host.entry = own.edit.before

    def look(self, host: Host) -> None:
        """What an exchange does; it may be acted upon later."""
        found = self.stand(host)
        if found.stand is Stand.CURRENT and self.core.newest(M) and host.own is None:
            host.applied = self.core.newest(M)
        host.read = found.edits

    def follow(self, host: Host) -> None:
        for one in host.read:
            if host.entry != one.before:
                break
            assert number_of(one.id) > number_of(host.applied), "made once more"
            host.entry = one.after
        host.read = ()

    def kill(self, host: Host) -> None:
        host.up = not host.up
        if host.made and not host.up:
            host.strange = True
        host.own, host.made, host.read, host.known = None, False, (), {}
        if self.random.random() < 0.2:
            host.applied = ""  # a new state folder

    def edit_by_hand(self, host: Host) -> None:
        host.entry, host.strange = self.random.choice(["A", "B", f"H{next(self.ids)}"]), True

    def settle(self) -> None:
        for host in self.hosts:
            host.up, host.frozen = True, False
        for _ in range(4):
            for host in sorted(self.hosts, key=lambda host: not host.known):
                self.reach(host)
                self.make(host)
                self.accept(host)
                self.look(host)
                self.follow(host)
                self.look(host)


def run(seed: int, *, by_hand: bool) -> World:
    random = Random(seed)
    world = World(random, [Host(name) for name in "abc"])
    actions = [world.propose, world.make, world.accept, world.look, world.follow]
    for _ in range(100):
        host = random.choice(world.hosts)
        if random.random() < 0.08:
            world.kill(host)
        elif by_hand and random.random() < 0.05:
            world.edit_by_hand(host)
        elif random.random() < 0.08:
            host.frozen = not host.frozen
        elif host.up and not host.frozen:
            world.reach(host)
            random.choice(actions)(host)
            world.reach(host)
        if random.random() < 0.02:
            world.lose_data()
    world.settle()
    return world


def test_hosts_that_no_one_edits_by_hand_come_to_the_same_entry() -> None:
    edits = 0
    for seed in range(2000):
        world = run(seed, by_hand=False)
        edits += len(world.accepted)
        if any(host.strange for host in world.hosts):
            continue
        assert len({host.entry for host in world.hosts}) == 1, f"seed {seed}: {world}"
    assert edits > 1600


def test_what_is_edited_by_hand_is_left_or_said() -> None:
    for seed in range(2000):
        world = run(seed, by_hand=True)
        entries = {host.entry for host in world.hosts}
        for host in world.hosts:
            found = world.stand(host)
            assert found.stand is not Stand.BEHIND, f"seed {seed}: {world}"
        if len(entries) > 1:
            assert any(host.strange for host in world.hosts), f"seed {seed}: {world}"
