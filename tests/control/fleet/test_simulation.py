"""The protocol under simulated faults and in every history of small fleets; planted mistakes are found."""

from collections.abc import Iterable

import pytest

from gateway.control.fleet.host import NO_HOLDERS
from gateway.control.fleet.store_state import Word
from loadtests.fleet import node
from loadtests.fleet.checker import ALWAYS, Checker, Stopped, Violation
from loadtests.fleet.exhaustive import explore
from loadtests.fleet.fleets import FLEETS
from loadtests.fleet.model import Budget, opened
from loadtests.fleet.planted import PLANTED, planted
from loadtests.fleet.simulation import run_seed, run_seeds

FOUND = {  # the first seed that shows the mistake, as `loadtests fleet_simulation` finds it
    "lease counted from after the exchange": 239,
    "stale epoch": 7,
    "TTL trusted": 24,
    "cached member list": 1,
    "trim before digest": 0,
    "shared incarnation": 1,
    "hold presumed closed": 139,
    "holding member brought later": 2657,
    "list of a new store trusted": 104,
    "revision of an older life counts": 1530,
    "claimed epoch opens": 138,
    "leader not fenced": 413,
    "ramp's clock lost": 81,
    "opens at once": 267,
}


def test_no_promise_is_broken_in_seeded_runs() -> None:
    counts = run_seeds(range(100))
    wanted = {
        "confirmed by all",
        "confirmed by time",
        "resumes",
        "steps",
        "takeovers",
        "digests",
        "store old",
        "store empty",
    }
    assert all(counts[name] > 5 for name in wanted), counts


@pytest.mark.slow
def test_no_promise_is_broken_in_many_seeded_runs() -> None:
    run_seeds(range(100, 1_300))  # `loadtests fleet_simulation` runs more


@pytest.mark.parametrize("seed", [39404, 62705])
def test_a_member_that_holds_is_not_forgotten_by_a_host_that_restarts(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has lost all, the member is cut off, and whoever knew of it has been started again."""
    run_seed(seed)
    monkeypatch.setattr(node, "holders", lambda host: NO_HOLDERS)
    with pytest.raises(Violation):
        run_seed(seed)


def test_a_run_is_the_same_each_time() -> None:
    assert run_seed(5) == run_seed(5)


@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_mistake_is_found_by_the_simulation(name: str) -> None:
    run_seed(FOUND[name])
    with planted(name), pytest.raises(Violation):
        run_seed(FOUND[name])


def test_every_history_of_two_hosts_and_a_stop_with_at_most_two_losses() -> None:
    found = explore(opened(2, 0, Budget(stops=1, silences=2)), 100_000)
    print(f"{found.states} distinct states, depth {found.depth}")
    assert found.complete and not found.broken and found.states > 1000


@pytest.mark.slow
@pytest.mark.parametrize("name", FLEETS)
def test_histories_of_small_fleets(name: str) -> None:
    found = explore(FLEETS[name](), 50_000)
    print(f"{name}: {found.states} distinct states, depth {found.depth}, complete: {found.complete}")
    assert not found.broken


@pytest.mark.slow
def test_all_commands_and_faults_are_in_one_history() -> None:
    found = explore(FLEETS["2 hosts: all in one history"](), 150_000)
    steps: Iterable[str] = [step.split()[0] for step in found.richest]
    assert {"stop", "resume", "join", "leave", "restart", "flush"} <= set(steps)


@pytest.mark.parametrize(
    ("name", "budget", "hold"),
    [
        ("lease counted from after the exchange", Budget(stops=1, delays=1, silences=2), False),
        ("hold presumed closed", Budget(stops=1), True),
        ("list of a new store trusted", Budget(stops=1, flushes=1), False),
        ("stale epoch", Budget(stops=2, resumes=1), False),
    ],
)
def test_a_planted_mistake_is_found_by_the_exhaustive_check(name: str, budget: Budget, hold: bool) -> None:
    with planted(name):
        found = explore(opened(2, 0, budget, hold=hold), 100_000)
    assert found.broken, found


@pytest.mark.parametrize(("kept_until_ns", "excused"), [(305, True), (315, False)])
def test_snapshot_of_a_store_that_had_lost_a_stop_has_it_only_once_a_host_has_brought_it_back(
    kept_until_ns: int, excused: bool
) -> None:
    checker = Checker(shortest_ns=50, interval_ns=1)
    stopped = Stopped(epoch=1, person=True, executed_ns=100, life=0)
    checker.confirmed("m/2", stopped)
    checker.new_life(200, ALWAYS)
    checker.executed(300, {}, told=False)
    checker.executed(310, {"m/2": Word(1, 1)}, told=True)
    assert checker.dead("m/2", 1) == stopped
    checker.new_life(400, kept_until_ns)
    checker.executed(410, {}, told=False)
    assert checker.dead("m/2", 1) == (None if excused else stopped)
