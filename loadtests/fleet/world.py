"""The simulated fleet: hosts and their store on a network, and what a host's control process does there."""

from collections.abc import Callable
from random import Random
from typing import Final

from gateway.control.fleet import host as host_step
from gateway.control.fleet import scripts, stop_call
from gateway.control.fleet.evidence import Release
from gateway.control.fleet.store_state import (
    FIRST,
    Exchange,
    Identity,
    Reply,
    StoreState,
    Word,
    Words,
)  # fmt: skip
from gateway.control.fleet.timing import Timing
from loadtests.fleet.checker import ALWAYS, Checker, Stopped
from loadtests.fleet.network import MS, Network
from loadtests.fleet.node import Call, Node
from loadtests.fleet.ramps import INTERVAL_NS, Ramps

SEND_NS: Final = 20 * MS  # the longest from a worker's look at the switchboard to the end of its send
TIMING: Final = Timing(lease_ns=1200 * MS, margin_ns=50 * MS)
BEAT_NS: Final = 400 * MS
RELEASES: Final = ("digits/2/ab", "tickets/3/cd")


class World(Network):
    """One run. `nodes` share a store."""

    def __init__(self, random: Random, nodes: list[Node], loss: float, slow: float) -> None:
        super().__init__(random, loss, slow)
        self.nodes = nodes
        self.runs = 1
        self.store = StoreState("run1")
        self.ramps = Ramps(self, TIMING)
        self.snapshots: list[tuple[int, StoreState, Release]] = []
        self.store_down_until_ns = 0
        self.checker = Checker(TIMING.lease_ns * 999 // 1000, INTERVAL_NS * 998 // 1000)
        self.store_clock_steps: Callable[[World], object] = World.up  # nothing in the store depends on its clock

    # A host

    def start(self, node: Node, *, copies: int | None) -> None:
        """Start a process on a node that has none, with its folder as it was `copies` writes ago, or with none."""
        if node.host is None:
            kept = node.kept[max(len(node.kept) - 1 - copies, 0)] if copies is not None and node.kept else None
            self.beat(node, node.start(kept).incarnation, node.starts)

    def beat(self, node: Node, incarnation: str, starts: int, *, again: bool = True) -> None:
        """Begin an exchange, and the next one in time."""
        if node.host is None or node.starts != starts or self.thaws(node, self.beat, node, incarnation, starts):
            return
        host, request = host_step.begin_beat(node.host, node.clock(self.now_ns), TIMING, f"key{self._events}")
        node.host = host
        self.send(node, self._exchange, node, starts, request, host.words)
        if host.leaving:
            node.host = None
            return
        if again:
            self.at(self.now_ns + BEAT_NS, self.beat, node, incarnation, starts)
            self._control(node, host)

    def beat_now(self, node: Node) -> None:
        """An exchange out of turn, for a stop or a store that is new."""
        assert node.host is not None
        self.beat(node, node.host.incarnation, node.starts, again=False)

    def thaws(self, node: Node, event: Callable[..., None], *arguments: object) -> bool:
        """Whether the node is frozen: the event then happens afterwards."""
        if self.now_ns >= node.frozen_until_ns:
            return False
        self.at(node.frozen_until_ns, event, *arguments)
        return True

    def _answered(self, node: Node, starts: int, request: Exchange, reply: Reply, executed_ns: int, life: int) -> None:
        if node.host is None or node.starts != starts:
            return
        if self.thaws(node, self._answered, node, starts, request, reply, executed_ns, life):
            return
        now_ns = node.clock(self.now_ns)
        before = node.host
        host = node.host = host_step.on_reply(before, now_ns, request, reply, TIMING)
        ended_ns = self._end_sends(node, before, now_ns)
        for call in node.calls:
            epoch = call.called.epoch
            call.called = stop_call.follow(call.called, host, now_ns, request, reply)
            if call.called.epoch and (not epoch or not call.executed_ns):
                call.executed_ns, call.life = executed_ns, life
        node.keep()
        if ended_ns > self.now_ns:
            self.at(ended_ns, self._applied, node, starts, reply.identity, reply.revision)
        else:
            self._applied(node, starts, reply.identity, reply.revision)
        self.look(node)
        if host.identity != before.identity and host.store_since_ns == now_ns:
            self.beat_now(node)

    def _end_sends(self, node: Node, before: host_step.HostState, now_ns: int) -> int:
        """When the sends that a reply has found in progress have ended."""
        ended_ns, host = self.now_ns, node.host
        if host is None or (host.words is before.words and host.open and not host.stops and not node.sending):
            return ended_ns
        for release in RELEASES:
            if host_step.may_send(before, release, now_ns):
                epoch = before.words.get(release, FIRST).epoch
                if not host_step.may_send(host, release, now_ns):
                    node.sending[release] = (self.now_ns + int(self.random.random() * SEND_NS), epoch)
            ended_ns = max(ended_ns, node.sending.get(release, (0, 0))[0])
        return ended_ns

    def _applied(self, node: Node, starts: int, identity: Identity, revision: int) -> None:
        if (
            node.host is None
            or node.starts != starts
            or self.thaws(node, self._applied, node, starts, identity, revision)
        ):
            return
        node.host = host_step.applied(node.host, identity, revision)
        if node.calls:
            self.at(self.now_ns, self.return_stops, node)

    def look(self, node: Node) -> None:
        """Check what a host may send now, and what of it was begun before."""
        if node.host is None or not self.checker.any_confirmed:
            return
        begun_ns = node.clock(self.now_ns - SEND_NS)
        for release in RELEASES:
            if host_step.may_send(node.host, release, begun_ns):
                self.checker.may_send(node.host.incarnation, release, node.host.words)

    def _look_at_sends(self, node: Node) -> None:
        for release, (until_ns, epoch) in node.sending.items():
            if until_ns > self.now_ns and node.host is not None and self.now_ns >= node.frozen_until_ns:
                word = Word(epoch, 0)
                self.checker.may_send(node.host.incarnation, release, {release: word})

    # Stops, the controller, evidence

    def stop(self, node: Node, release: str, epoch: int = 0) -> None:
        """A person's stop, or a breaker's of the `epoch`."""
        if node.host is None or self.thaws(node, self.stop, node, release, epoch):
            return
        now_ns, before = node.clock(self.now_ns), node.host
        node.host, call = stop_call.begin_stop(node.host, release, epoch)
        self._end_sends(node, before, now_ns)
        node.calls.append(Call(call))
        node.keep()
        self.checker.counts["stops"] += 1
        self.beat_now(node)

    def return_stops(self, node: Node) -> None:
        """Return the stops that may return."""
        host = node.host
        if host is None or self.thaws(node, self.return_stops, node):
            return
        now_ns, left = node.clock(self.now_ns), []
        for call in node.calls:
            said = stop_call.outcome(call.called, host, now_ns, TIMING)
            sent_by_ns, _ = node.sending.get(call.called.release, (0, 0))
            if said is stop_call.StopOutcome.CONFIRMED and sent_by_ns <= self.now_ns:
                called = call.called
                early = now_ns - called.replied_ns < TIMING.longest_ns
                self.checker.counts["confirmed by all" if early else "confirmed by time"] += 1
                stopped = Stopped(called.epoch, call.person, call.executed_ns, call.life)
                self.checker.confirmed(called.release, stopped)
                for other in self.nodes:
                    self.look(other)
                    self._look_at_sends(other)
            else:
                self.checker.counts["unconfirmed on hold"] += said is stop_call.StopOutcome.UNCONFIRMED
                left.append(call)
        node.calls = left

    def resume(self, node: Node, release: str) -> None:
        """A person's resume of the epoch that the host knows."""
        if node.host is not None and node.host.identity is not None and self.now_ns >= node.frozen_until_ns:
            node.host = host_step.undo(node.host, release)
            node.calls = [call for call in node.calls if call.called.release != release]
            epoch = node.host.words.get(release, FIRST).epoch
            self.send(node, self._resume, node.host.identity, release, epoch)

    def _control(self, node: Node, host: host_step.HostState) -> None:
        """What a host does with each beat beside it."""
        if node.calls:
            self.return_stops(node)
        if host.identity is None:
            return
        node.entries += 1
        self.ramps.exchange(node)

    # The store

    def up(self) -> bool:
        """Whether the store runs."""
        return self.now_ns >= self.store_down_until_ns

    def _exchange(self, node: Node, starts: int, request: Exchange, words: Words) -> None:
        if not self.up():
            return
        told = request.known == self.store.identity
        self.store, reply = scripts.exchange(self.store, request)
        self.checker.executed(self.now_ns, words, told=told)
        life = len(self.checker.lives) - 1
        self.reply(node, self._answered, node, starts, request, reply, self.now_ns, life)

    def _resume(self, known: Identity, release: str, epoch: int) -> None:
        if self.up():
            self.store, refused = scripts.resume(self.store, known, release, epoch)
            if not refused:
                self.checker.resumed(self.now_ns, release, self.store.words[release].epoch)

    def take_snapshot(self) -> None:
        """Keep the store's data as it is, to be restored later."""
        self.snapshots.append((self.now_ns, self.store, self.ramps.release))

    def restart_store(self, *, data: str, down_ns: int = 0, new_run: bool = True) -> None:
        """`data`: `kept`, `empty`, or `old`, which is a snapshot. `new_run`: a new process, not only its data."""
        kept_until_ns, store, release = self.now_ns, self.store, self.ramps.release
        if data == "old" and self.snapshots:
            kept_until_ns, store, release = self.random.choice(self.snapshots)
        elif data != "kept":
            kept_until_ns, store, release = ALWAYS, StoreState(""), Release()
        self.runs += new_run
        self.store, self.ramps.release = store._replace(run_id=f"run{self.runs}"), release
        self.store_down_until_ns = self.now_ns + down_ns
        self.checker.new_life(self.now_ns, kept_until_ns)
        self.checker.counts[f"store {data}"] += 1
