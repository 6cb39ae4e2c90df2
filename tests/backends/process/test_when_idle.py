"""When the loop counts as idle: by a clock of its own, so that nothing here depends on the machine."""

import asyncio
import gc
import weakref

import pytest

from gateway.backends.process.when_idle import BUSY_S, IDLE_S, WhenIdle


class _Clock:
    """Each reading is later than the one before by the next of `steps_s`, and by the last of them from then on."""

    def __init__(self, *steps_s: float) -> None:
        self._steps_s = list(steps_s)
        self.now_s = 100.0

    def __call__(self) -> float:
        self.now_s += self._steps_s.pop(0) if len(self._steps_s) > 1 else self._steps_s[0]
        return self.now_s


async def _iterations_until_run(clock: _Clock) -> int:
    runs: list[float] = []
    one = WhenIdle(clock)
    for _ in range(2):  # the second asks for nothing more
        one.start(lambda: runs.append(clock.now_s))
    for iterations in range(1000):
        if runs:
            await asyncio.sleep(0)
            assert len(runs) == 1
            return iterations
        await asyncio.sleep(0)
    raise AssertionError("it never runs")


@pytest.mark.parametrize(
    ("steps_s", "iterations"),
    [
        ((0.0, 0.0, IDLE_S / 2), 1),  # nothing came
        ((0.0, 0.0, IDLE_S * 3, IDLE_S * 3, IDLE_S / 2), 3),  # requests came twice
        ((0.0, 0.0, BUSY_S / 4.5), 5),  # the loop is never idle
        ((0.0, 0.0, BUSY_S * 2), 1),  # one iteration took long
    ],
)
def test_it_runs_once_in_the_first_empty_iteration_and_in_a_busy_loop_in_the_end(
    steps_s: tuple[float, ...], iterations: int
) -> None:
    assert asyncio.run(_iterations_until_run(_Clock(*steps_s))) == iterations


async def _started_again() -> list[int]:
    runs: list[int] = []
    one = WhenIdle(_Clock(0.0))
    for _ in range(3):
        one.start(lambda: runs.append(len(runs)))
        await asyncio.sleep(0)
    return runs


def test_it_can_be_started_again_after_it_has_run() -> None:
    assert asyncio.run(_started_again()) == [0, 1, 2]


async def _started_within_a_long_iteration() -> int:
    runs: list[int] = []
    one = WhenIdle(_Clock(0.0, 2 * BUSY_S))
    for _ in range(2):  # the second BUSY_S later
        one.start(lambda: runs.append(1))
    return len(runs)


def test_it_runs_at_once_if_it_is_started_again_in_an_iteration_that_takes_long() -> None:
    assert asyncio.run(_started_within_a_long_iteration()) == 1


class _Owner:
    def __init__(self) -> None:
        self.when_idle, self.runs = WhenIdle(_Clock(0.0)), 0

    def run(self) -> None:
        self.runs += 1


async def _freed_after_its_run() -> bool:
    owner = _Owner()
    owner.when_idle.start(owner.run)
    while not owner.runs:
        await asyncio.sleep(0)
    freed = weakref.ref(owner)
    del owner
    await asyncio.sleep(0)
    return freed() is None


def test_its_owner_is_freed_without_a_collection_as_versions_that_have_gone_must_be() -> None:
    gc.disable()
    try:
        assert asyncio.run(_freed_after_its_run())
    finally:
        gc.enable()
