"""What the fleet's store holds, and the messages of an exchange with it. Values are never changed in place."""

from collections.abc import Mapping
from typing import Final, NamedTuple


class Word(NamedTuple):
    """A release's epoch and the highest epoch that was stopped. A release is named by model and version."""

    epoch: int
    stop: int

    @property
    def stopped(self) -> bool:
        """Whether the current epoch is stopped."""
        return self.stop >= self.epoch


FIRST: Final = Word(1, 0)
Words = Mapping[str, Word]
NO_WORDS: Final[Words] = {}


class Member(NamedTuple):
    """A host's record. `beat`: number of its last exchange. `name`: for messages.

    `applied`: all stops up to this revision are in force there.
    `hold`: it goes on with its candidates when it loses contact, so its lease never ends. `candidates`: the releases
    that it serves, for those who stop a model. `protocol`: the highest version that it speaks. The fleet speaks the
    core's version; a release that knows a higher one may raise that once all members speak it.
    """

    beat: int
    applied: int
    hold: bool
    name: str
    candidates: tuple[str, ...] = ()
    protocol: int = 1


NO_MEMBERS: Final[Mapping[str, Member]] = {}
NO_NAMES: Final[Mapping[str, str]] = {}


class Note(NamedTuple):
    """Of a release's last stop or resume, for people: what was done, by whom, on which host, and why."""

    action: str
    by: str
    host: str
    reason: str


NO_NOTES: Final[Mapping[str, Note]] = {}


class Identity(NamedTuple):
    """One life of the store: `run_id` is new when the server has restarted, `fleet_key` when the data is new."""

    run_id: str
    fleet_key: str


class StoreState(NamedTuple):
    """All that the store holds for a fleet, but its releases' ramps and evidence.

    `run_id` is the server's, not data. `fleet_key`: random, empty until the first exchange. `revision` rises with every
    change of words or `settled`. `settled`: the run id for which a host has opened: until that is the present
    one, hosts still bring what they know from before. `protocol`, `lease_ns`: constants of the fleet.
    """

    run_id: str
    fleet_key: str = ""
    protocol: int = 0
    lease_ns: int = 0
    revision: int = 0
    settled: str = ""
    words: Words = NO_WORDS
    members: Mapping[str, Member] = NO_MEMBERS
    notes: Mapping[str, Note] = NO_NOTES

    @property
    def identity(self) -> Identity:
        """The store's present life."""
        return Identity(self.run_id, self.fleet_key)


class Exchange(NamedTuple):
    """What a host sends with each beat.

    `sent_ns`: on the host's clock, before it was sent; not for the store. `known`: the identity for which `applied` and
    `claims` were computed. `stops`: releases to be stopped in whichever epoch is current. `claims`: words that the
    store may not know. `holds`: name by incarnation of holding members that the store may not know. `drops`: records to
    remove, if their beat is still the one given. `settle`: the host is open. `new_key`: the fleet's key if it has none.
    """

    incarnation: str
    name: str
    beat: int
    sent_ns: int
    known: Identity | None
    applied: int
    hold: bool
    protocol: int
    lease_ns: int
    new_key: str
    leaving: bool = False
    candidates: tuple[str, ...] = ()
    settle: bool = False
    stops: tuple[str, ...] = ()
    claims: Words = NO_WORDS
    holds: Mapping[str, str] = NO_NAMES
    drops: tuple[tuple[str, int], ...] = ()


class Reply(NamedTuple):
    """The store after the exchange. `refused`: why nothing was written, empty if it was."""

    identity: Identity
    revision: int
    settled: bool
    words: Words
    members: Mapping[str, Member]
    refused: str = ""
