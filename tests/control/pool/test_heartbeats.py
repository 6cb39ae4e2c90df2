"""Which workers are silent, and which load for too long: by looks, not by the clock, and not for want of a core."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.control.pool import heartbeats as module
from gateway.control.pool.heartbeats import BEGIN_S, PATIENCE, STEP_S, Heartbeats
from gateway.control.pool.worker_handle import WorkerState
from gateway.shm.scoreboard import BEATS, LOADING, VERSIONS, Scoreboard
from gateway.shm.slots import VersionSlots

TIMEOUT_S = 5.0
LOAD_S = 30.0


class Watched:
    """A fleet of one worker, whose beats and loads a test plays. `ended`: what it was ended for."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self.scoreboard = scoreboard
        self.now_s = 0.0
        self.ended: list[tuple[str, float | None]] = []
        self.versions = VersionSlots(VERSIONS, scoreboard)
        self.member: Any = SimpleNamespace(
            index=0, state=WorkerState.READY, given_up="", overdue=False, process=SimpleNamespace(pid=0)
        )
        pool: Any = SimpleNamespace(handles={0: self.member}, give_up=self.give_up)
        self.heartbeats = Heartbeats(
            pool,
            scoreboard,
            self.versions,
            timeout_s=TIMEOUT_S,
            load_timeout_s=lambda _: LOAD_S,
            drain_s=20.0,
            clock=lambda: self.now_s,
        )

    def give_up(self, member: Any, kind: str, why: str, drain_s: float | None = None) -> None:
        self.ended.append((kind, drain_s))
        member.given_up = why

    def beat(self) -> None:
        self.scoreboard.head(0)[BEATS] += 1

    def passes(self, seconds: float, *, beating: bool = False, step_s: float = 0.05) -> None:
        for _ in range(round(seconds / step_s)):
            self.now_s += step_s
            if beating:
                self.beat()
            self.heartbeats.tick()


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    scoreboard = Scoreboard.create(tmp_path / "board", 1)
    yield Watched(scoreboard)
    scoreboard.segment.remove()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets how long the worker has waited for a core."""
    waited = [0]
    monkeypatch.setattr(module, "waited_ns", lambda _: waited[0])

    def wait(ns: int) -> None:
        waited[0] += ns

    return wait


def test_a_worker_that_beats_lives_and_one_that_does_not_is_ended_once(watched: Watched) -> None:
    watched.passes(60, beating=True)
    assert (watched.ended, watched.heartbeats.silent()) == ([], 0)
    watched.passes(TIMEOUT_S - 1)
    assert (watched.ended, watched.heartbeats.silent()) == ([], 1)
    watched.passes(60)
    assert watched.ended == [("silent", None)]
    assert watched.heartbeats.silent() == 0


def test_a_pause_of_control_is_no_silence_of_a_worker(watched: Watched) -> None:
    watched.passes(1, beating=True)
    watched.now_s += 3600
    watched.heartbeats.tick()
    assert not watched.ended
    watched.passes(TIMEOUT_S / STEP_S * 60 - 120, step_s=60.0)
    assert not watched.ended, "each look counts for no more than STEP_S"


def test_a_worker_that_waits_for_a_core_is_given_more_time_and_not_for_ever(
    watched: Watched, waiting: Callable[[int], None]
) -> None:
    watched.passes(1, beating=True)
    for _ in range(round(TIMEOUT_S * 4)):
        waiting(900_000_000)
        watched.passes(1)
    assert not watched.ended
    for _ in range(round(TIMEOUT_S * PATIENCE)):
        waiting(900_000_000)
        watched.passes(1)
    assert watched.ended == [("silent", None)]


def test_a_process_that_starts_is_given_time_for_its_first_sign(watched: Watched) -> None:
    watched.member.state = WorkerState.STARTING
    watched.passes(BEGIN_S - 1)
    assert not watched.ended
    watched.passes(2)
    assert watched.ended == [("silent", None)]


@pytest.mark.parametrize(("state", "drain_s"), [(WorkerState.STARTING, None), (WorkerState.READY, 20.0)])
def test_a_load_without_end_ends_the_worker_though_it_beats(
    watched: Watched, state: WorkerState, drain_s: float | None
) -> None:
    watched.member.state = state
    first, second = watched.versions.of("m", 1), watched.versions.of("m", 2)
    for slot in (first, second):
        watched.scoreboard.head(0)[LOADING] = slot + 1
        watched.passes(LOAD_S - 1, beating=True)
    assert not watched.ended, "each version has the time for itself"
    watched.passes(2, beating=True)
    assert watched.ended == [("load", drain_s)]
    assert watched.member.overdue


@pytest.mark.parametrize("state", [WorkerState.DRAINING, WorkerState.DEAD])
def test_a_worker_that_is_to_end_may_be_silent(watched: Watched, state: WorkerState) -> None:
    watched.member.state = state
    watched.passes(600)
    assert not watched.ended
