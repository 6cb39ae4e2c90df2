"""The fleet as a host shows it, made from states of that host."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from gateway.control.fleet.evidence import Digest
from gateway.control.fleet.fleet_status import HELD, LEAVING, FleetStatus, fleet_status
from gateway.control.fleet.host import NEVER_NS, HostState, Observed
from gateway.control.fleet.store_state import Identity, Member
from gateway.control.fleet.timing import Timing

S = 10**9
NOW = 1000 * S
LEASE = Timing(3 * S, S // 10)
MEMBERS = {
    "b1": Member(beat=9, applied=4, hold=False, name="b:8000"),
    "a1": Member(beat=7, applied=3, hold=False, name="a:8000"),
    "c1": Member(beat=5, applied=4, hold=True, name="c:8000"),
}
OPEN = HostState(
    "a1",
    "a:8000",
    open=True,
    fresh=False,
    identity=Identity("run", "key"),
    revision=4,
    applied=4,
    settled=True,
    store_since_ns=NOW - 60 * S,
    steady_since_ns=NOW - 60 * S,
    contact_until_ns=NOW + 2 * S,
    members=MEMBERS,
    observed={"a1": Observed(7, NOW), "b1": Observed(9, NOW - S // 2), "c1": Observed(5, NOW - 7 * S)},
)
CLOSED = OPEN._replace(open=False)


@dataclass
class Shared:
    """What a release that the fleet steps shows."""

    digest: Digest | None
    leads: bool = False
    problem: str = ""


@dataclass
class Ramps:
    """All of them."""

    releases: Mapping[str, Shared]
    problems: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Host:
    """What a membership shows, at `NOW`."""

    host: HostState
    problem: str = ""
    errors: int = 2
    unconfirmed: tuple[str, ...] = ()
    timing: Timing = field(default=LEASE)
    fleet: str = "production"
    url: str = "redis://10.0.0.5:6379/0"
    ramps: Ramps | None = None

    def now_ns(self) -> int:
        return NOW


def seen(host: HostState, **more: Any) -> FleetStatus:
    return fleet_status(Host(host, **more))


def test_members_are_listed_by_name_with_what_they_have_applied_and_since_when_they_are_silent() -> None:
    status = seen(OPEN, unconfirmed=("digits/2",))
    assert [(one.name, one.here, one.up_to_date, one.hold, one.silent_s) for one in status.members] == [
        ("a:8000", True, True, False, 0.0),  # its own record in the reply is older than what it has applied since
        ("b:8000", False, True, False, 0.5),
        ("c:8000", False, True, True, 7.0),
    ]
    assert (status.name, status.store, status.host) == ("production", "redis://10.0.0.5:6379/0", "a:8000")
    assert (status.open, status.why, status.lease_s, status.lease_left_s) == (True, "", 3.0, 2.0)
    assert (status.unconfirmed, status.store_errors, status.leaders) == (("digits/2",), 2, ())


def test_member_behind_the_revision_is_not_up_to_date() -> None:
    members = {**MEMBERS, "b1": MEMBERS["b1"]._replace(applied=3)}
    status = seen(OPEN._replace(members=members, applied=3))
    assert [one.up_to_date for one in status.members] == [False, False, True]


def test_hosts_of_the_same_name_are_told_apart() -> None:
    twice = {"a1": MEMBERS["a1"], "a2": MEMBERS["a1"]}
    status = seen(OPEN._replace(members=twice))
    assert [(one.incarnation, one.here) for one in status.members] == [("a1", True), ("a2", False)]
    assert status.members[1].silent_s == 0.0, "a beat that has just been seen for the first time"


@pytest.mark.parametrize(
    ("host", "problem", "is_open", "why"),
    [
        (OPEN, "", True, ""),
        (OPEN, "timeout", True, "no contact: timeout"),  # the lease has not ended yet
        (OPEN._replace(contact_until_ns=NOW), "", False, "contact with the store was lost"),
        (OPEN._replace(contact_until_ns=NOW), "timeout", False, "no contact: timeout"),
        (OPEN._replace(contact_until_ns=NOW, hold=True), "", True, HELD),
        (OPEN._replace(contact_until_ns=NOW, hold=True), "off", True, f"no contact: off; {HELD}"),
        (CLOSED._replace(refused="its lease is 5 s"), "its lease is 5 s", False,
         "the store refuses this host: its lease is 5 s"),
        (CLOSED._replace(leaving=True), "timeout", False, LEAVING),
        (CLOSED._replace(steady_since_ns=NOW - S), "", False, "opens after 3.1 s of contact with the store, in 2.1 s"),
        (CLOSED._replace(steady_since_ns=NOW - S, fresh=True, settled=False), "", False,
         "opens after 31 s of contact with the store, in 30 s"),
        (CLOSED._replace(steady_since_ns=NOW - 60 * S), "", False,
         "opens after 3.1 s of contact with the store, in 0 s"),
        (HostState("a1", "a"), "the store has not answered yet", False,
         "no contact: the store has not answered yet"),
        (HostState("a1", "a"), "", False, "opens after 31 s of contact with the store, in 31 s"),
    ],
)  # fmt: skip
def test_says_why_candidates_get_no_traffic_or_what_is_wrong(
    host: HostState, problem: str, is_open: bool, why: str
) -> None:
    status = seen(host, problem=problem)
    assert (status.open, status.why, status.problem) == (is_open, why, problem)


@pytest.mark.parametrize("host", [CLOSED, OPEN._replace(contact_until_ns=NEVER_NS), OPEN._replace(contact_until_ns=1)])
def test_closed_host_and_one_without_contact_have_no_lease_left(host: HostState) -> None:
    assert seen(host).lease_left_s == 0


def test_each_release_has_a_leader_unless_it_is_gone_or_unknown() -> None:
    releases = {
        "tickets": Shared(Digest(3, "a1"), leads=True),
        "digits": Shared(Digest(3, "b1"), problem="other settings"),
        "gone": Shared(Digest(3, "z9")),
        "unknown": Shared(None),
    }
    found = seen(OPEN, ramps=Ramps(releases, {"gone": "request is too large", "digits": "later"})).leaders
    assert [(one.model, one.leader, one.here, one.why) for one in found] == [
        ("digits", "b:8000", False, "other settings"),
        ("gone", None, False, "request is too large"),
        ("tickets", "a:8000", True, ""),
        ("unknown", None, False, ""),
    ]
