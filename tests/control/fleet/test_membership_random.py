"""Random stops, resumes, trips, restarts and lost or delayed messages of three hosts over a real store."""

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from random import Random

import pytest

from gateway.control.fleet.pending_stops import PendingStop
from gateway.control.fleet.stop_call import StopCall, StopOutcome
from gateway.control.fleet.store_state import FIRST
from gateway.errors import Conflict
from tests.control.fleet.hosts import TIMING, Fleet, Host, new_fleet, until
from tests.control.fleet.servers import RedisServer, asynchronous
from tests.control.fleet.wire import Held, changes_core

SEEDS = 20
QUICK = (1, 4, 7)
STEPS = 24
RELEASES = ("m/2", "m/3")


class History:
    """Makes random changes, and checks after each step that no host answers from what is known to be stopped."""

    def __init__(self, fleet: Fleet, seed: int) -> None:
        self.fleet = fleet
        self.random = Random(seed)
        self.seed = seed
        self.floor = dict.fromkeys(RELEASES, 0)  # the highest epoch whose stop was confirmed
        self.commands: dict[asyncio.Task[None], Host] = {}
        self.memories: dict[str, bytes] = {}
        self.held: list[Held] = []
        self.lost: list[tuple[Host, Held]] = []
        self.confirmed = self.resumed = 0

    def check(self, when: str) -> None:
        for host in self.fleet.hosts:
            for release in RELEASES:
                epoch = host.state.words.get(release, FIRST).epoch
                assert not host.allows(release) or epoch > self.floor[release], f"seed {self.seed}: {when}: {host.name}"

    async def step(self) -> None:
        host, release = self.random.choice(self.fleet.hosts), self.random.choice(RELEASES)
        version = int(release[2:])
        kinds = [self.stop, self.stop, self.resume, self.resume, self.trip, self.restart, self.disturb, self.settle]
        kind = self.random.choice(kinds)
        await kind(host, version)
        for _ in range(self.random.choice((0, 0, 1, 5, 20))):
            await asyncio.sleep(0.001)
            self.check(kind.__name__)
        if self.random.random() < 0.3:
            self.fleet.clock.advance(TIMING.lease_ns // self.random.choice((2, 5, 10)))
        self.check(kind.__name__)

    async def stop(self, host: Host, version: int) -> None:
        self._command(host, self._stop(host, version))

    async def resume(self, host: Host, version: int) -> None:
        if host.log.stopped("m", version) is not None:
            self._command(host, self._resume(host, version))

    async def trip(self, host: Host, version: int) -> None:
        if host.log.stopped("m", version) is None:
            host.stop_here("m", version, "breaker", "too many failures", {})

    async def restart(self, host: Host, version: int) -> None:
        if self.random.random() < 0.5:
            return
        killed = [task for task, its in self.commands.items() if its is host]
        for task in killed:
            task.cancel()
        await self.release_all()
        await asyncio.gather(*killed, return_exceptions=True)
        await host.end()
        memory = host.folder / "fleet.json"
        if self.random.random() < 0.5:  # the latest was not written
            memory.write_bytes(self.memories.get(host.name) or memory.read_bytes())
        self.memories[host.name] = memory.read_bytes()
        self.fleet.replace(host, Host(self.fleet, host.folder, host.name, host.served)).start()
        self.check("restarted")

    async def disturb(self, host: Host, version: int) -> None:
        kind = self.random.choice(("lose", "lose_reply", "hold_request", "hold_reply"))
        held = getattr(host.wire, kind)(changes_core)
        if kind == "lose":
            self.lost.append((host, held))
        elif kind != "lose_reply":
            self.held.append(held)

    async def settle(self, host: Host, version: int) -> None:
        await self.release_all()

    async def release_all(self) -> None:
        """Let all go that is held; what was lost is delivered late."""
        for held in self.held:
            held.go.set()
        self.held.clear()
        for host, held in self.lost:
            if held.transaction is not None and host in self.fleet.hosts:
                await host.wire.deliver(held)
        self.lost = [(host, held) for host, held in self.lost if held.transaction is None]

    async def end(self) -> None:
        """Until all agree."""
        for host in self.fleet.hosts:
            host.wire.forget()
        await self.release_all()
        await self._ended()
        hosts = self.fleet.hosts
        await until(lambda: all(not host.membership.notes and not host.state.stops for host in hosts))
        words = (await self.fleet.state()).words
        await until(lambda: all(host.state.told == words for host in hosts))
        self.check("in the end")
        for release in RELEASES:
            stopped = words.get(release, FIRST).stopped
            assert [host.stopped(release) for host in hosts] == [stopped] * len(hosts), f"seed {self.seed}"

    async def _stop(self, host: Host, version: int) -> None:
        calls = kept_calls(host)
        confirmation = await host.stop(version)
        mine = next(one for one in calls if one.call.release == f"m/{version}")
        if confirmation.outcome is StopOutcome.CONFIRMED:
            self.floor[f"m/{version}"] = max(self.floor[f"m/{version}"], mine.call.epoch)
            self.confirmed += 1
            self.check("confirmed")

    async def _resume(self, host: Host, version: int) -> None:
        try:
            await host.resume(version)
            self.resumed += 1
        except Conflict:
            pass

    def _command(self, host: Host, running: Coroutine[None, None, None]) -> None:
        self.commands[asyncio.create_task(running)] = host

    async def _ended(self) -> None:
        while not all(task.done() for task in self.commands):
            await self.release_all()
            await asyncio.sleep(0.001)
            self.fleet.clock.advance(TIMING.lease_ns // 100)  # for those that wait for a lease
            self.check("waiting")
        for task in self.commands:
            if not task.cancelled():
                task.result()
        self.commands.clear()


def kept_calls(host: Host) -> list[PendingStop]:
    """The stops that the membership follows from now on."""
    kept: list[PendingStop] = []
    add = host.membership._stops.add

    def kept_add(call: StopCall) -> PendingStop:
        kept.append(add(call))
        return kept[-1]

    host.membership._stops.add = kept_add  # type: ignore[method-assign]
    return kept


@pytest.mark.parametrize(
    "seed", [seed if seed in QUICK else pytest.param(seed, marks=pytest.mark.slow) for seed in range(SEEDS)]
)
@asynchronous
async def test_no_host_answers_from_what_was_confirmed_as_stopped(
    redis: RedisServer, tmp_path: Path, seed: int
) -> None:
    async with new_fleet(redis, tmp_path) as fleet:
        for name in "abc":
            fleet.add(name)
        await fleet.opened()
        history = History(fleet, seed)
        for _ in range(STEPS):
            await history.step()
        await history.end()
        print(f"seed {seed}: {history.confirmed} stops confirmed, {history.resumed} resumes")
