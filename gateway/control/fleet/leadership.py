"""One host runs the controllers: it is named in the object that holds the ramps, which compare-and-set changes.

An old leader's write fails by itself, since the version has moved on with the take-over: no lock beside the data.
"""

from gateway.control.fleet.host import HostState, still
from gateway.control.fleet.scripts import is_settled
from gateway.control.fleet.store_state import Identity, LeaderObject, StoreState
from gateway.control.fleet.timing import Timing


def write_leader(store: StoreState, known: Identity, new: LeaderObject) -> tuple[StoreState, bool]:
    """Script: write the object that follows the one stored, in the same life of the store. Returns whether it did."""
    version = store.leader.version if store.leader is not None else 0
    if known != store.identity or not is_settled(store) or new.version != version + 1:
        return store, False
    return store._replace(leader=new, revision=store.revision + 1), True


def in_contact(host: HostState, now_ns: int) -> bool:
    """Whether the host is open under a lease, in a store to which all have brought what they knew."""
    return host.open and host.settled and now_ns < host.contact_until_ns


def leads(host: HostState, now_ns: int) -> bool:
    """Whether the host is the leader as far as it knows: only the store decides, when it writes."""
    return in_contact(host, now_ns) and host.leader is not None and host.leader.leader == host.incarnation


def take_over(host: HostState, now_ns: int, timing: Timing) -> LeaderObject | None:
    """The object that makes this host the leader, with the ramps as they are, if there is no leader or it is gone."""
    if not in_contact(host, now_ns):
        return None
    old = host.leader
    if old is None:
        return LeaderObject(1, host.incarnation, "")
    if old.leader in host.members and (old.leader == host.incarnation or not still(host, old.leader, now_ns, timing)):
        return None
    return LeaderObject(old.version + 1, host.incarnation, old.state)


def next_step(host: HostState, now_ns: int, interval_ns: int, state: str) -> LeaderObject | None:
    """The object with the ramps' next state, if this host leads and has seen the present one for `interval_ns`.

    A new leader counts from when it saw the object, so a step takes no less than its interval, whoever began it.
    """
    if host.leader is None or not leads(host, now_ns) or now_ns - host.leader_since_ns < interval_ns:
        return None
    return LeaderObject(host.leader.version + 1, host.incarnation, state)
