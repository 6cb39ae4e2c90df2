"""One host's part in the fleet: what it knows, whether it may answer from candidates, and what a reply changes."""

from collections.abc import Mapping
from itertools import islice
from typing import Final, NamedTuple

from gateway.control.fleet.store_state import (
    FIRST,
    NO_MEMBERS,
    NO_NAMES,
    NO_WORDS,
    Exchange,
    Identity,
    Member,
    Reply,
    Word,
    Words,
)  # fmt: skip
from gateway.control.fleet.timing import Timing

PROTOCOL: Final = 1
MOST_DROPS: Final = 64  # in one exchange, the others with the next: etcd takes 128 changes in one transaction
NEVER_NS: Final = -(2**62)
EMPTY_WAITS: Final = 10  # leases that a host without knowledge waits in a store without knowledge


class Observed(NamedTuple):
    """A member's beat, and since when it is the same, on the observer's clock."""

    beat: int
    since_ns: int


NO_STOPS: Final[Mapping[str, int]] = {}
NOBODY: Final[Mapping[str, Observed]] = {}


class HostState(NamedTuple):
    """All times are on this host's clock, one that counts suspension. `incarnation` is random, new with each process.

    `hold`: contact lost closes nothing. `fresh`: it has no knowledge of an earlier life. `leaving`: it does not open
    again. `beat`, `answered`: numbers of the last exchange sent, and of the latest one with a reply. `identity`,
    `revision`, `told`, `members`, `settled`: as in that reply. `refused`: why the store refused, or empty.
    `store_since_ns`: of the first reply of that life of the store. `steady_since_ns`: contact has not been lost since
    then. `contact_until_ns`: end of the lease, if `open`. `applied`: all stops up to this revision are in force here.
    `words`: the maxima that the host knows. `stops`: stops of whichever epoch is current in the store, by the `beat`
    before them, until the store has them. `holds`: name by incarnation of holding members; those that were kept from an
    earlier process were of the store's life `kept_of`.
    """

    incarnation: str
    name: str
    hold: bool = False
    fresh: bool = True
    open: bool = False
    leaving: bool = False
    beat: int = 0
    answered: int = 0
    identity: Identity | None = None
    revision: int = 0
    settled: bool = False
    refused: str = ""
    store_since_ns: int = NEVER_NS
    steady_since_ns: int = NEVER_NS
    contact_until_ns: int = NEVER_NS
    applied: int = 0
    words: Words = NO_WORDS
    told: Words = NO_WORDS
    stops: Mapping[str, int] = NO_STOPS
    members: Mapping[str, Member] = NO_MEMBERS
    observed: Mapping[str, Observed] = NOBODY
    holds: Mapping[str, str] = NO_NAMES
    kept_of: Identity | None = None


class Holders(NamedTuple):
    """The holding members that a host has last seen: name by incarnation, and in which life of the store."""

    names: Mapping[str, str] = NO_NAMES
    identity: Identity | None = None


NO_HOLDERS: Final = Holders()


def started(
    incarnation: str,
    name: str,
    words: Words,
    stops: tuple[str, ...] = (),
    holders: Holders = NO_HOLDERS,
    *,
    hold: bool,
) -> HostState:
    """A process's first state. `words`, `holders`: kept from its last life; `stops`: not of the fleet's epochs."""
    fresh = not words and not stops
    pending = dict.fromkeys(stops, 0)
    names, identity = holders
    return HostState(incarnation, name, hold, fresh, words=words, stops=pending, holds=names, kept_of=identity)


def holders(host: HostState) -> Holders:
    """What to keep of the holding members for the next process."""
    if not host.holds:
        return NO_HOLDERS
    return Holders(host.holds, host.identity or host.kept_of)


def may_send(host: HostState, release: str, now_ns: int) -> bool:
    """Whether a worker may send an answer of the release's candidate: what the switchboard's words say."""
    if not host.open or release in host.stops or (now_ns >= host.contact_until_ns and not host.hold):
        return False
    return not host.words.get(release, FIRST).stopped


def stop_here(host: HostState, release: str) -> HostState:
    """Stop the release here at once, and in the store with the next beat in the epoch that is current there."""
    return host._replace(stops={**host.stops, release: host.beat})


def trip(host: HostState, release: str, epoch: int) -> HostState:
    """Stop the release's `epoch`, the one that a breaker or guard saw: no effect on a later one."""
    word = host.words.get(release, FIRST)
    return host._replace(words={**host.words, release: Word(word.epoch, max(word.stop, epoch))})


def undo(host: HostState, release: str) -> HostState:
    """Withdraw a stop that the store does not have yet, since someone resumes the release."""
    return host._replace(stops={name: beat for name, beat in host.stops.items() if name != release})


def leave(host: HostState) -> HostState:
    """Close for good. Send the beat that removes the record only once the sends in progress have ended."""
    return host._replace(open=False, leaving=True)


def applied(host: HostState, identity: Identity, revision: int) -> HostState:
    """Note that the stops of a reply are on the switchboard and that the sends in progress then have ended."""
    if identity != host.identity or revision <= host.applied:
        return host
    return host._replace(applied=revision)


def begin_beat(host: HostState, now_ns: int, timing: Timing, new_key: str) -> tuple[HostState, Exchange]:
    """The next exchange. `now_ns` must be read before any of it is sent: the lease counts from there."""
    host = host._replace(beat=host.beat + 1)
    claims = {release: word for release, word in host.words.items() if host.told.get(release) != word}
    lost = host.holds.keys() - host.members.keys() if host.identity else ()  # before, nobody has said who has left
    request = Exchange(
        host.incarnation, host.name, host.beat, now_ns, host.identity, host.applied, host.hold, PROTOCOL,
        timing.lease_ns, new_key, leaving=host.leaving, settle=host.open, stops=tuple(host.stops), claims=claims,
        holds={name: host.holds[name] for name in lost}, drops=gone(host, now_ns, timing),
    )  # fmt: skip
    return host, request


def still(host: HostState, incarnation: str, now_ns: int, timing: Timing) -> bool:
    """Whether a member's beat stands still for so long that its lease has ended."""
    seen = host.observed.get(incarnation)
    return seen is not None and now_ns - seen.since_ns >= timing.longest_ns


def gone(host: HostState, now_ns: int, timing: Timing) -> tuple[tuple[str, int], ...]:
    """The records to remove, with the beat that stood still. That of a holding member stays: its lease never ends."""
    found = (
        (name, member.beat)
        for name, member in host.members.items()
        if not member.hold and name != host.incarnation and still(host, name, now_ns, timing)
    )
    return tuple(islice(found, MOST_DROPS))


def on_reply(host: HostState, now_ns: int, request: Exchange, reply: Reply, timing: Timing) -> HostState:
    """Take in a reply. The caller puts the stops onto the switchboard before the lease, then calls `applied`."""
    late = now_ns - request.sent_ns >= timing.lease_ns
    if request.beat <= host.answered or late:  # another store may have answered since: only what restricts counts
        return _with_stops_of(host, reply)
    if reply.refused:
        return host._replace(answered=request.beat, refused=reply.refused, open=False, steady_since_ns=NEVER_NS)
    if is_new(host, reply):
        host = _in_new_store(host, now_ns, reply)
    elif now_ns >= host.contact_until_ns:
        host = host._replace(open=host.open and host.hold, steady_since_ns=now_ns)
    host = host._replace(
        answered=request.beat,
        refused="",
        revision=reply.revision,
        settled=reply.settled,
        told=reply.words,
        words=_learned(host.words, reply.words),
        stops={name: beat for name, beat in host.stops.items() if name not in request.stops or beat >= request.beat},
        members=reply.members,
        observed=_observed(host.observed, reply.members, now_ns),
        holds=_holding(host, request, reply),
        contact_until_ns=max(host.contact_until_ns, lease_end(request, now_ns, timing)),
    )
    return host._replace(open=True, fresh=False) if not host.open and _opens(host, request, timing) else host


def lease_end(request: Exchange, now_ns: int, timing: Timing) -> int:
    """When the lease of an exchange ends: counted from before it was sent, since a stop may follow at once."""
    return request.sent_ns + timing.lease_ns


def is_new(host: HostState, reply: Reply) -> bool:
    """Whether the store has lost data since its last reply, or may have."""
    return reply.identity != host.identity or reply.revision < host.revision


def _in_new_store(host: HostState, now_ns: int, reply: Reply) -> HostState:
    return host._replace(
        identity=reply.identity,
        open=False,
        applied=0,
        store_since_ns=now_ns,
        steady_since_ns=now_ns,
        contact_until_ns=NEVER_NS,
        observed={},
    )


def _opens(host: HostState, request: Exchange, timing: Timing) -> bool:
    """Whether this exchange was begun a lease after contact: it saw what others have brought to the store."""
    steady_ns = request.sent_ns - host.steady_since_ns
    return not host.leaving and steady_ns >= contact_needed_ns(host, timing)


def contact_needed_ns(host: HostState, timing: Timing) -> int:
    """How long contact must last before the host opens."""
    return (EMPTY_WAITS if host.fresh and not host.settled else 1) * timing.longest_ns


def _learned(words: Words, told: Words) -> Words:
    """The maxima of both. A higher epoch of the store opens, since the store has all stops of the epochs before."""
    if words == told:
        return words
    learned = dict(words)
    for release, word in told.items():
        own = learned.get(release, FIRST)
        learned[release] = Word(max(own.epoch, word.epoch), max(own.stop, word.stop))
    return learned


def _with_stops_of(host: HostState, reply: Reply) -> HostState:
    stops = {release: Word(FIRST.epoch, word.stop) for release, word in reply.words.items()}
    return host._replace(words=_learned(host.words, stops))


def _observed(before: Mapping[str, Observed], members: Mapping[str, Member], now_ns: int) -> Mapping[str, Observed]:
    observed = {}
    for name, member in members.items():
        seen = before.get(name)
        observed[name] = seen if seen is not None and seen.beat == member.beat else Observed(member.beat, now_ns)
    return observed


def _holding(host: HostState, request: Exchange, reply: Reply) -> Mapping[str, str]:
    """The holding members; one that has left the same store is none any more."""
    same = (request.known or host.kept_of) == reply.identity
    found = {name: member.name for name, member in reply.members.items() if member.hold}
    return found if same else found | dict(host.holds)
