"""A leader whose routing file refuses an edit of the fleet gives the registry up to a host that has made it, once."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from gateway.control.fleet.routing_state import RoutingCore, RoutingEdit, RoutingRecord
from gateway.control.fleet.routing_step import Due, Stand
from gateway.control.registry.lead import Alone
from gateway.control.registry.readiness import PATIENCE_NS, Readiness

MODELS = "digits", "tumor"
GIVEN_UP_NS = 70 * 10**9
REFUSED = "routing.yaml cannot be written: Read-only file system"


def edit(model: str, id_: str) -> RoutingEdit:
    return RoutingEdit(id_, model, 2, "weight", "all", 5.0, "before", "after", "a person", "b", "a test")


CORE = RoutingCore({model: (edit(model, "4-x"), edit(model, "5-y")) for model in MODELS})


@dataclass
class Exchange:
    """This host is a. `lacking`: models whose edits it has not made."""

    lacking: set[str]
    records: Mapping[str, RoutingRecord]
    core: RoutingCore = CORE
    present: frozenset[str] = frozenset("abc")
    me: str = "a"

    @property
    def refused(self) -> dict[str, str]:
        return dict.fromkeys(self.lacking, REFUSED)

    def due(self, model: str) -> Due:
        return Due(Stand.BEHIND if model in self.lacking else Stand.CURRENT)


@dataclass
class Routing:
    exchange: Exchange
    problem: str = ""


def record(digits: str, tumor: str, waiting: Mapping[str, str] | None = None, revision: str = "r") -> RoutingRecord:
    return RoutingRecord("", revision, {}, {"digits": digits, "tumor": tumor}, waiting or {})


@dataclass
class World:
    routing: Routing
    now_ns: int = 10**15
    lead: Any = field(default_factory=lambda: SimpleNamespace(taken=1, unreadable="", given_up_ns=GIVEN_UP_NS))
    readiness: Readiness = field(init=False)

    def __post_init__(self) -> None:
        self.readiness = Readiness(lambda: MODELS, lambda: self.routing, self.lead, lambda: self.now_ns)

    def gives_up_after(self, passed_ns: int) -> bool:
        self.now_ns += passed_ns
        return self.readiness.gives_up()


def world(lacking: set[str], **others: RoutingRecord) -> World:
    return World(Routing(Exchange(lacking, {"a": record("5-y", "4-x"), **others})))


def test_lead_is_given_up_for_some_time_after_some_patience_and_once_for_each_edit() -> None:
    found = world({"tumor"}, b=record("5-y", "5-y"))
    assert [found.gives_up_after(one) for one in (0, PATIENCE_NS - 1, 1, GIVEN_UP_NS - 1, 1, 10 * GIVEN_UP_NS)] == [
        False, False, True, True, False, False,
    ]  # fmt: skip
    found.routing.exchange.core = RoutingCore({**CORE.edits, "tumor": (edit("tumor", "6-z"),)})
    found.routing.exchange.records = {"b": record("5-y", "6-z")}
    assert [found.gives_up_after(one) for one in (0, PATIENCE_NS)] == [False, True]


def test_lead_is_given_up_whenever_another_host_has_come_to_be_able_to_follow_and_each_time_it_was_taken_anew() -> None:
    found = world({"tumor"}, b=record("5-y", "4-x"))
    assert not any(found.gives_up_after(one) for one in (0, PATIENCE_NS, GIVEN_UP_NS))
    found.routing.exchange.records = {"b": record("5-y", "5-y")}  # its file has been mended
    assert [found.gives_up_after(one) for one in (0, PATIENCE_NS, GIVEN_UP_NS)] == [False, True, False]
    found.lead.taken = 2  # as b has restarted meanwhile
    assert [found.gives_up_after(one) for one in (0, PATIENCE_NS, GIVEN_UP_NS)] == [False, True, False]


def test_host_that_cannot_read_what_was_found_before_is_unready_and_gives_the_lead_up_to_any_other_one() -> None:
    found = world(set(), b=record("4-x", "4-x"))
    assert not found.readiness.is_unready() and not found.gives_up_after(PATIENCE_NS)
    found.lead.unreadable = "of a later release"
    assert found.readiness.is_unready()
    assert [found.gives_up_after(one) for one in (0, PATIENCE_NS, GIVEN_UP_NS)] == [False, True, False]


def test_lead_is_kept_where_no_other_host_present_could_follow_more_models() -> None:
    for others in (
        {"b": record("5-y", "4-x")},
        {"b": record("5-y", "5-y", {"tumor": "edited by hand"})},
        {"b": record("4-x", "5-y")},
        {"d": record("5-y", "5-y")},
        {"b": record("5-y", "5-y", revision="")},
        {},
    ):
        found = world({"tumor"}, **others)
        assert [found.gives_up_after(one) for one in (0, PATIENCE_NS)] == [False, False], others
    made = world(set(), b=record("5-y", "5-y"))
    assert [made.gives_up_after(one) for one in (0, PATIENCE_NS)] == [False, False]


def test_what_is_behind_says_why() -> None:
    found = world({"tumor"}).readiness
    assert [(found.behind(model), found.refusal(model)) for model in MODELS] == [(False, ""), (True, REFUSED)]
    assert (found.is_unready(), world(set(MODELS)).readiness.is_unready()) == (False, True)
    alone = Readiness(lambda: MODELS, lambda: None, Alone(), lambda: 0)
    assert (alone.behind("digits"), alone.refusal("digits"), alone.gives_up()) == (False, "", False)


def test_host_that_does_not_know_the_edits_is_behind_and_gives_nothing_up() -> None:
    found = world({"tumor"}, b=record("5-y", "5-y"))
    found.routing.problem = "no answer"
    assert found.readiness.behind("digits")
    assert [found.gives_up_after(one) for one in (0, PATIENCE_NS)] == [False, False]


def test_host_leaves_a_lead_that_is_free_or_given_up_to_one_that_could_follow_more_models() -> None:
    assert world({"tumor"}, b=record("5-y", "5-y")).readiness.is_unready()
    assert not world({"tumor"}, b=record("4-x", "5-y")).readiness.is_unready()
    assert not world(set(), b=record("5-y", "5-y")).readiness.is_unready()
