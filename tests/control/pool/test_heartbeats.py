"""Workers that are silent or load too long, measured in looks and not by the clock, and allowing for a busy machine."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.control.pool import heartbeats as module
from gateway.control.pool.heartbeats import MAX_STEP_S, STARTUP_TIMEOUT_S, STARVED_LIMIT_FACTOR, Heartbeats
from gateway.control.pool.worker_handle import WorkerState
from gateway.shm.scoreboard import HEARTBEATS, LOADING, VERSIONS, Scoreboard
from gateway.shm.slots import VersionSlots

TIMEOUT_S = 5.0
LOAD_S = 30.0


class Watched:
    """A fleet of one worker whose heartbeats and loads a test controls. `ended`: what it was ended for."""

    def __init__(self, scoreboard: Scoreboard) -> None:
        self.scoreboard = scoreboard
        self.now_s = 0.0
        self.ended: list[tuple[str, float | None]] = []
        self.versions = VersionSlots(VERSIONS, scoreboard)
        self.member: Any = SimpleNamespace(
            index=0, state=WorkerState.READY, end_reason="", load_timed_out=False, process=SimpleNamespace(pid=0)
        )
        pool: Any = SimpleNamespace(handles={0: self.member}, end_worker=self.end_worker)
        self.heartbeats = Heartbeats(
            pool,
            scoreboard,
            self.versions,
            timeout_s=TIMEOUT_S,
            load_timeout_s=lambda _: LOAD_S,
            drain_s=20.0,
            clock=lambda: self.now_s,
        )

    def end_worker(self, member: Any, kind: str, why: str, drain_s: float | None = None) -> None:
        self.ended.append((kind, drain_s))
        member.end_reason = why

    def beat(self) -> None:
        self.scoreboard.head(0)[HEARTBEATS] += 1

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
    """Set how long the worker has waited for a core."""
    waited = [0]
    monkeypatch.setattr(module, "cpu_wait_ns", lambda _: waited[0])

    def wait(ns: int) -> None:
        waited[0] += ns

    return wait


def test_silent_worker_is_ended_once_and_a_beating_one_is_not(watched: Watched) -> None:
    watched.passes(60, beating=True)
    assert (watched.ended, watched.heartbeats.silent()) == ([], 0)
    watched.passes(TIMEOUT_S - 1)
    assert (watched.ended, watched.heartbeats.silent()) == ([], 1)
    watched.passes(60)
    assert watched.ended == [("silent", None)]
    assert watched.heartbeats.silent() == 0


def test_pause_of_control_does_not_count_as_silence(watched: Watched) -> None:
    watched.passes(1, beating=True)
    watched.now_s += 3600
    watched.heartbeats.tick()
    assert not watched.ended
    watched.passes(TIMEOUT_S / MAX_STEP_S * 60 - 120, step_s=60.0)
    assert not watched.ended, "each look counts for no more than STEP_S"


def test_worker_waiting_for_a_core_gets_more_time_but_a_bounded_one(
    watched: Watched, waiting: Callable[[int], None]
) -> None:
    watched.passes(1, beating=True)
    for _ in range(round(TIMEOUT_S * 4)):
        waiting(900_000_000)
        watched.passes(1)
    assert not watched.ended
    for _ in range(round(TIMEOUT_S * STARVED_LIMIT_FACTOR)):
        waiting(900_000_000)
        watched.passes(1)
    assert watched.ended == [("silent", None)]


def test_starting_process_gets_time_for_its_first_heartbeat(watched: Watched) -> None:
    watched.member.state = WorkerState.STARTING
    watched.passes(STARTUP_TIMEOUT_S - 1)
    assert not watched.ended
    watched.passes(2)
    assert watched.ended == [("silent", None)]


@pytest.mark.parametrize(("state", "drain_s"), [(WorkerState.STARTING, None), (WorkerState.READY, 20.0)])
def test_worker_that_loads_too_long_is_ended_although_it_beats(
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
    assert watched.member.load_timed_out


@pytest.mark.parametrize("state", [WorkerState.DRAINING, WorkerState.DEAD])
def test_worker_told_to_end_may_be_silent(watched: Watched, state: WorkerState) -> None:
    watched.member.state = state
    watched.passes(600)
    assert not watched.ended
