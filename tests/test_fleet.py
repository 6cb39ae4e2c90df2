"""When workers are told to listen: none is waited for, nor anything else, for ever."""

import asyncio
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from gateway import fleet as fleet_module
from gateway.fleet import Fleet
from gateway.member import Member, WorkerState
from gateway.orders import Listen, Plan, Ready, Warm
from gateway.settings.routing_settings import RoutingSettings

SOON_S = 0.05


class Process:
    """One that lives, whatever it is sent."""

    pid = 1

    def send_signal(self, number: int) -> None:
        return None

    def poll(self) -> int | None:
        return None

    def wait(self) -> int:
        return 0


class Workers:
    """A fleet, and the other ends of its pipes, by which a test plays its workers."""

    def __init__(self) -> None:
        self.fleet = Fleet(2, Plan(1, RoutingSettings(), {}, {}, {}), _unused, _unused, lambda _: None)
        self.ends: dict[int, Connection] = {}
        for index in range(2):
            self.spawn(index)
        self.fleet._spawn = self.spawn  # type: ignore[method-assign]

    def spawn(self, index: int) -> None:
        ours, self.ends[index] = Pipe()
        process: Any = Process()
        self.fleet.members[index] = Member(index, process, ours, self.fleet.plan)
        asyncio.get_running_loop().add_reader(ours.fileno(), self.fleet._hear, self.fleet.members[index])

    async def told_to_listen(self, index: int) -> bool:
        await until(lambda: self.ends[index].poll())
        return isinstance(self.ends[index].recv(), Listen)

    def close(self) -> None:
        for index, member in self.fleet.members.items():
            asyncio.get_running_loop().remove_reader(member.pipe.fileno())
            member.hang_up()
            self.ends[index].close()


def _unused(*_: object) -> Any:
    raise AssertionError


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(20 * SOON_S):
        while not true():
            await asyncio.sleep(SOON_S / 10)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "WAIT_LEAST_S", SOON_S)


def test_the_next_one_waits_no_longer_than_the_first_that_died_while_it_waited() -> None:
    async def play() -> None:
        workers = Workers()
        workers.ends[0].send(Warm({}))
        await until(lambda: workers.fleet.members[0].state is WorkerState.WARM)
        workers.ends[0].close()
        await until(lambda: workers.fleet.members[0].state is WorkerState.STARTING)
        await asyncio.sleep(2 * SOON_S)  # no one is warm when the first one's patience ends
        workers.ends[0].send(Warm({}))
        assert await workers.told_to_listen(0), "the other one never comes"
        workers.ends[0].send(Ready())
        await until(workers.fleet.ready.is_set)
        workers.close()

    asyncio.run(play())


def test_one_that_is_suspended_once_it_is_warm_does_not_keep_the_gateway_from_being_ready() -> None:
    async def play() -> None:
        workers = Workers()
        for end in workers.ends.values():
            end.send(Warm({}))
        assert await workers.told_to_listen(0)
        assert await workers.told_to_listen(1)
        workers.ends[0].send(Ready())
        await until(lambda: workers.fleet.members[0].state is WorkerState.READY)
        assert not workers.fleet.ready.is_set()
        await until(workers.fleet.ready.is_set)
        workers.ends[1].send(Ready())
        await until(lambda: workers.fleet.members[1].state is WorkerState.READY)
        workers.close()

    asyncio.run(play())


def test_edits_while_a_worker_loads_do_not_make_the_next_one_wait_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "BACK_OFF_S", (0.0, 100.0))

    async def play() -> None:
        workers = Workers()
        fleet = workers.fleet
        for generation in range(2, 6):
            before = fleet.members[0]
            fleet.plan = Plan(generation, RoutingSettings(), {}, {}, {})
            workers.ends[0].send(Warm({}))  # of the plan before: it is told to end
            await asyncio.sleep(SOON_S)
            workers.ends[0].close()
            await until(lambda before=before: fleet.members[0] is not before)
        workers.close()

    asyncio.run(play())
