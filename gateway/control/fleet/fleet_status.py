"""The fleet as this host sees it at one moment, for the API, the commands, the console and the metrics. Read-only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from gateway.control.fleet.evidence import Digest
from gateway.control.fleet.host import PROTOCOL, HostState, contact_needed_ns
from gateway.control.fleet.timing import Timing

NS: Final = 1e9
LEAVING: Final = "this host leaves the fleet"
HELD: Final = "there is no contact; candidates go on with the last weights, since fleet.when_lost is hold"


class Shared(Protocol):
    """What is read of a release that the fleet steps together."""

    @property
    def problem(self) -> str: ...
    @property
    def digest(self) -> Digest | None: ...
    @property
    def leads(self) -> bool: ...


class Ramps(Protocol):
    """What is read of all of them."""

    @property
    def problems(self) -> Mapping[str, str]: ...
    @property
    def releases(self) -> Mapping[str, Shared]: ...


class Watched(Protocol):
    """What is read of a membership."""

    fleet: str
    url: str
    timing: Timing
    host: HostState
    problem: str
    errors: int

    @property
    def ramps(self) -> Ramps | None: ...
    @property
    def unconfirmed(self) -> tuple[str, ...]: ...
    def now_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class MemberStatus:
    """A host of the fleet, as of the store's last reply. `here`: it is this one.

    `up_to_date`: all stops and resumes that this host knows of are in force there. `hold`: it does not close when it
    loses contact. `silent_s`: for how long its beat has stood still, on this host's clock.
    """

    name: str
    incarnation: str
    here: bool
    up_to_date: bool
    hold: bool
    silent_s: float


@dataclass(frozen=True, slots=True)
class LeaderStatus:
    """Of a model's release. `leader`: name of the host that runs its controller, None if none does. `here`: it is this
    one. `why`: why this host does not take part in it, such as what the store refuses, or an empty text.
    """

    model: str
    leader: str | None
    here: bool
    why: str


@dataclass(frozen=True, slots=True)
class FleetStatus:
    """`store`: its URL, without the password. `host`: this host's name. `open`: candidates may get traffic here.

    `why`: what they wait for if they may not, or what is wrong; empty if all is well. `problem`: why the store does not
    answer, or refuses this host; empty if it does not. `lease_left_s`: 0 if closed or without contact. `revision`: of
    the store's last reply; `applied`: up to which it is in force here. `unconfirmed`: releases, as `model/version`,
    with a stop that may not hold on all hosts.
    """

    name: str
    store: str
    host: str
    open: bool
    why: str
    problem: str
    lease_s: float
    lease_left_s: float
    when_lost: str
    protocol: int
    revision: int
    applied: int
    members: tuple[MemberStatus, ...]
    unconfirmed: tuple[str, ...]
    store_errors: int
    leaders: tuple[LeaderStatus, ...]


def fleet_status(membership: Watched) -> FleetStatus:
    """The fleet as the membership knows it now. Safe in a thread."""
    host, now_ns, timing = membership.host, membership.now_ns(), membership.timing
    left_ns = max(0, host.contact_until_ns - now_ns) if host.open else 0
    return FleetStatus(
        name=membership.fleet,
        store=membership.url,
        host=host.name,
        open=host.open and (host.hold or left_ns > 0),
        why=_why(membership, host, now_ns, left_ns),
        problem=membership.problem,
        lease_s=timing.lease_ns / NS,
        lease_left_s=left_ns / NS,
        when_lost="hold" if host.hold else "close",
        protocol=PROTOCOL,
        revision=host.revision,
        applied=host.applied,
        members=_members(host, now_ns),
        unconfirmed=membership.unconfirmed,
        store_errors=membership.errors,
        leaders=_leaders(membership.ramps, host),
    )


def _why(membership: Watched, host: HostState, now_ns: int, left_ns: int) -> str:
    if host.leaving:
        return LEAVING
    if membership.problem:
        held = f"; {HELD}" if host.open and host.hold and not left_ns else ""
        asked = "the store refuses this host" if host.refused == membership.problem else "no contact"
        return f"{asked}: {membership.problem}{held}"
    if left_ns:
        return ""
    if host.open:
        return HELD if host.hold else "contact with the store was lost"
    needed_ns = contact_needed_ns(host, membership.timing)
    wait_ns = max(0, host.steady_since_ns + needed_ns - now_ns) if host.identity is not None else needed_ns
    return f"opens after {needed_ns / NS:.3g} s of contact with the store, in {wait_ns / NS:.2g} s"


def _members(host: HostState, now_ns: int) -> tuple[MemberStatus, ...]:
    members = (
        MemberStatus(
            name=member.name,
            incarnation=incarnation,
            here=incarnation == host.incarnation,
            up_to_date=(host.applied if incarnation == host.incarnation else member.applied) >= host.revision,
            hold=member.hold,
            silent_s=max(0, now_ns - host.observed[incarnation].since_ns) / NS if incarnation in host.observed else 0.0,
        )
        for incarnation, member in host.members.items()
    )
    return tuple(sorted(members, key=lambda member: (member.name, member.incarnation)))


def _leaders(ramps: Ramps | None, host: HostState) -> tuple[LeaderStatus, ...]:
    if ramps is None:
        return ()
    return tuple(
        LeaderStatus(model, _leader(host, one.digest), one.leads, one.problem or ramps.problems.get(model, ""))
        for model, one in sorted(ramps.releases.items())
    )


def _leader(host: HostState, digest: Digest | None) -> str | None:
    if digest is None or digest.leader not in host.members:
        return None
    return host.members[digest.leader].name
