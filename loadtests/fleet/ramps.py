"""The simulated fleet's release: each host's log, and the digest that its leader writes, in the store and at the hosts.

The real decisions are used; the controller is replaced by a count of steps, and each entry's value is its number. A
host exchanges its log for all data, and then writes a digest if it leads or may take over.
"""

from typing import Any, Final, NamedTuple, Protocol

from gateway.control.fleet import evidence, leadership
from gateway.control.fleet.evidence import Digest, Log, Release
from gateway.control.fleet.leadership import Written
from gateway.control.fleet.store_state import Identity, StoreState
from gateway.control.fleet.timing import Timing
from loadtests.fleet.checker import Checker
from loadtests.fleet.network import MS
from loadtests.fleet.node import Node

INTERVAL_NS: Final = 800 * MS  # of the ramp's steps
MOST: Final = 100  # entries counted in one digest
AGED_NS: Final = 300 * MS  # the digest is written at least so often


class State(NamedTuple):
    """The controller's. `age_ns`: of the step, when it was written. `total`: of the values counted."""

    steps: int = 0
    age_ns: int = 0
    total: int = 0


class Write(NamedTuple):
    """A digest on its way."""

    digest: Digest
    before: Digest | None
    known: Identity


class Messages(Protocol):
    """What is used of the simulated world."""

    now_ns: int
    store: StoreState
    checker: Checker

    def up(self) -> bool: ...
    def send(self, node: Node, act: Any, *arguments: Any) -> None: ...
    def reply(self, node: Node, act: Any, *arguments: Any) -> None: ...
    def thaws(self, node: Node, event: Any, *arguments: Any) -> bool: ...


def fenced(write: Write, stored: Digest | None) -> bool:
    """Whether the store takes the write."""
    return write.before == stored


def covered(node: Node, digest: Digest | None) -> int:
    """The number of the last entry that the host may drop, when it has read the digest."""
    assert node.host is not None
    return digest.offsets.get(node.host.incarnation, 0) if digest is not None else 0


def step_began(now_ns: int, state: State) -> int:
    """When the step of a loaded digest began, on the leader's clock: time without a leader does not count."""
    return now_ns - state.age_ns


class Ramps:
    """`release`: what the store holds."""

    def __init__(self, world: Messages, timing: Timing) -> None:
        self._world = world
        self._timing = timing
        self.release = Release()

    def exchange(self, node: Node) -> None:
        """Begin one; a reply to an earlier one does not count any more."""
        assert node.host is not None
        node.asked += 1
        first = node.counted + 1
        log = Log(first, tuple(range(first, node.entries + 1)))
        self._world.send(node, self._publish, node, node.starts, node.asked, node.host.incarnation, node.log, log)

    def _publish(self, node: Node, starts: int, asked: int, name: str, before: Log | None, log: Log) -> None:
        world = self._world
        if world.up():
            if self.release.logs.get(name) == before:
                self.release = self.release._replace(logs={**self.release.logs, name: log})
            world.reply(node, self._read, node, starts, asked, self.release, world.store.identity)

    def _read(self, node: Node, starts: int, asked: int, release: Release, life: Identity) -> None:
        host = node.host
        if host is None or node.starts != starts or node.asked != asked:
            return
        if self._world.thaws(node, self._read, node, starts, asked, release, life):
            return
        now_ns = node.clock(self._world.now_ns)
        node.log = release.logs.get(host.incarnation)
        node.counted = max(node.counted, covered(node, release.digest))
        follows = leadership.in_contact(host, now_ns) and not leadership.leads(host, release.digest)
        known = node.digest.version if node.digest is not None else 0
        if release.digest is not None and follows and release.digest.version >= known:
            node.digest = release.digest
        if node.write is not None and not self._settled(node, node.write, release.digest, life):
            self._world.send(node, self._store, node, starts, node.asked, node.write)
            return
        digest = self._next(node, release, now_ns)
        if digest is not None:
            node.write = Write(digest, release.digest, life)
            self._world.send(node, self._store, node, starts, node.asked, node.write)

    def _settled(self, node: Node, write: Write, stored: Digest | None, life: Identity) -> bool:
        """Whether it is known what has become of the write."""
        found = leadership.became(write.digest, write.before, stored)
        if found is Written.UNKNOWN and life == write.known:
            return False
        node.write = None
        node.digest = write.digest if found is Written.STORED else node.digest
        node.loaded = write.digest.version if found is Written.STORED else 0
        if found is Written.STORED and write.before is not None and write.digest.state.steps > write.before.state.steps:
            node.step_began_ns = node.clock(self._world.now_ns)  # a step begins when the store has it
        return True

    def _next(self, node: Node, release: Release, now_ns: int) -> Digest | None:
        host, stored = node.host, release.digest
        assert host is not None
        if not leadership.in_contact(host, now_ns):
            return None
        base = evidence.newest(stored, node.digest) or Digest(0, "", state=State())
        leads = leadership.leads(host, stored)
        if leads and base is stored:
            return self._stepped(node, base, release, now_ns)
        if leads or leadership.may_take_over(host, release, "", now_ns, self._timing, kept=node.digest):
            node.step_began_ns = step_began(now_ns, base.state)
            return base._replace(version=base.version + 1, leader=host.incarnation)
        return None

    def _stepped(self, node: Node, base: Digest, release: Release, now_ns: int) -> Digest | None:
        state: State = base.state
        if node.loaded != base.version:
            node.loaded, node.step_began_ns = base.version, step_began(now_ns, state)
        news = evidence.news(base, release.logs, MOST)
        age_ns, steps = now_ns - node.step_began_ns, state.steps
        if age_ns >= INTERVAL_NS:
            age_ns, steps, node.step_began_ns = 0, steps + 1, now_ns
        if not news.entries and steps == state.steps and age_ns - state.age_ns < AGED_NS:
            return None
        state = State(steps, age_ns, state.total + sum(news.entries))
        return base._replace(version=base.version + 1, state=state, offsets=news.offsets, lost=news.lost)

    def _store(self, node: Node, starts: int, asked: int, write: Write) -> None:
        world = self._world
        if not world.up():
            return
        if write.known.run_id == world.store.run_id and fenced(write, self.release.digest):
            before, self.release = self.release.digest, self.release._replace(digest=write.digest)
            world.checker.led(world.now_ns, before, write.digest)
            world.checker.counted(write.digest)
        world.reply(node, self._answered, node, starts, asked, write, self.release.digest, world.store.identity)

    def _answered(
        self, node: Node, starts: int, asked: int, write: Write, stored: Digest | None, life: Identity
    ) -> None:
        if node.host is None or node.starts != starts or node.asked != asked or node.write is not write:
            return
        if self._world.thaws(node, self._answered, node, starts, asked, write, stored, life):
            return
        if not self._settled(node, write, stored, life):  # refused for good
            node.write, node.loaded = None, 0
