"""One host's state: when its lease ends, when it opens, and what a new store changes."""

import pytest

from gateway.control.fleet.host import (
    NO_HOLDERS,
    HostState,
    applied,
    begin_beat,
    gone,
    holders,
    leave,
    may_send,
    on_reply,
    started,
    still,
    stop_here,
    trip,
)  # fmt: skip
from gateway.control.fleet.scripts import exchange
from gateway.control.fleet.store_state import FIRST, Exchange, Reply, StoreState, Word
from gateway.control.fleet.timing import Timing

TIMING = Timing(lease_ns=1000, margin_ns=9)
LEASE, LONGEST = 1000, 1010
NAME = "digits/2/ab"
OLD = {NAME: FIRST}


def test_longest_wait_counts_rate_error_upwards_and_margin() -> None:
    assert Timing(lease_ns=1500, margin_ns=3).longest_ns == 1500 + 2 + 3


def talk(host: HostState, store: StoreState, now_ns: int, took_ns: int = 0) -> tuple[HostState, StoreState]:
    """One exchange, begun at `now_ns`, whose reply arrives `took_ns` later."""
    host, request = begin_beat(host, now_ns, TIMING, f"key {host.incarnation} {host.beat}")
    store, reply = exchange(store, request)
    return on_reply(host, now_ns + took_ns, request, reply, TIMING), store


def opened(hold: bool = False, name: str = "a") -> tuple[HostState, StoreState, int]:
    """A host that has just opened, its store, and the time at which its last exchange was begun."""
    host, store, now_ns = started(name, name, OLD, hold=hold), StoreState("run"), 0
    while not host.open:
        now_ns += 200
        host, store = talk(host, store, now_ns)
    host, store = talk(host, store, now_ns)  # settles the store
    return host, store, now_ns


def test_a_host_opens_after_a_lease_of_contact() -> None:
    host, _, now_ns = opened()
    assert now_ns == 200 + 1200  # the first beat that was begun at least LONGEST after the first reply
    assert may_send(host, NAME, now_ns)


def test_lease_counts_from_before_the_exchange_was_sent() -> None:
    host, store, now_ns = opened()
    host, _ = talk(host, store, now_ns + 100, took_ns=500)
    assert may_send(host, NAME, now_ns + 100 + LEASE - 1)
    assert not may_send(host, NAME, now_ns + 100 + LEASE)


def test_a_lapse_closes_and_contact_must_be_steady_again() -> None:
    host, store, now_ns = opened()
    host, store = talk(host, store, now_ns + LEASE)
    assert not host.open
    for at_ns in range(now_ns + LEASE + 200, now_ns + LEASE + LONGEST, 200):
        host, store = talk(host, store, at_ns)
        assert not host.open
    host, store = talk(host, store, now_ns + LEASE + LONGEST)
    assert host.open


def test_a_holding_host_goes_on_without_contact() -> None:
    host, _, now_ns = opened(hold=True)
    assert may_send(host, NAME, now_ns + 100 * LEASE)


@pytest.mark.parametrize("store", [StoreState("another run"), StoreState("run")], ids=["restarted", "flushed"])
@pytest.mark.parametrize("hold", [False, True])
def test_a_new_store_closes_and_is_told_all(store: StoreState, hold: bool) -> None:
    host, _, now_ns = opened(hold=hold)
    host = trip(host, NAME, 1)
    host, store = talk(host, store, now_ns + 1)
    assert not host.open and host.applied == 0
    host, store = talk(host, store, now_ns + 2)
    assert store.words == {NAME: Word(1, 1)}


def test_a_lower_revision_is_a_new_store() -> None:
    host, store, now_ns = opened()
    host, _ = talk(host, store._replace(revision=store.revision - 1), now_ns + 1)
    assert not host.open


def test_a_reply_later_than_a_lease_only_stops() -> None:
    host, store, now_ns = opened()
    store = store._replace(words={NAME: Word(4, 3)})
    host, _ = talk(host, store, now_ns, took_ns=LEASE)
    assert host.words == {NAME: Word(1, 3)}
    assert host.contact_until_ns == now_ns + LEASE


def test_a_reply_older_than_the_last_one_only_stops() -> None:
    host, store, now_ns = opened()
    host, early = begin_beat(host, now_ns, TIMING, "")
    _, reply = exchange(store._replace(words={NAME: Word(4, 1)}), early)
    host, store = talk(host, store, now_ns + 1)
    late = on_reply(host, now_ns + 2, early, reply, TIMING)
    assert late == host._replace(words={NAME: Word(1, 1)})


def test_a_host_without_knowledge_waits_ten_leases_in_a_store_without_knowledge() -> None:
    host, store, now_ns = started("a", "a", {}, hold=False), StoreState("run"), 0
    while not host.open:
        now_ns += 500
        host, store = talk(host, store, now_ns)
    assert 10 * LONGEST <= now_ns - 500 < 10 * LONGEST + 500


def test_a_host_without_knowledge_waits_one_lease_in_a_settled_store() -> None:
    _, store, now_ns = opened()
    host, begun_ns = started("b", "b", {}, hold=False), now_ns
    while not host.open:
        host, store = talk(host, store, now_ns := now_ns + 500)
    assert now_ns - begun_ns - 500 == 1500


def test_a_stop_of_ones_own_holds_at_once_and_is_asserted_in_the_stores_epoch() -> None:
    host, store, now_ns = opened()
    host = stop_here(host, NAME)
    assert not may_send(host, NAME, now_ns)
    host, store = talk(host, store._replace(words={NAME: Word(5, 2)}), now_ns + 1)
    assert store.words == {NAME: Word(5, 5)} and host.stops == {} and not may_send(host, NAME, now_ns + 1)


def test_a_stop_that_was_asked_for_after_the_request_is_sent_again() -> None:
    host, store, now_ns = opened()
    host, request = begin_beat(stop_here(host, NAME), now_ns, TIMING, "")
    store, reply = exchange(store, request)
    host = on_reply(stop_here(host, NAME), now_ns, request, reply, TIMING)
    assert list(host.stops) == [NAME]


def test_a_breakers_stop_does_not_touch_a_later_epoch() -> None:
    host, store, now_ns = opened()
    host, store = talk(trip(host, NAME, 1), store._replace(words={NAME: Word(2, 1)}), now_ns + 1)
    assert store.words == {NAME: Word(2, 1)} and may_send(host, NAME, now_ns + 1)


def test_a_host_that_leaves_is_closed_and_its_record_goes() -> None:
    host, store, now_ns = opened()
    host = leave(host)
    assert not may_send(host, NAME, now_ns)
    host, store = talk(host, store, now_ns + 1)
    assert store.members == {} and not host.open


def test_a_record_is_removed_after_a_lease_unless_it_holds_or_beats() -> None:
    for hold in (False, True):
        _, store, now_ns = opened(name="b", hold=hold)
        host = started("a", "a", OLD, hold=False)
        host, store = talk(host, store, now_ns)
        assert not still(host, "b", now_ns + LONGEST - 1, TIMING)
        assert still(host, "b", now_ns + LONGEST, TIMING)
        assert gone(host, now_ns + LONGEST, TIMING) == (() if hold else (("b", store.members["b"].beat),))


def test_members_that_hold_are_known_to_the_next_process_unless_they_have_left() -> None:
    a, store, now_ns = opened(name="a")
    b, store = talk(started("b", "b", OLD, hold=True), store, now_ns)
    a, store = talk(a, store, now_ns)
    kept = holders(a)
    assert kept == (({"b": "b"}), store.identity)

    def restarted(store: StoreState) -> StoreState:
        """The store after two exchanges of the next process."""
        again = started("a2", "a", OLD, (), kept, hold=False)
        _, request = begin_beat(again, now_ns, TIMING, "key")
        assert not request.holds, "the same store may say that it has left"
        for _ in range(2):
            again, store = talk(again, store, now_ns)
        return store

    assert restarted(StoreState("new run")).members["b"].hold, "a store that has lost its data is told"
    _, store = talk(leave(b), store, now_ns)
    assert "b" not in restarted(store).members


def test_nothing_is_kept_of_members_that_do_not_hold() -> None:
    a, store, now_ns = opened(name="a")
    _, store = talk(started("b", "b", OLD, hold=False), store, now_ns)
    a, _ = talk(a, store, now_ns)
    assert holders(a) == NO_HOLDERS


def test_a_refused_host_is_closed_and_says_why() -> None:
    host, store, now_ns = opened()
    host, _ = talk(host, store._replace(lease_ns=3 * 10**9), now_ns + 1)
    assert not host.open and "set it to that" in host.refused


def test_applied_counts_only_for_the_present_store() -> None:
    host, _, _ = opened()
    assert host.identity is not None
    assert applied(host, host.identity, 7).applied == 7
    assert applied(host, host.identity._replace(run_id="before"), 7).applied == 0


def test_messages_are_values() -> None:
    host, _, now_ns = opened()
    _, request = begin_beat(host, now_ns, TIMING, "")
    assert isinstance(request, Exchange) and request.sent_ns == now_ns and Reply._fields[0] == "identity"
