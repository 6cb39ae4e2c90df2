"""A simulated host: its clock, its state folder, its processes that come and go, and the faults upon it."""

from random import Random
from typing import NamedTuple

from gateway.control.fleet.evidence import Evidence
from gateway.control.fleet.host import HostState, started
from gateway.control.fleet.stop_call import StopCall
from gateway.control.fleet.store_state import LeaderObject, Words

MILLION = 1_000_000


class Kept(NamedTuple):
    """What a host keeps in its state folder."""

    words: Words
    stops: tuple[str, ...]
    leader: LeaderObject | None


class Call:
    """A stop that waits. `executed_ns`, `life`: when the store had it, and in which of its lives."""

    __slots__ = ("called", "executed_ns", "life", "person")

    def __init__(self, called: StopCall) -> None:
        self.called = called
        self.person = called.epoch == 0
        self.executed_ns = 0
        self.life = 0


class Node:
    """`host`: None while no process runs. `sending`: by release, until when a send in progress may last, and its epoch.

    `deaf_until_ns`, `mute_until_ns`: nothing arrives, nothing leaves. `lag_ns`: how much longer
    the replies to it take. `frozen_sends`: begun before the host was frozen.
    `entries`, `counted`: evidence so far, and what of it a digest was seen to hold.
    """

    __slots__ = (
        "calls", "counted", "deaf_until_ns", "entries", "frozen_sends", "frozen_until_ns", "hold", "host", "kept",
        "lag_ns", "mute_until_ns", "name", "offset_ns", "random", "rate_ppm", "sending", "starts",
    )  # fmt: skip

    def __init__(self, name: str, random: Random, rate_ppm: int, offset_ns: int, *, hold: bool) -> None:
        self.name = name
        self.random = random
        self.rate_ppm = rate_ppm
        self.offset_ns = offset_ns
        self.hold = hold
        self.host: HostState | None = None
        self.kept: list[Kept] = []
        self.calls: list[Call] = []
        self.sending: dict[str, tuple[int, int]] = {}
        self.frozen_sends: list[tuple[str, int]] = []
        self.frozen_until_ns = self.deaf_until_ns = self.mute_until_ns = self.lag_ns = 0
        self.entries = self.counted = 0
        self.starts = 0

    def clock(self, true_ns: int) -> int:
        """The host's clock at a true time."""
        return self.offset_ns + true_ns + true_ns * self.rate_ppm // MILLION

    def incarnation(self) -> str:
        """A new one for each process."""
        self.starts += 1
        return f"{self.name}.{self.starts}"

    def start(self, kept: Kept | None) -> HostState:
        """Start a process with what the state folder holds, nothing if None."""
        words, stops, leader = kept if kept is not None else ({}, (), None)
        host = self.host = started(self.incarnation(), self.name, words, stops, leader, hold=self.hold)
        self.calls = []
        self.sending = {}
        self.frozen_sends = []
        self.entries = self.counted = 0
        return host

    def keep(self) -> None:
        """Write the state folder if something has changed."""
        if self.host is not None:
            now = Kept(self.host.words, tuple(self.host.stops), self.host.leader)
            if not self.kept or self.kept[-1] != now:
                self.kept.append(now)

    def unsent(self, evidence: Evidence) -> tuple[int, tuple[int, ...]]:
        """The first number and the values of the entries that no digest has counted."""
        assert self.host is not None
        self.counted = max(self.counted, evidence.digest.offsets.get(self.host.incarnation, 0))
        first = self.counted + 1
        return first, tuple(range(first, self.entries + 1))
