"""Hosts of a fleet in one process, each with a real decision log, switchboard and membership, over a real store.

All have one clock, which stands still unless a test moves it: no lease ends, and no host opens, by luck.
"""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson

from gateway.control.fleet import membership
from gateway.control.fleet.codec import decoded
from gateway.control.fleet.confirmation import Confirmation
from gateway.control.fleet.host import HostState
from gateway.control.fleet.membership import Membership
from gateway.control.fleet.memory import FleetMemory
from gateway.control.fleet.releases import FleetReleases, release_key
from gateway.control.fleet.store_state import StoreState, Word
from gateway.control.fleet.stores import open_store
from gateway.control.fleet.timing import Timing
from gateway.control.release.decisions import DecisionLog, ReleaseDecision
from gateway.settings.routing import ReleaseSettings
from gateway.shm.board_clock import BoardClock
from gateway.shm.switchboard import HEARTBEAT, Switchboard
from tests.control.fleet.servers import LONG_S, RedisServer, StoreServer
from tests.control.fleet.wire import Wire

LEASE_NS = 30_000_000_000  # a third of it is the deadline of a call, in real time
TIMING = Timing(LEASE_NS, 10_000_000)
HEARTBEAT_TIMEOUT_NS = 5_000_000_000
BEAT_S = 0.01
BY, REASON = "ann", "wrong answers"
numbers = itertools.count()


class Clock(BoardClock):
    """Moved by the test alone."""

    __slots__ = ("_now_ns",)

    def __init__(self) -> None:
        self._now_ns = 10**15

    def now_ns(self) -> int:
        return self._now_ns

    def advance(self, ns: int) -> None:
        self._now_ns += ns


class Host:
    """One gateway, as far as the fleet matters. It beats only between `start` and `pause`, and when told to."""

    def __init__(
        self, fleet: "Fleet", folder: Path, name: str, served: dict[str, ReleaseSettings], *, hold: bool = False
    ) -> None:
        self.fleet = fleet
        self.folder = folder
        self.name = name
        self.served = served
        self.log = DecisionLog(folder)
        self.board = Switchboard.create(folder / f"board{next(numbers)}", 1)
        self.board.clock = fleet.clock
        self.wire = Wire(open_store(fleet.server.url, fleet.name, LONG_S))
        self.sends_ended = asyncio.Event()
        self.sends_ended.set()
        self.fences = 0
        self._slots: dict[str, int] = {}
        self._tasks: list[asyncio.Task[None]] = []
        for key in self.log.stopped_keys():
            self.board.stop(self.slot("{}/{}".format(*key)))
        self.membership = Membership(
            self.wire,
            fleet.timing,
            self.board,
            FleetReleases(fleet.name, lambda: self.served, self.log, self.stop_here, self.resume_here),
            FleetMemory(folder, fleet.name, self.log.replace_file),
            self.fence,
            fleet=fleet.name,
            url=fleet.server.url,
            name=name,
            hold=hold,
            heartbeat_timeout_ns=HEARTBEAT_TIMEOUT_NS,
        )
        self.log.on_stop = self.membership.stopped_here

    @property
    def state(self) -> HostState:
        return self.membership.host

    def slot(self, release: str) -> int:
        return self._slots.setdefault(release, len(self._slots))

    def epoch(self, release: str) -> int:
        """On this host's switchboard."""
        return self.board.epoch(self.slot(release))

    def stop_here(self, model: str, version: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        self.board.stop(self.slot(f"{model}/{version}"))
        return self.log.stop(model, version, by, reason, evidence)

    def resume_here(self, model: str, version: int, by: str, reason: str, evidence: dict[str, Any]) -> ReleaseDecision:
        decision = self.log.resume(model, version, by, reason, evidence)
        self.board.resume(self.slot(f"{model}/{version}"))
        return decision

    async def fence(self) -> None:
        self.fences += 1
        await self.sends_ended.wait()

    def stopped(self, release: str) -> bool:
        """By this host's switchboard and its decision log, which must agree."""
        key = release_key(release)
        assert key is not None
        stopped = self.log.stopped(*key) is not None
        assert self.board.stopped(self.slot(release)) == stopped, release
        return stopped

    def allows(self, release: str) -> bool:
        """Whether a worker may send an answer of the release's candidate."""
        self.board.heartbeat()
        silent_ns = self.fleet.clock.now_ns() - self.board.words[HEARTBEAT]
        return silent_ns <= HEARTBEAT_TIMEOUT_NS and not self.board.stopped(self.slot(release))

    def start(self) -> None:
        """Beat, and listen to the other hosts."""
        runs = self.membership.beat_forever, self.membership.listen_forever
        self._tasks = [asyncio.create_task(run()) for run in runs]

    async def pause(self) -> None:
        """End the beats between two of them. Fails if one has raised anything."""
        tasks, self._tasks = self._tasks, []
        if not tasks:
            return
        async with self.membership._turn:
            for task in tasks:
                task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, asyncio.CancelledError), ended

    async def beat(self) -> None:
        """Once."""
        await self.membership._beat()

    async def stop(self, version: int = 2, reason: str = REASON, model: str = "m") -> Confirmation:
        """As a person's command does it."""
        self.stop_here(model, version, BY, reason, {})
        return await self.membership.confirm({(model, version)}, BY, reason)

    async def resume(self, version: int = 2, model: str = "m", **evidence: Any) -> None:
        await self.membership.resume((model, version), "bob", "mended", evidence)

    async def end(self) -> None:
        """As if killed, but for what was to be written."""
        await self.pause()
        await self.wire.close()
        self.log.close()

    async def restarted(self) -> "Host":
        """A new process over this one's state folder, after it has ended."""
        await self.end()
        return self.fleet.replace(self, Host(self.fleet, self.folder, self.name, self.served))


class Fleet:
    """Hosts of one fleet."""

    def __init__(self, server: StoreServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.name = f"fleet {next(numbers)}"
        self.clock = Clock()
        self.timing = TIMING
        self.hosts: list[Host] = []

    def add(
        self, name: str, stable: int = 1, candidate: int | None = 2, *, known: bool = True, hold: bool = False
    ) -> Host:
        """A host that serves model m. `known`: it has been in the fleet before, so it opens after one lease."""
        folder = self.folder / f"{self.name} {name}"
        folder.mkdir()
        if known:
            seen = {"fleet": self.name, "words": {"known/1": [1, 0]}, "stops": [], "sequence": 0}
            (folder / "fleet.json").write_bytes(orjson.dumps(seen))
        served = {"m": ReleaseSettings.model_construct(stable=stable, candidate=candidate)}
        self.hosts.append(Host(self, folder, name, served, hold=hold))
        return self.hosts[-1]

    def replace(self, old: Host, new: Host) -> Host:
        self.hosts[self.hosts.index(old)] = new
        return new

    async def open(self) -> None:
        """Let time pass, with beats, until the candidates of all hosts are open."""
        for _ in range(60):
            for host in self.hosts:
                await host.beat()
                assert not host.membership.problem, host.membership.problem
            if all(host.state.open and host.state.settled for host in self.hosts):
                return
            self.clock.advance(self.timing.lease_ns // 4)
        raise AssertionError("the hosts do not open")

    async def opened(self) -> None:
        """`open`, then all hosts beat."""
        await self.open()
        for host in self.hosts:
            host.start()

    async def state(self) -> StoreState:
        """What the store holds."""
        store = open_store(self.server.url, self.name, LONG_S)
        try:
            return decoded(await store.commit(None))
        finally:
            await store.close()

    async def word(self, release: str) -> Word:
        return (await self.state()).words[release]

    def write(self, hash_name: str, *fields: str) -> None:
        """Fields and values of one of the fleet's two hashes."""
        assert isinstance(self.server, RedisServer)
        assert self.server.send("HSET", f"{{gateway:{self.name}}}:{hash_name}", *fields)[0] == ":"

    def wipe(self) -> None:
        assert isinstance(self.server, RedisServer)
        for hash_name in ("core", "members"):
            self.server.send("DEL", f"{{gateway:{self.name}}}:{hash_name}")


@asynccontextmanager
async def new_fleet(server: StoreServer, folder: Path) -> AsyncIterator[Fleet]:
    """A fleet without hosts. In the end all are ended; none may have failed."""
    fleet = Fleet(server, folder)
    with patch.object(membership, "BEAT_S", BEAT_S):
        async with asyncio.timeout(30):
            try:
                yield fleet
            finally:
                for host in fleet.hosts:
                    await host.end()


async def until(condition: Callable[[], bool]) -> None:
    """Wait for it."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it does not happen"
        await asyncio.sleep(0.001)


async def some_beats(*hosts: Host) -> None:
    """Wait until each has had three more answers."""
    wanted = [(host, host.state.answered + 3) for host in hosts]
    await until(lambda: all(host.state.answered >= beat for host, beat in wanted))
