"""Which candidate a worker's death is attributed to, and when that candidate is stopped."""

import signal
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.control.pool.death_attribution import WINDOW_S, DeathAttribution
from gateway.control.pool.worker_handle import WorkerActivity

ONE, OTHER = ("m", 2), ("n", 7)


class Played:
    """Worker deaths, with a clock and epochs that a test sets. `stopped`: by name and version, and why."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.epochs: dict[tuple[str, int], int] = {ONE: 1, OTHER: 1}
        self.stopped: list[tuple[str, int]] = []
        self.reasons: list[str] = []
        self.deaths = DeathAttribution(self._stop, self.epochs.get, lambda: self.now_s)

    def _stop(self, name: str, version: int, by: str, reason: str, evidence: dict[str, Any]) -> None:
        self.stopped.append((name, version))
        self.reasons.append(reason)

    def dies(self, code: int, *running: tuple[str, int]) -> bool:
        member: Any = SimpleNamespace(index=0, last_activity=WorkerActivity(running=running))
        return self.deaths.attribute(member, code)


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGABRT, signal.SIGFPE, signal.SIGBUS, signal.SIGILL])
def test_crash_is_attributed_at_once_where_one_candidate_ran(number: int) -> None:
    played = Played()
    assert played.dies(-number, ONE)
    assert played.stopped == [ONE]
    assert signal.Signals(number).name in played.reasons[0]


def test_kill_is_attributed_the_second_time() -> None:
    played = Played()
    assert [played.dies(-signal.SIGKILL, ONE) for _ in range(2)] == [False, True]
    assert played.reasons == ["2 workers within an hour died while it ran, the last by SIGKILL"]


def test_of_several_candidates_the_one_that_ran_twice_is_stopped() -> None:
    played = Played()
    assert not played.dies(-signal.SIGSEGV, ONE, OTHER)
    assert played.dies(-signal.SIGKILL, ONE)
    assert played.stopped == [ONE]


@pytest.mark.parametrize("code", [0, 1, 3, -signal.SIGTERM, -signal.SIGINT])
def test_intended_exit_is_attributed_to_no_candidate(code: int) -> None:
    played = Played()
    assert not any(played.dies(code, ONE) for _ in range(5))


def test_deaths_long_ago_or_before_a_resume_do_not_count() -> None:
    played = Played()
    for _ in range(4):
        assert not played.dies(-signal.SIGKILL, ONE)
        played.now_s += WINDOW_S + 1
    played.dies(-signal.SIGKILL, OTHER)
    played.epochs[OTHER] += 1
    assert not played.dies(-signal.SIGKILL, OTHER)
    assert not played.stopped


def test_candidate_already_stopped_or_gone_is_not_stopped() -> None:
    played = Played()
    del played.epochs[ONE]
    assert not any(played.dies(-signal.SIGSEGV, ONE) for _ in range(3))
