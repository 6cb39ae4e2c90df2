"""What happens to a fleet, each with a stop amid it: cables, the store, its ways, gateways."""

from collections.abc import Callable, Mapping
from typing import Final

from loadtests.fleet.rig.course import LONGEST_S, MORE_S, OPENS_WITHIN_S, Course
from loadtests.fleet.rig.rig import HOSTS
from loadtests.fleet.rig.store_proxy import NO_REPLIES, NO_REQUESTS, PASS, REFUSE

Fault = Callable[[Course], None]
SLOW_S: Final = 0.05  # in each direction
WHILE_AWAY_S: Final = 0.5
LATEST_MS: Final = (LONGEST_S + MORE_S) * 1e3


def host_cut_off(course: Course) -> None:
    """One host's cable is unplugged, then a stop on another one."""
    cut, other = course.rig.two_hosts()
    cut.namespace.unplug()
    course.stop(other)
    course.watch.busy(WHILE_AWAY_S)
    cut.namespace.plug()
    course.all_know()
    course.resume(other)


def stop_on_the_cut_host(course: Course) -> None:
    """It holds there alone until the cable is plugged in again, then everywhere."""
    cut, _ = course.rig.two_hosts()
    cut.namespace.unplug()
    told = course.stop(cut, confirmed=False, everywhere=False)
    course.expect(told.document["fleet"]["hosts"] == 1, f"holds on one host: {told}")
    cut.namespace.plug()
    course.until(lambda: all(host.stopped() for host in course.rig.hosts), "the stop reaches the others")
    course.watch.forbid()
    course.watch.busy(OPENS_WITHIN_S)
    course.resume(cut)


def store_suspended(course: Course) -> None:
    """SIGSTOP: the stop is not confirmed, but all leases have ended when it returns. Then SIGCONT."""
    host = course.rig.any_host()
    course.rig.store.suspend()
    try:
        course.stop(host, confirmed=False)
        course.watch.busy(WHILE_AWAY_S)
    finally:
        course.rig.store.go_on()
    course.all_know()
    course.resume(host)


def store_killed(course: Course) -> None:
    """SIGKILL directly after a stop, and a new start with its data."""
    _restarted(course, empty=False)


def store_emptied(course: Course) -> None:
    """The same without its data: the hosts bring back what they know."""
    _restarted(course, empty=True)


def _restarted(course: Course, *, empty: bool) -> None:
    host, other = course.rig.two_hosts()
    course.stop(host)
    course.rig.store.kill()
    course.watch.busy(WHILE_AWAY_S)
    course.rig.store.start(empty=empty)
    course.watch.busy(OPENS_WITHIN_S)
    course.all_know()
    course.resume(other)


def gateway_killed(course: Course) -> None:
    """SIGKILL to all processes of a host, a stop on another one, and a new start with its state folder."""
    victim, other = course.rig.two_hosts()
    victim.kill()
    course.watch.leave_out(victim)
    course.stop(other)
    victim.start()
    course.take_in(victim)
    course.all_know()
    course.resume(other)


def host_joins(course: Course) -> None:
    """A host leaves, and one with an empty state folder and no contact comes in its place: it knows of no stop."""
    newcomer, other = course.rig.two_hosts()
    course.watch.leave_out(newcomer)
    newcomer.terminate()
    newcomer.wait_ended()
    course.stop(other)
    newcomer.namespace.unplug()
    newcomer.start(empty=True)
    course.take_in(newcomer)
    course.expect(not newcomer.stopped(), "the newcomer knows of no stop")
    course.watch.busy(OPENS_WITHIN_S)
    newcomer.namespace.plug()
    course.all_know()
    course.resume(other)


def store_slow(course: Course) -> None:
    """50 ms in each direction, for all hosts."""
    paths, host = course.rig.paths, course.rig.any_host()
    assert paths is not None
    paths.set(range(HOSTS), PASS, SLOW_S)
    course.watch.busy(WHILE_AWAY_S)
    course.stop(host)
    course.watch.busy(WHILE_AWAY_S)
    course.resume(host)
    paths.set(range(HOSTS))


def store_refuses(course: Course) -> None:
    """No host can connect; then a stop, which is brought there once they can."""
    paths, host = course.rig.paths, course.rig.any_host()
    assert paths is not None
    paths.set(range(HOSTS), REFUSE)
    course.stop(host, confirmed=False)
    course.watch.busy(WHILE_AWAY_S)
    paths.set(range(HOSTS))
    course.all_know()
    course.resume(host)


def store_one_way(course: Course) -> None:
    """What one host says reaches the store, but not the answers; or what it says does not."""
    apart, other = course.rig.two_hosts()
    paths, number = course.rig.paths, course.rig.hosts.index(apart)
    assert paths is not None
    paths.set([number], course.rig.chance.choice((NO_REPLIES, NO_REQUESTS)))
    course.stop(other)
    course.watch.busy(WHILE_AWAY_S)
    paths.set([number])
    course.all_know()
    course.resume(other)


FAULTS: Final[Mapping[str, tuple[Fault, float]]] = {  # with the most ms that the stop may take, 0: no limit
    "a host is cut off": (host_cut_off, LATEST_MS),
    "a stop on a host that is cut off": (stop_on_the_cut_host, 0.0),
    "the store is suspended": (store_suspended, 0.0),
    "the store is killed": (store_killed, 0.0),
    "the store is restarted empty": (store_emptied, 0.0),
    "a gateway is killed": (gateway_killed, LATEST_MS),
    "a host joins": (host_joins, 0.0),
}
FAULTS_OF_THE_WAY: Final[Mapping[str, tuple[Fault, float]]] = {
    "the store is slow": (store_slow, LATEST_MS),
    "the store refuses connections": (store_refuses, 0.0),
    "one host reaches the store one way": (store_one_way, LATEST_MS),
}
