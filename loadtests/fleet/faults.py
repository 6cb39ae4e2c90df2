"""What happens in a simulated run: commands of people and breakers, and faults, drawn from the run's seed."""

from random import Random
from typing import Final

from gateway.control.fleet import host as host_step
from gateway.control.fleet.store_state import FIRST
from loadtests.fleet.network import MS
from loadtests.fleet.node import Kept, Node
from loadtests.fleet.world import BEAT_NS, RELEASES, TIMING, World

BEGIN_NS: Final = 2000 * MS  # by then the hosts are open
END_NS: Final = 6500 * MS  # no command or fault begins later
CALM_NS: Final = 12_500 * MS  # the end: all is whole again for several leases
RATE_PPM: Final = 500  # of true time: twice that between two hosts
EVENTS: Final = (  # with how often each is drawn
    ("stop", 10), ("resume", 7), ("trip", 4), ("deaf", 4), ("mute", 4), ("cut", 4), ("freeze", 5), ("kill", 2),
    ("restart", 4), ("restart_empty", 2), ("leave", 2), ("copy", 2), ("store_restart", 2), ("store_flush", 2),
    ("store_old", 2), ("join_unseen", 3), ("store_down", 2), ("store_clock", 2), ("stop_cut", 4),
)  # fmt: skip
NAMES: Final = [name for name, _ in EVENTS]
OFTEN: Final = [often for _, often in EVENTS]


def new_world(seed: int) -> World:
    """A fleet of 2 to 4 hosts on a network that is good or bad; in one of eight runs a host holds."""
    random = Random(seed)
    holding = random.random() < 0.125
    nodes = [
        Node(
            name,
            random,
            random.choice((-RATE_PPM, 0, RATE_PPM, random.randint(-RATE_PPM, RATE_PPM))),
            random.randint(0, 10**12),
            hold=holding and index == 1,
        )
        for index, name in enumerate("abcd"[: random.choice((2, 3, 3, 4))])
    ]
    bad = random.random()
    world = World(random, nodes, loss=0.15 * bad * bad, slow=0.4 * bad * bad)
    for node in nodes[: len(nodes) - random.randint(0, 1)]:
        node.kept.append(started_life())
        world.at(int(random.random() * BEAT_NS), _start, world, node)
    for _ in range(random.randint(4, 14)):
        name = random.choices(NAMES, OFTEN)[0]
        world.at(random.randint(BEGIN_NS, END_NS), PLAN[name], world, random.choice(nodes), random.choice(RELEASES))
    for _ in range(2):
        world.at(random.randint(BEGIN_NS, END_NS), world.take_snapshot)
    world.at(END_NS + 2000 * MS, _mend, world)
    return world


def started_life() -> Kept:
    """A state folder that knows the releases, none of them stopped."""
    return Kept(dict.fromkeys(RELEASES, FIRST), ())


def _start(world: World, node: Node) -> None:
    world.start(node, copies=0)


def _stop(world: World, node: Node, release: str) -> None:
    """A stop, in half of the cases soon resumed, on some host."""
    world.stop(node, release)
    if world.random.random() < 0.5:
        later_ns = world.now_ns + world.random.randint(100 * MS, TIMING.lease_ns)
        world.at(later_ns, world.resume, world.random.choice(world.nodes), release)


def _stop_cut(world: World, node: Node, release: str) -> None:
    """A stop while another host is cut off, just after an exchange whose reply is slow: its lease must end first."""
    other = world.random.choice(world.nodes)
    if other is not node and other.host is not None and world.now_ns >= other.frozen_until_ns:
        other.lag_ns = world.random.randint(0, 600 * MS)
        world.beat_now(other)
        _mute(world, other, release)
    world.at(world.now_ns + world.random.randint(0, 300 * MS), world.stop, node, release)


def _join_unseen(world: World, node: Node, release: str) -> None:
    """A host starts and opens while another is cut off, whose first word afterwards is a stop."""
    other = world.random.choice(world.nodes)
    if other is not node:
        end_ns = world.now_ns + 3 * TIMING.lease_ns
        node.deaf_until_ns = node.mute_until_ns = end_ns
        _restart(world, other, release)
        world.at(end_ns, world.stop, node, release)


def _resume(world: World, node: Node, release: str) -> None:
    stopped = [name for name, word in world.store.words.items() if word.stopped]
    world.resume(node, world.random.choice(stopped) if stopped else release)


def _trip(world: World, node: Node, release: str) -> None:
    """A breaker's stop of the epoch that it sees, or late of the one before."""
    if node.host is not None:
        epoch = node.host.words.get(release, FIRST).epoch - (world.random.random() < 0.3)
        world.stop(node, release, max(epoch, 1))


def _outage_ns(world: World) -> int:
    return world.random.randint(50 * MS, 3 * TIMING.lease_ns)


def _deaf(world: World, node: Node, release: str) -> None:
    node.deaf_until_ns = world.now_ns + _outage_ns(world)


def _mute(world: World, node: Node, release: str) -> None:
    node.mute_until_ns = world.now_ns + _outage_ns(world)


def _cut(world: World, node: Node, release: str) -> None:
    node.deaf_until_ns = node.mute_until_ns = world.now_ns + _outage_ns(world)


def _freeze(world: World, node: Node, release: str) -> None:
    """Freeze the whole host. A worker that is inside a send then completes it afterwards: counted, not prevented."""
    if node.host is None or world.now_ns < node.frozen_until_ns:
        return
    node.frozen_until_ns = world.now_ns + _outage_ns(world)
    now_ns = node.clock(world.now_ns)
    node.frozen_sends = [
        (name, node.host.words.get(name, FIRST).epoch)
        for name in RELEASES
        if host_step.may_send(node.host, name, now_ns)
    ]
    world.at(node.frozen_until_ns, _thaw, world, node)


def _thaw(world: World, node: Node) -> None:
    for release, epoch in node.frozen_sends:
        world.checker.counts["late sends after a freeze"] += world.checker.dead(release, epoch) is not None
    node.frozen_sends = []


def _kill(world: World, node: Node, release: str) -> None:
    node.host = None
    node.sending = {}


def _restart(world: World, node: Node, release: str) -> None:
    """With the folder as it was last, or as a backup has it."""
    _kill(world, node, release)
    world.start(node, copies=world.random.choice((0, 0, 1, 3)))


def _restart_empty(world: World, node: Node, release: str) -> None:
    _kill(world, node, release)
    world.start(node, copies=None)


def _leave(world: World, node: Node, release: str) -> None:
    """Close, wait for the sends in progress, and have the record removed."""
    if node.host is not None and world.now_ns >= node.frozen_until_ns:
        node.host = host_step.leave(node.host)


def _copy(world: World, node: Node, release: str) -> None:
    """A host starts with a copy of another's folder."""
    other = world.random.choice(world.nodes)
    if other is not node and other.kept:
        node.kept = list(other.kept)
        _restart(world, node, release)


def _store_restart(world: World, node: Node, release: str) -> None:
    world.restart_store(data="kept", down_ns=world.random.choice((0, 300 * MS)))


def _store_flush(world: World, node: Node, release: str) -> None:
    world.restart_store(data="empty", new_run=world.random.random() < 0.5)


def _store_old(world: World, node: Node, release: str) -> None:
    world.restart_store(data="old", down_ns=world.random.choice((0, 300 * MS)))


def _store_down(world: World, node: Node, release: str) -> None:
    world.store_down_until_ns = world.now_ns + _outage_ns(world)


def _store_clock(world: World, node: Node, release: str) -> None:
    world.store_clock_steps(world)


def _mend(world: World) -> None:
    """Nothing is lost from now on, and every host runs."""
    world.loss = world.slow = 0
    world.store_down_until_ns = 0
    for node in world.nodes:
        node.deaf_until_ns = node.mute_until_ns = node.lag_ns = 0
        world.start(node, copies=0)


PLAN: Final = {
    "stop": _stop, "resume": _resume, "trip": _trip, "deaf": _deaf, "mute": _mute, "cut": _cut, "freeze": _freeze,
    "kill": _kill, "restart": _restart, "restart_empty": _restart_empty, "leave": _leave, "copy": _copy,
    "store_restart": _store_restart, "store_flush": _store_flush, "store_old": _store_old, "store_down": _store_down,
    "join_unseen": _join_unseen, "store_clock": _store_clock, "stop_cut": _stop_cut,
}  # fmt: skip
