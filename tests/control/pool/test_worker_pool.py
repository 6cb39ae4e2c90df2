"""When workers are told to listen; no wait for another worker is unbounded."""

import asyncio
from collections.abc import Callable
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Any

import pytest

from gateway.control.pool import worker_pool as fleet_module
from gateway.control.pool.broadcast import _groups
from gateway.control.pool.worker_handle import WorkerActivity, WorkerHandle, WorkerState
from gateway.control.pool.worker_pool import WorkerPool, _backoff_s
from gateway.messages import Ack, Commit, ConfigGeneration, Listen, Prepare, Ready, Warm
from gateway.settings.routing import RoutingSettings

SOON_S = 0.05


class Process:
    """A process that stays alive, whatever is sent to it."""

    pid = 1

    def send_signal(self, number: int) -> None:
        return None

    def poll(self) -> int | None:
        return None

    def wait(self) -> int:
        return 0


class Workers:
    """A fleet, and the other ends of its pipes, through which a test acts as its workers."""

    def __init__(self) -> None:
        self.pool = WorkerPool(
            2,
            ConfigGeneration(generation=1, routing=RoutingSettings(), versions={}, releases={}, unavailable={}),
            _unused,
            _unused,
            _no_cause,
            lambda _: WorkerActivity(),
        )
        self.ends: dict[int, Connection] = {}
        for index in range(2):
            self.spawn(index)
        self.pool._spawn = self.spawn  # type: ignore[method-assign]

    def spawn(self, index: int) -> None:
        ours, self.ends[index] = Pipe()
        process: Any = Process()
        self.pool.handles[index] = WorkerHandle(index, process, ours, self.pool.config)
        asyncio.get_running_loop().add_reader(ours.fileno(), self.pool._receive, self.pool.handles[index])

    async def told_to_listen(self, index: int) -> bool:
        await until(lambda: self.ends[index].poll())
        return isinstance(self.ends[index].recv(), Listen)

    def close(self) -> None:
        for index, member in self.pool.handles.items():
            if not member.pipe.closed:
                asyncio.get_running_loop().remove_reader(member.pipe.fileno())
            member.close()
            self.ends[index].close()


async def _no_cause(member: WorkerHandle, code: int) -> bool:
    return False


def _unused(*_: object) -> Any:
    raise AssertionError


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(SOON_S / 10)


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fleet_module, "MIN_WAIT_S", SOON_S)


def test_next_warm_worker_inherits_the_deadline_of_a_dead_one() -> None:
    async def play() -> None:
        workers = Workers()
        workers.ends[0].send(Warm({}))
        await until(lambda: workers.pool.handles[0].state is WorkerState.WARM)
        workers.ends[0].close()
        await until(lambda: workers.pool.handles[0].state is WorkerState.STARTING)
        await asyncio.sleep(2 * SOON_S)  # no one is warm when the first one's patience ends
        workers.ends[0].send(Warm({}))
        assert await workers.told_to_listen(0), "the other one never comes"
        workers.ends[0].send(Ready())
        await until(workers.pool.ready.is_set)
        workers.close()

    asyncio.run(play())


def test_worker_suspended_while_warm_does_not_delay_readiness() -> None:
    async def play() -> None:
        workers = Workers()
        for end in workers.ends.values():
            end.send(Warm({}))
        assert await workers.told_to_listen(0)
        assert await workers.told_to_listen(1)
        workers.ends[0].send(Ready())
        await until(lambda: workers.pool.handles[0].state is WorkerState.READY)
        assert not workers.pool.ready.is_set()
        await until(workers.pool.ready.is_set)
        workers.ends[1].send(Ready())
        await until(lambda: workers.pool.handles[1].state is WorkerState.READY)
        workers.close()

    asyncio.run(play())


def test_worker_that_starts_during_an_edit_applies_it_before_it_listens() -> None:
    """However often that happens: none is replaced for it, so a dead worker is replaced by the first that starts."""

    async def play() -> None:
        workers = Workers()
        pool, end = workers.pool, workers.ends[0]
        first = pool.handles[0]
        pool.config = ConfigGeneration(
            generation=2, routing=RoutingSettings(), versions={}, releases={}, unavailable={}
        )
        end.send(Warm({}))
        await until(end.poll)
        prepare = end.recv()
        assert (type(prepare), prepare.config.generation, prepare.catch_up) == (Prepare, 2, True)
        end.send(Ack(prepare.number, ""))
        await until(end.poll)
        commit = end.recv()
        assert isinstance(commit, Commit)
        assert (first.state, first.accepts_commands) == (WorkerState.STARTING, False)
        end.send(Ack(commit.number, ""))
        await until(lambda: first.state is WorkerState.WARM)
        assert first.config is pool.config
        workers.close()

    asyncio.run(play())


def test_pause_grows_with_the_number_of_early_deaths() -> None:
    pauses = [_backoff_s(deaths) for deaths in range(1, 10)]
    assert pauses[:4] == [0, 0.1, 0.2, 0.4]
    assert pauses == sorted(pauses)
    assert pauses[-1] == _backoff_s(1000) == 5


def test_order_fails_when_a_worker_dies_during_it_and_others_do_not_get_it() -> None:
    async def play() -> None:
        workers = Workers()
        pool = workers.pool
        for end in workers.ends.values():
            end.send(Warm({}))
        await until(lambda: len(pool.accepting_handles()) == 2)
        plan = ConfigGeneration(generation=2, routing=RoutingSettings(), versions={}, releases={}, unavailable={})
        pool._activity_of = lambda _: WorkerActivity(loading=("m", 7))
        given = asyncio.create_task(pool.broadcast(lambda n: Prepare(n, plan), staged=True, may_die=False))
        await until(workers.ends[0].poll)
        workers.ends[0].close()
        (error,) = await given
        assert "models.m: version 7: worker 0 ended while it was loading it" in error
        await until(workers.ends[1].poll)
        assert isinstance(workers.ends[1].recv(), Listen), "the other one is not asked any more"
        assert not workers.ends[1].poll()
        workers.close()

    asyncio.run(play())


@pytest.mark.parametrize(("size", "groups"), [(1, [1]), (2, [1, 1]), (5, [1, 2, 2]), (8, [1, 2, 4, 1]), (0, [])])
def test_loading_orders_go_to_one_worker_first_and_to_half_at_most(size: int, groups: list[int]) -> None:
    assert [len(group) for group in _groups([None] * size)] == groups  # type: ignore[list-item]
