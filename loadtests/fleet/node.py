"""A simulated host: its clock, its state folder, its processes that come and go, and the faults upon it."""

from random import Random
from typing import Any, NamedTuple

from gateway.control.fleet.evidence import Digest, Log
from gateway.control.fleet.host import NO_HOLDERS, Holders, HostState, holders, started
from gateway.control.fleet.stop_call import StopCall
from gateway.control.fleet.store_state import Words

MILLION = 1_000_000


class Kept(NamedTuple):
    """What a host keeps in its state folder."""

    words: Words
    stops: tuple[str, ...]
    holders: Holders = NO_HOLDERS


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
    `entries`, `counted`: evidence so far, and what of it a digest was seen to hold. `log`: its own, as last seen in
    the store; `digest`: the latest known to be stored. `asked`: exchanges of the release. `write`: a digest on its way.
    `loaded`: the version of the digest that the controller goes on from; its step began at `step_began_ns`.
    """

    __slots__ = (
        "asked", "calls", "counted", "deaf_until_ns", "digest", "entries", "frozen_sends", "frozen_until_ns", "hold",
        "host", "kept", "lag_ns", "loaded", "log", "mute_until_ns", "name", "offset_ns", "random", "rate_ppm",
        "sending", "starts", "step_began_ns", "write",
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
        self.asked = self.loaded = self.step_began_ns = 0
        self.log: Log | None = None
        self.digest: Digest | None = None
        self.write: Any = None
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
        words, stops, holding = kept if kept is not None else Kept({}, ())
        host = self.host = started(self.incarnation(), self.name, words, stops, holding, hold=self.hold)
        self.calls = []
        self.sending = {}
        self.frozen_sends = []
        self.entries = self.counted = self.loaded = 0
        self.log = self.digest = self.write = None
        return host

    def keep(self) -> None:
        """Write the state folder if something has changed."""
        if self.host is not None:
            now = Kept(self.host.words, tuple(self.host.stops), holders(self.host))
            if not self.kept or self.kept[-1] != now:
                self.kept.append(now)
