"""A stop that a person, breaker or guard waits for: when it may return, and what it may say then."""

from enum import Enum
from typing import NamedTuple

from gateway.control.fleet.host import NEVER_NS, HostState, still, stop_here, trip
from gateway.control.fleet.store_state import FIRST, Exchange, Reply
from gateway.control.fleet.timing import Timing


class StopOutcome(Enum):
    """What is known of a stop. Only `CONFIRMED` promises that no host answers from the candidate any more."""

    RESUMED = "resumed meanwhile"
    HERE_ONLY = "here only, unconfirmed"  # the store has not answered
    WAITING = "waiting"
    UNCONFIRMED = "unconfirmed on holding members"  # they may go on without a lease
    CONFIRMED = "confirmed"


class StopCall(NamedTuple):
    """`beat`: the host's last one before the call. `epoch`: the one stopped, 0 until the store has said which it is.

    `replied_ns`: when the store had the stop, on the caller's clock. `revision`: the members that have applied it have
    applied the stop. `waiting`: the members that had not.
    """

    release: str
    beat: int
    epoch: int = 0
    replied_ns: int = NEVER_NS
    revision: int = 0
    waiting: frozenset[str] = frozenset()


def begin_stop(host: HostState, release: str, epoch: int = 0) -> tuple[HostState, StopCall]:
    """The release counts as stopped here from now on. `epoch` 0: whichever is current in the store. The caller puts it
    into force here and sends a beat without delay.
    """
    call = StopCall(release, host.beat, epoch)
    return (trip(host, release, epoch) if epoch else stop_here(host, release)), call


def follow(call: StopCall, host: HostState, now_ns: int, request: Exchange, reply: Reply) -> StopCall:
    """Take in a reply, after the host has. In another life of the store the wait begins anew."""
    if reply.refused or request.beat != host.answered or request.beat <= call.beat:
        return call  # an exchange that was too late, or begun before the call
    if not call.epoch:
        if call.release not in request.stops:
            return call
        call = call._replace(epoch=stopped_epoch(call, host, reply))
    if call.replied_ns < host.store_since_ns:
        if reply.words.get(call.release, FIRST).stop < call.epoch:
            return call
        call = call._replace(replied_ns=now_ns, revision=reply.revision, waiting=frozenset(listed(host, reply)))
    left = frozenset(name for name in awaited(call, reply) if not has_applied(call, reply, name))
    return call._replace(waiting=left)


def awaited(call: StopCall, reply: Reply) -> frozenset[str]:
    """The members that the stop waits for, and holding ones whose lost records another host has brought since."""
    return call.waiting.union(name for name, member in reply.members.items() if member.hold)


def stopped_epoch(call: StopCall, host: HostState, reply: Reply) -> int:
    """The epoch that the store has stopped."""
    return reply.words[call.release].stop


def listed(host: HostState, reply: Reply) -> list[str]:
    """The members to wait for: those in the reply that carries the stop, not those that were read before it."""
    return list(reply.members)


def has_applied(call: StopCall, reply: Reply, name: str) -> bool:
    """Whether the member has applied the stop, or is gone: its record goes once it is closed."""
    return name not in reply.members or reply.members[name].applied >= call.revision


def outcome(call: StopCall, host: HostState, now_ns: int, timing: Timing) -> StopOutcome:
    """What the call may say at `now_ns`; `host` must be as after the call's last reply."""
    if call.replied_ns == NEVER_NS:
        return StopOutcome.HERE_ONLY
    if host.applied < call.revision:
        return StopOutcome.WAITING  # for the sends in progress on this host
    left = remaining(call, host, now_ns, timing)
    if not left and list_is_complete(host, now_ns, timing):
        return StopOutcome.CONFIRMED
    if now_ns - call.replied_ns < timing.longest_ns:
        return StopOutcome.WAITING
    return StopOutcome.UNCONFIRMED if any(never_closes(host, name) for name in left) else StopOutcome.CONFIRMED


def remaining(call: StopCall, host: HostState, now_ns: int, timing: Timing) -> list[str]:
    """The members that may still answer from the candidate."""
    others = call.waiting - {host.incarnation}
    return [name for name in others if never_closes(host, name) or not still(host, name, now_ns, timing)]


def never_closes(host: HostState, name: str) -> bool:
    """Whether a member goes on without a lease, so that time alone proves nothing."""
    member = host.members.get(name)
    return member is not None and member.hold


def list_is_complete(host: HostState, now_ns: int, timing: Timing) -> bool:
    """Whether every lease in force was written to this life of the store: one of an earlier life is in no list."""
    return now_ns - host.store_since_ns >= timing.longest_ns
