"""The shapes of the fleet's JSON documents."""

from typing_extensions import TypedDict  # pydantic needs this one before Python 3.12


class FleetMemberDocument(TypedDict):
    """A host of the fleet. `here`: the one that answers. `up_to_date`: all stops and resumes are in force there.

    `hold`: it does not close its candidates when it loses contact. `silent_s`: for how long it has not been heard.
    """

    name: str
    incarnation: str
    here: bool
    up_to_date: bool
    hold: bool
    silent_s: float


class KeptShareDocument(TypedDict):
    """A host out of contact, whose share of each rate limit, from 0 to 1, no other host takes."""

    name: str
    incarnation: str
    share: float


class RatesDocument(TypedDict):
    """The rate limits as the host that answers has them. `share`: what it admits of each, from 0 to 1, but for those
    whose shares follow the demand; `following`: how many do. `newcomer`: it has never had contact, and so admits a
    tenth of each. `problem`: why the store does not answer.
    """

    share: float
    following: int
    newcomer: bool
    problem: str | None
    kept: list[KeptShareDocument]
    store_errors: int


class LeaderDocument(TypedDict):
    """Of a model's release. `leader`: name of the host that runs its controller, null if none does. `here`: it is the
    one that answers. `why`: why that host does not take part in the release's ramp, empty if it does.
    """

    model: str
    leader: str | None
    here: bool
    why: str


class DriftDocument(TypedDict):
    """A host whose routing file has other entries for these models than that of the host that answers."""

    host: str
    models: list[str]


class WaitingEditDocument(TypedDict):
    """A model with edits of the fleet that are not made on the host that answers, and why not."""

    model: str
    why: str


class FleetRoutingDocument(TypedDict):
    """The routing file of the host that answers, compared with those of the hosts in contact. `problem`: why edits by
    command are not exchanged with them, null if they are.
    """

    drift: list[DriftDocument]
    waiting: list[WaitingEditDocument]
    problem: str | None


class FleetDocument(TypedDict):
    """The fleet as the host that answers sees it.

    `store`: without its password. `open`: candidates may get traffic on this host; `why`: what they wait for if they
    may not, or what is wrong, empty if all is well. `problem`: why the store does not answer, or refuses this host.
    `lease_left_s`: 0 if closed or without contact. `when_lost`: close or hold. `revision`: of the fleet's stops and
    resumes; `applied`: up to which they are in force here. `unconfirmed`: releases (`model/version`) with a stop that
    may not hold on all hosts. `rates`: null if no rate is limited. `keys_problem`: why the keys that sign prediction
    ids are not exchanged with the other hosts, null if they are.
    """

    name: str
    store: str
    host: str
    open: bool
    why: str
    problem: str | None
    lease_s: float
    lease_left_s: float
    when_lost: str
    protocol: int
    revision: int
    applied: int
    members: list[FleetMemberDocument]
    unconfirmed: list[str]
    store_errors: int
    leaders: list[LeaderDocument]
    rates: RatesDocument | None
    keys_problem: str | None
    routing: FleetRoutingDocument | None


class RemovalDocument(TypedDict):
    """What a host that has ended had left in the fleet: incarnations of which its shares of the rate limits, and its
    membership, were removed. `on_disk`: false if a restart would lose the decision.
    """

    host: str
    shares: list[str]
    memberships: list[str]
    on_disk: bool


class FleetAnswer(TypedDict):
    """`fleet`: null if the gateway is not in one."""

    fleet: FleetDocument | None


class MissingHostDocument(TypedDict):
    """A host of the fleet where an edit is not in force. `why`: the reason."""

    host: str
    why: str


class SpreadDocument(TypedDict):
    """On how many of the fleet's `hosts` an edit is in force. `problem`: why the other hosts cannot know of it yet."""

    hosts: int
    applied: int
    missing: list[MissingHostDocument]
    problem: str | None
