"""Mistakes that the simulation and the exhaustive check must find: each replaces one function of the protocol."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from random import Random
from typing import Any, Final
from unittest import mock

from gateway.control.fleet import host, scripts, stop_call
from gateway.control.fleet.evidence import Digest
from gateway.control.fleet.host import HostState
from gateway.control.fleet.stop_call import StopCall
from gateway.control.fleet.store_state import FIRST, Exchange, Reply, StoreState, Word
from gateway.control.fleet.timing import Timing
from loadtests.fleet import ramps
from loadtests.fleet.checker import Violation
from loadtests.fleet.node import Node
from loadtests.fleet.simulation import run_seed
from loadtests.fleet.world import World

Replacement = tuple[Any, str, Callable[..., Any]]


def lease_from_the_reply(request: Exchange, now_ns: int, timing: Timing) -> int:
    """The lease counts from after the exchange."""
    return now_ns + timing.lease_ns


def epoch_of_the_caller(words: Mapping[str, Word], request: Exchange) -> Mapping[str, Word]:
    """A person's stop stops the epoch that the caller knows, which may have ended."""
    claims = {release: scripts.stop_current(request.claims.get(release, FIRST)) for release in request.stops}
    return scripts_merged(words, request._replace(stops=(), claims={**request.claims, **claims}))


def claimed_epoch_opens(word: Word, claimed: Word) -> Word:
    """An epoch that a host brings from an older life of the store ends a stop of this one."""
    return Word(max(word.epoch, claimed.epoch), max(word.stop, claimed.stop))


def list_read_before(host: HostState, reply: Reply) -> list[str]:
    """The stop waits for the members as they were last read, not as they are when the store takes the stop."""
    return [name for name in reply.members if name in CACHED.get(host.incarnation, reply.members)]


def list_of_a_new_store(host: HostState, now_ns: int, timing: Timing) -> bool:
    """The list is taken for complete in a store that has just lost it."""
    return True


def holding_member_closes(host: HostState, name: str) -> bool:
    """A member that holds is presumed closed after a lease."""
    return False


def only_listed_at_first(call: StopCall, reply: Reply) -> frozenset[str]:
    """A stop does not wait for a holding member whose record was lost with the store's data and brought later."""
    return call.waiting


def revision_of_any_life(store: StoreState, request: Exchange) -> int:
    """A revision applied in an older life of the store counts in this one."""
    return request.applied


def folder_incarnation(node: Node) -> str:
    """The incarnation is a name kept in the state folder: copies of the folder share it."""
    node.starts += 1
    return "folder"


def all_sent(node: Node, digest: Digest | None) -> int:
    """The entries are dropped once the store has them, before a digest there holds them."""
    return node.entries


def unfenced(write: ramps.Write, stored: Digest | None) -> bool:
    """The leader writes what it has decided, whoever leads by now."""
    return True


def step_begun_long_ago(now_ns: int, state: ramps.State) -> int:
    """A new leader takes the step's interval for over."""
    return now_ns - ramps.INTERVAL_NS


def opens_at_once(host: HostState, request: Exchange, timing: Timing) -> bool:
    """A host opens with its first reply."""
    return not host.leaving


CACHED: Final[dict[str, list[str]]] = {}
scripts_merged: Final = scripts.merged
host_on_reply: Final = host.on_reply
world_init: Final = World.__init__


def remember_list(state: HostState, now_ns: int, request: Exchange, reply: Reply, timing: Timing) -> HostState:
    """Keep the members as they were before this reply."""
    CACHED[state.incarnation] = list(state.members)
    return host_on_reply(state, now_ns, request, reply, timing)


def expire_records(world: World) -> None:
    """The store's wall clock is set: all records expire at once, though their hosts' leases have not ended."""
    world.store = world.store._replace(members={})


def start_with_ttl(world: World, random: Random, nodes: list[Node], loss: float, slow: float) -> None:
    """Make a world whose store drops records by its own clock."""
    world_init(world, random, nodes, loss, slow)
    world.store_clock_steps = expire_records


PLANTED: Final[dict[str, tuple[Replacement, ...]]] = {
    "lease counted from after the exchange": ((host, "lease_end", lease_from_the_reply),),
    "stale epoch": ((scripts, "merged", epoch_of_the_caller),),
    "TTL trusted": ((World, "__init__", start_with_ttl),),
    "cached member list": ((stop_call, "listed", list_read_before), (host, "on_reply", remember_list)),
    "trim before digest": ((ramps, "covered", all_sent),),
    "shared incarnation": ((Node, "incarnation", folder_incarnation),),
    "hold presumed closed": ((stop_call, "never_closes", holding_member_closes),),
    "holding member brought later": ((stop_call, "awaited", only_listed_at_first),),
    "list of a new store trusted": ((stop_call, "list_is_complete", list_of_a_new_store),),
    "revision of an older life counts": ((scripts, "applied_here", revision_of_any_life),),
    "claimed epoch opens": ((scripts, "merge", claimed_epoch_opens),),
    "leader not fenced": ((ramps, "fenced", unfenced),),
    "ramp's clock lost": ((ramps, "step_began", step_begun_long_ago),),
    "opens at once": ((host, "_opens", opens_at_once),),
}


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Plant the mistake for as long as the context lasts."""
    CACHED.clear()
    with ExitStack() as stack:
        for owner, attribute, replacement in PLANTED[name]:
            stack.enter_context(mock.patch.object(owner, attribute, replacement))
        yield


def first_found(name: str, runs: int) -> tuple[int | None, str]:
    """The first seed whose run shows the planted mistake, and as what; None if none of `runs` does."""
    with planted(name):
        for seed in range(runs):
            try:
                run_seed(seed)
            except Violation as violation:
                return seed, str(violation)
    return None, ""
