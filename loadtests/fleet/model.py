"""A fleet of few hosts and one release in whole ticks: every step that can come next, for the exhaustive check.

A lease lasts two ticks, clocks agree and sends take no time, so the protocol has no slack: a stop may return in the
very tick in which a lease ends. An exchange is done at once, or lost, or delayed for any time at any point of its way;
how many are delayed in one history is bounded, as is every kind of event.

Source: Emmi, Qadeer and Rakamaric, Delay-bounded scheduling (2011).
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from gateway.control.fleet import host as host_step
from gateway.control.fleet import scripts, stop_call
from gateway.control.fleet.host import HostState
from gateway.control.fleet.stop_call import StopCall
from gateway.control.fleet.store_state import FIRST, Exchange, Reply, StoreState, Words
from gateway.control.fleet.timing import Timing

RELEASE: Final = "m/2/ab"
LEASE: Final = 2
TIMING: Final = Timing(lease_ns=LEASE, margin_ns=0, rate_error_ppm=0)
OLD: Final[Words] = {RELEASE: FIRST}  # a state folder as it was before any stop
EMPTY_WAITS: Final = 2  # leases, instead of 10: the depth of the check depends on it


ANY: Final = 99  # no bound


class Way(NamedTuple):
    """An exchange under way. `reply`: None until the store has run it.

    `executed`: how many resumes were before that; `life`: the store's then.
    """

    request: Exchange
    words: Words
    reply: Reply | None = None
    executed: int = 0
    life: int = 0


class Slot(NamedTuple):
    """A host. `starts`: how many processes it has had. `sent`: whether it has begun an exchange in this tick."""

    host: HostState | None
    starts: int
    hold: bool = False
    way: Way | None = None
    sent: bool = False
    call: StopCall | None = None
    executed: int = 0
    life: int = 0


class Budget(NamedTuple):
    """How often each may still happen."""

    stops: int = 0
    resumes: int = 0
    joins: int = 0
    leaves: int = 0
    restarts: int = 0
    flushes: int = 0
    delays: int = 0  # exchanges that take time, and so overlap with others
    silences: int = ANY  # exchanges that are lost, or not begun within a tick
    strays: int = 0  # exchanges that the host has given up but the store still runs


class Facts(NamedTuple):
    """What the checker knows. `resumes`: how many so far. `born`: which of them began an epoch.

    `confirmed`: of each stop its epoch, how many resumes were before it, and the life of the store.
    """

    resumes: int = 0
    born: tuple[tuple[int, int], ...] = ()
    confirmed: tuple[tuple[int, int, int], ...] = ()
    life: int = 0
    first: int | None = None  # tick of the life's first exchange
    carried: int = 0


class State(NamedTuple):
    """`stray`: an exchange that its host has given up."""

    now: int
    store: StoreState
    slots: tuple[Slot, ...]
    budget: Budget
    facts: Facts = Facts()
    stray: Exchange | None = None


def opened(hosts: int, absent: int, budget: Budget, *, hold: bool = False) -> State:
    """A settled fleet: `hosts` open under a fresh lease, `absent` empty slots. `hold`: the last host holds."""
    store = StoreState("r", "k0", host_step.PROTOCOL, LEASE, 1, "r", OLD)
    states = [
        host_step.started(f"{name}1", name, OLD, hold=hold and index == hosts - 1) for index, name in names(hosts)
    ]
    now = 8 * LEASE
    for at in range(now + 1):
        for index, state in enumerate(states):
            state, request = host_step.begin_beat(state, at, TIMING, "k0")
            store, reply = scripts.exchange(store, request)
            state = host_step.on_reply(state, at, request, reply, TIMING)
            states[index] = host_step.applied(state, reply.identity, reply.revision)
    assert all(state.open for state in states)
    slots = [Slot(state, 1, state.hold) for state in states] + [Slot(None, 0)] * absent
    return State(now, store, tuple(slots), budget)


def names(hosts: int) -> Iterator[tuple[int, str]]:
    """Index and name of each host."""
    return enumerate("abcd"[:hosts])


def steps(state: State) -> Iterator[tuple[str, State]]:
    """All that can happen next, with what it is called."""
    yield from ticks(state)
    for index, slot in enumerate(state.slots):
        name = "abcd"[index]
        if slot.way is not None:
            yield from arrivals(state, index, slot, slot.way, name)
        elif slot.host is not None and (not slot.sent or urgent(slot.host)):
            yield from beats(state, index, slot, slot.host, name)
        yield from commands(state, index, slot, name)
    if state.stray is not None:
        store, _ = scripts.exchange(state.store, with_key(state.stray, state.facts))
        yield "execute stray", state._replace(store=store, stray=None)
    if state.budget.flushes:
        facts = state.facts._replace(life=state.facts.life + 1, first=None, carried=0)
        budget = less(state.budget, "flushes")
        yield "flush", state._replace(store=StoreState("r"), facts=facts, budget=budget)


def ticks(state: State) -> Iterator[tuple[str, State]]:
    """The clocks go on. A host that has not begun an exchange in this tick has lost one."""
    silent = sum(slot.host is not None and slot.way is None and not slot.sent for slot in state.slots)
    if silent <= state.budget.silences:
        slots = tuple(slot._replace(sent=False) for slot in state.slots)
        budget = state.budget if state.budget.silences == ANY else less(state.budget, "silences", silent)
        yield "tick", state._replace(now=state.now + 1, slots=slots, budget=budget)


def less(budget: Budget, name: str, spent: int = 1) -> Budget:
    """The budget after something has happened."""
    return budget._replace(**{name: getattr(budget, name) - spent})


def beats(state: State, index: int, slot: Slot, host: HostState, name: str) -> Iterator[tuple[str, State]]:
    """An exchange: done at once, its reply lost, or delayed either way. A lost request changes nothing."""
    begun = sent(state, index, slot, host)
    ran = executed(begun, index)
    yield f"beat {name}", delivered(ran, index)
    if state.budget.silences:
        budget = state.budget if state.budget.silences == ANY else less(state.budget, "silences")
        yield f"beat {name}, reply lost", lost(ran, index)._replace(budget=budget)
    if state.budget.delays:
        budget = less(state.budget, "delays")
        yield f"send {name}", begun._replace(budget=budget)
        yield f"send {name}, executed", ran._replace(budget=budget)


def arrivals(state: State, index: int, slot: Slot, way: Way, name: str) -> Iterator[tuple[str, State]]:
    """What can become of a delayed exchange."""
    yield f"lose {name}", lost(state, index)
    if way.reply is not None:
        yield f"deliver {name}", delivered(state, index)
        return
    ran = executed(state, index)
    yield f"execute {name}", ran
    yield f"execute {name}, deliver", delivered(ran, index)
    if state.budget.strays and state.stray is None:
        budget = less(state.budget, "strays")
        yield f"give up {name}", lost(state._replace(stray=way.request, budget=budget), index)


def commands(state: State, index: int, slot: Slot, name: str) -> Iterator[tuple[str, State]]:
    """What people may do at a host."""
    budget, host = state.budget, slot.host
    if host is None:
        if budget.joins:
            left = less(budget, "joins")
            yield f"join {name}", with_slot(state._replace(budget=left), index, new_process(slot, name, {}))
        return
    if budget.stops and slot.call is None and not host.leaving:
        stopping, call = stop_call.begin_stop(host, RELEASE)
        left = less(budget, "stops")
        stopped = slot._replace(host=stopping, call=call, executed=0, life=0)
        yield f"stop {name}", with_slot(state._replace(budget=left), index, stopped)
    if budget.resumes and host.identity is not None and host.words.get(RELEASE, FIRST).stopped:
        yield f"resume {name}", resumed(state, index, slot, host)
    if budget.leaves and not host.leaving:
        left = less(budget, "leaves")
        gone = slot._replace(host=host_step.leave(host), sent=False)
        yield f"leave {name}", with_slot(state._replace(budget=left), index, gone)
    if budget.restarts:
        left = less(budget, "restarts")
        yield f"restart {name}", with_slot(state._replace(budget=left), index, new_process(slot, name, OLD))


def urgent(host: HostState) -> bool:
    """Whether the host sends out of turn: it has a stop, or claims, that the store lacks."""
    return bool(host.stops) or any(host.told.get(name) != word for name, word in host.words.items())


def new_process(slot: Slot, name: str, words: Words) -> Slot:
    """The slot with a new process that has read `words` from its folder."""
    host = host_step.started(f"{name}{slot.starts + 1}", name, words, hold=slot.hold)
    return Slot(host, slot.starts + 1, slot.hold)


def with_slot(state: State, index: int, slot: Slot) -> State:
    """The state with one slot replaced."""
    return state._replace(slots=(*state.slots[:index], slot, *state.slots[index + 1 :]))


def sent(state: State, index: int, slot: Slot, host: HostState) -> State:
    """A host begins an exchange; one that leaves ends with it."""
    host, request = host_step.begin_beat(host, state.now, TIMING, "")
    after = slot._replace(host=None if host.leaving else host, way=Way(request, host.words), sent=True)
    return with_slot(state, index, after)


def with_key(request: Exchange, facts: Facts) -> Exchange:
    """The request with a fleet's key that no life of the store has had: it is random in truth."""
    return request._replace(new_key=f"k{facts.life}")


def executed(state: State, index: int) -> State:
    """The store runs a host's exchange."""
    slot, facts = state.slots[index], state.facts
    way = slot.way
    assert way is not None
    told = way.request.known == state.store.identity
    store, reply = scripts.exchange(state.store, with_key(way.request, facts))
    first = state.now if facts.first is None else facts.first
    carried = facts.carried
    if told and state.now < first + LEASE and RELEASE in way.words:
        carried = max(carried, way.words[RELEASE].stop)
    facts = facts._replace(first=first, carried=carried)
    ran = None if slot.host is None else way._replace(reply=reply, executed=facts.resumes, life=facts.life)
    return with_slot(state._replace(store=store, facts=facts), index, slot._replace(way=ran))


def lost(state: State, index: int) -> State:
    """A host's exchange is lost on its way."""
    return with_slot(state, index, state.slots[index]._replace(way=None))


def delivered(state: State, index: int) -> State:
    """A reply arrives; its stops are in force at once."""
    slot = state.slots[index]
    way, host, call, ran, life = slot.way, slot.host, slot.call, slot.executed, slot.life
    if way is None or way.reply is None or host is None:
        return lost(state, index)
    host = host_step.on_reply(host, state.now, way.request, way.reply, TIMING)
    if call is not None:
        followed = stop_call.follow(call, host, state.now, way.request, way.reply)
        if followed.epoch and not call.epoch:
            ran, life = way.executed, way.life
        call = followed
    host = host_step.applied(host, way.reply.identity, way.reply.revision)
    return with_slot(state, index, slot._replace(host=host, way=None, call=call, executed=ran, life=life))


def resumed(state: State, index: int, slot: Slot, host: HostState) -> State:
    """A resume runs at once; the host learns of it as all do."""
    state = with_slot(state, index, slot._replace(host=host_step.undo(host, RELEASE), call=None))
    assert host.identity is not None
    store, refused = scripts.resume(state.store, host.identity, RELEASE, host.words[RELEASE].epoch)
    budget, facts = less(state.budget, "resumes"), state.facts
    if not refused:
        born = dict(facts.born) | {store.words[RELEASE].epoch: facts.resumes + 1}
        facts = facts._replace(resumes=facts.resumes + 1, born=tuple(sorted(born.items())))
    return state._replace(store=store, budget=budget, facts=facts)
