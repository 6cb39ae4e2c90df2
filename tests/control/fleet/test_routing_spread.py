"""On which hosts an edit of the routing file is said to be in force."""

from gateway.control.fleet.routing_spread import AWAY, NOT_YET, WITHOUT, spread
from gateway.control.fleet.routing_state import RoutingCore, RoutingEdit, RoutingRecord
from gateway.control.fleet.store_state import Member

EDITS = tuple(RoutingEdit(id_, "m", 2, "weight", "r", 5.0, "A", "B", "ann", "a", "a test") for id_ in "123")
CORE = RoutingCore({"m": EDITS})
MEMBERS = {name: Member(1, 0, False, name[0]) for name in ("a1", "b1", "c1")}


def record(applied: str, **waiting: str) -> RoutingRecord:
    return RoutingRecord("?", "r", {}, {"m": applied}, waiting)


def test_edit_is_in_force_where_it_or_a_later_one_was_made() -> None:
    records = {"a1": record("2"), "b1": record("3"), "c1": record("1")}
    found = spread(EDITS[1], CORE, records, MEMBERS, MEMBERS.keys(), "", waited=False)
    assert (found.hosts, found.applied, found.missing, found.is_final) == (3, 2, (("c", NOT_YET),), False)
    assert spread(EDITS[1], CORE, {**records, "c1": record("2")}, MEMBERS, MEMBERS.keys(), "", waited=False).is_final


def test_hosts_that_are_away_or_say_why_not_are_not_waited_for() -> None:
    records = {"a1": record("2"), "b1": record("1", m="edited by hand")}
    found = spread(EDITS[1], CORE, records, MEMBERS, {"a1", "b1"}, "", waited=False)
    assert (found.applied, found.missing, found.is_final) == (1, (("b", "edited by hand"), ("c", AWAY)), True)


def test_edit_that_the_store_does_not_have_is_in_force_here_only() -> None:
    new = EDITS[0]._replace(id="9")
    found = spread(new, CORE, {}, MEMBERS, MEMBERS.keys(), "no answer", waited=False)
    assert (found.hosts, found.applied, found.problem, found.is_final) == (3, 1, "no answer", False)


def test_host_without_a_record_is_waited_for_only_for_a_moment() -> None:
    records = {"a1": record("2"), "b1": record("2")}
    assert not spread(EDITS[1], CORE, records, MEMBERS, MEMBERS.keys(), "", waited=False).is_final
    found = spread(EDITS[1], CORE, records, MEMBERS, MEMBERS.keys(), "", waited=True)
    assert found.is_final and found.missing == (("c", WITHOUT),)
