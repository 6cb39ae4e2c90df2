"""Balancing connections: converges where closing connections helps, and closes none where it does not."""

import itertools
import random
from typing import Any, NamedTuple

import pytest

from gateway.control.pool.connection_balance import (
    FIRST_BACKOFF,
    MAX_ATTEMPTS,
    UNEVEN_CHECKS,
    ConnectionBalancer,
    is_even,
    is_uneven,
)
from gateway.control.pool.housekeeping import Housekeeping
from gateway.shm.slots import Slots


def live(counts: list[int], seconds: int, seed: int, returning: float = 1.0) -> tuple[list[int], int]:
    """The counts after `seconds`, and how many connections were closed. Those that return land on any worker."""
    generator, balance, gone = random.Random(seed), ConnectionBalancer(), 0
    counts = list(counts)
    for _ in range(seconds):
        for worker, count in balance.to_close(dict(enumerate(counts))).items():
            assert 0 < count <= max(1, counts[worker] * 0.1), "more than a tenth in a second"
            gone += count
            counts[worker] -= count
            for _ in range(count):
                if generator.random() < returning:
                    counts[generator.randrange(len(counts))] += 1
    return counts, gone


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("others", [[64], [37] * 7, [1000, 1000, 1000], [300] * 15])
def test_new_worker_gets_its_share_soon_after_a_death(others: list[int], seed: int) -> None:
    counts, gone = live([0, *others], 27, seed)
    mean = sum(others) / len(counts)
    assert counts[0] >= 0.75 * mean
    assert sum(counts) == sum(others)
    assert gone <= 3 * sum(others)
    after, more = live(counts, 300, seed + 100)
    assert (more, after) == (0, counts) or not is_even(counts)


@pytest.mark.parametrize(
    "counts",
    [[], [5], [500], [1, 0], [0, 1, 0, 0], [4, 0], [0, 0], [40, 24], [32, 38, 26, 30], [1, 1, 0, 3, 0, 1, 2, 0]],
)
def test_no_connection_is_closed_where_chance_or_few_clients_explain_it(counts: list[int]) -> None:
    assert live(counts, 600, 1) == (counts, 0)
    assert not is_uneven(counts)


def test_imbalance_must_last_before_connections_are_closed() -> None:
    balance = ConnectionBalancer()
    for _ in range(50):
        assert balance.to_close({0: 64, 1: 0}) == {}
        assert balance.to_close({0: 32, 1: 32}) == {}
    answers = [bool(balance.to_close({0: 64, 1: 0})) for _ in range(UNEVEN_CHECKS)]
    assert answers == [False] * (UNEVEN_CHECKS - 1) + [True]


def test_balancing_without_effect_is_retried_ever_more_rarely() -> None:
    balance = ConnectionBalancer()
    acted = [bool(balance.to_close({0: 64, 1: 0})) for _ in range(4 * (MAX_ATTEMPTS + FIRST_BACKOFF) + 100)]
    assert sum(acted[: MAX_ATTEMPTS + FIRST_BACKOFF]) == MAX_ATTEMPTS
    assert sum(acted) <= 3 * MAX_ATTEMPTS


def test_clients_that_do_not_reconnect_are_soon_left_alone() -> None:
    counts, gone = live([100, 0], FIRST_BACKOFF, 1, returning=0.0)
    assert (counts[0], gone) == (100 - gone, gone)
    assert 0 < gone <= 40


def test_worker_that_is_not_ready_is_ignored() -> None:
    balance = ConnectionBalancer()
    assert [balance.to_close({0: 40, 2: 38}) for _ in range(10)] == [{}] * 10


def test_new_worker_restarts_balancing_after_futile_attempts() -> None:
    balance = ConnectionBalancer()
    for _ in range(20 * (MAX_ATTEMPTS + FIRST_BACKOFF)):
        balance.to_close({0: 64, 1: 0})
    balance.reset()
    answers = [bool(balance.to_close({0: 64, 1: 0})) for _ in range(UNEVEN_CHECKS)]
    assert answers == [False] * (UNEVEN_CHECKS - 1) + [True]


class Process(NamedTuple):
    pid: int


class Serving(NamedTuple):
    """A member of a fleet."""

    index: int
    process: Process
    send: Any


def test_upkeep_restarts_balancing_for_each_new_process() -> None:
    told: list[int] = []
    members = [Serving(index, Process(index), lambda word: told.append(word.count)) for index in (0, 1)]
    pool: Any = type("Fleet", (), {"ready_handles": lambda _: members})()
    scoreboard: Any = type("Board", (), {"each": lambda *_: [64, 0]})()
    clock = itertools.count()
    upkeep = Housekeeping(pool, scoreboard, Slots(1, ""), Slots(1, ""), lambda: next(clock))
    for _ in range(UNEVEN_CHECKS + MAX_ATTEMPTS + FIRST_BACKOFF // 2):
        upkeep.tick(changing=True)
    assert len(told) == MAX_ATTEMPTS
    members[1] = members[1]._replace(process=Process(2))
    for _ in range(UNEVEN_CHECKS):
        upkeep.tick(changing=True)
    assert len(told) == MAX_ATTEMPTS + 1
