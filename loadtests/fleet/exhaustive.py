"""Every history of a small fleet, breadth first: states that differ only in what cannot matter any more are one."""

import gc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from unittest import mock

from gateway.control.fleet import host as host_step
from gateway.control.fleet.host import NEVER_NS, HostState, Observed
from gateway.control.fleet.stop_call import StopCall
from gateway.control.fleet.store_state import Exchange, Member, Words
from loadtests.fleet.model import EMPTY_WAITS, LEASE, Slot, State, Way, steps
from loadtests.fleet.promise import Broken, checked

STEADY = EMPTY_WAITS * LEASE + LEASE
Beats = Mapping[str, int]  # by incarnation, in the store


class Found(NamedTuple):
    """`depth`: steps of the longest shortest history. `complete`: whether no state was left unexplored.

    `richest`: a history with the most kinds of events in it. `broken`: the shortest history that breaks the promise.
    """

    states: int
    transitions: int
    depth: int
    complete: bool
    richest: tuple[str, ...]
    broken: tuple[str, ...] = ()
    why: str = ""


def explore(first: State, most: int, progress: Callable[[int], None] = lambda states: None) -> Found:
    """Explore all states that can be reached, `most` at the most."""
    collects = gc.isenabled()
    gc.disable()  # nothing here is a cycle, and to look for one takes half the time
    try:
        with mock.patch.object(host_step, "EMPTY_WAITS", EMPTY_WAITS):
            return _explore(first, most, progress)
    finally:
        if collects:
            gc.enable()


def _explore(first: State, most: int, progress: Callable[[int], None]) -> Found:
    came: dict[int, tuple[int, str]] = {hash(key_of(first)): (0, "")}
    level, depth, transitions, richest, kinds = [(hash(key_of(first)), first)], 0, 0, 0, 0
    while level and len(came) < most:
        depth += 1
        after: list[tuple[int, State]] = []
        for origin, state in level:
            for name, reached in steps(state):
                transitions += 1
                try:
                    reached = checked(reached)
                except Broken as broken:
                    history = (*_history(came, origin), name)
                    return Found(len(came), transitions, depth, False, (), history, str(broken))
                key = hash(key_of(reached))
                if key not in came:
                    came[key] = origin, name
                    after.append((key, reached))
                    if (spent := _spent(first, reached)) > kinds:
                        kinds, richest = spent, key
        level = after
        progress(len(came))
    return Found(len(came), transitions, depth, not level, _history(came, richest) if richest else ())


def _spent(first: State, state: State) -> int:
    """How many kinds of events the history has used up entirely, and 1 more if a stop was confirmed."""
    return sum(left == 0 < had for had, left in zip(first.budget, state.budget, strict=True)) + bool(
        state.facts.confirmed
    )


def _history(came: dict[int, tuple[int, str]], key: int) -> tuple[str, ...]:
    """The steps that lead to a state."""
    back = []
    while came[key][1]:
        key, name = came[key]
        back.append(name)
    return tuple(reversed(back))


def key_of(state: State) -> tuple[Any, ...]:
    """What of a state can matter: times relative to now as far as they are compared, and which beats are the same."""
    now, store, facts = state.now, state.store, state.facts
    beats = {name: member.beat for name, member in store.members.items()}
    first = None if facts.first is None else min(now - facts.first, LEASE)
    return (
        store.fleet_key, store.settled, store.revision, _words(store.words), _members(store.members), state.budget,
        facts.resumes, facts.born, facts.confirmed, facts.life, first, facts.carried,
        state.stray and _request(state.stray, now, beats),
        tuple(
            (
                slot.starts, slot.sent, slot.executed, slot.life,
                slot.host and _host(slot.host, slot, now, beats),
                slot.way and _way(slot, slot.way, now, beats),
                slot.call and _call(slot.call, slot.host, slot.way, now),
            )
            for slot in state.slots
        ),
    )  # fmt: skip


def _host(host: HostState, slot: Slot, now: int, beats: Beats) -> tuple[Any, ...]:
    """Fields that can matter: `beat` and `answered` only count up."""
    contact = max(host.contact_until_ns - now, 0)
    return (
        host.incarnation, host.fresh, host.open, host.leaving, host.identity, host.revision, host.settled, contact,
        _age(now, host.store_since_ns, LEASE),
        -1 if host.open or not contact else _age(now, host.steady_since_ns, STEADY if host.fresh else 2 * LEASE),
        host.applied, _words(host.words), _words(host.told), frozenset(host.stops), frozenset(host.holds),
        frozenset(
            (name, seen.beat == beats.get(name), _still(slot, name, seen, now, beats))
            for name, seen in host.observed.items()
            if name != host.incarnation
        ),
    )  # fmt: skip


def _still(slot: Slot, name: str, seen: Observed, now: int, beats: Beats) -> int:
    """For how long a beat stands still, if anything looks at that before the next reply changes it."""
    matters = slot.call is not None or slot.way is not None or seen.beat == beats.get(name)
    return min(now - seen.since_ns, LEASE) if matters else -1


def _way(slot: Slot, way: Way, now: int, beats: Beats) -> tuple[Any, ...]:
    reply, request = way.reply, _request(way.request, now, beats)
    if reply is None:
        return request, way.executed, way.life
    observed = {} if slot.host is None else slot.host.observed
    same = frozenset(
        (name, member.beat == beats.get(name), name in observed and observed[name].beat == member.beat)
        for name, member in reply.members.items()
    )
    return (
        request,
        way.executed,
        way.life,
        reply.identity,
        reply.revision,
        reply.settled,
        _words(reply.words),
        same,
        (_members(reply.members)),
    )


def _request(request: Exchange, now: int, beats: Beats) -> tuple[Any, ...]:
    return (
        request.incarnation, request.beat > beats.get(request.incarnation, 0), min(now - request.sent_ns, STEADY),
        request.known, request.applied, request.leaving, request.settle, request.stops, _words(request.claims),
        frozenset(request.holds), frozenset((name, beat == beats.get(name)) for name, beat in request.drops),
    )  # fmt: skip


def _call(call: StopCall, host: HostState | None, way: Way | None, now: int) -> tuple[Any, ...]:
    """`host` None: it has left, and the call with it."""
    if host is None:
        return ()
    begun_anew = call.replied_ns < host.store_since_ns
    carried = way is not None and way.request.beat > call.beat
    return call.epoch, _age(now, call.replied_ns, LEASE), begun_anew, call.revision, call.waiting, carried


def _age(now: int, since: int, most: int) -> int:
    return -1 if since == NEVER_NS else min(now - since, most)


def _words(words: Words) -> tuple[Any, ...]:
    return tuple(words.items())


def _members(members: Mapping[str, Member]) -> frozenset[tuple[Any, ...]]:
    return frozenset((name, member.applied) for name, member in members.items())
