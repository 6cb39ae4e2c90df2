"""Slots: kept as long as they are used, reused only when no worker uses them, thousands of versions over time."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.errors import SettingsError
from gateway.shm import slots as slots_module
from gateway.shm.scoreboard import Scoreboard
from gateway.shm.segment import WORD
from gateway.shm.slots import EARLIER_MODELS, EARLIER_VERSIONS, MAX_REMOVED, Slots, VersionKey, VersionSlots
from gateway.shm.switch import Switch
from gateway.shm.switchboard import RELEASES, Switchboard
from gateway.shm.tally import BLOCK, TRIPS, Tally
from gateway.worker.models.shared_state import SharedState

WORKERS = 2
DEAD_AFTER_NS = 10**18


class Life:
    """Control's slots on real boards, and two workers that attach to them as real processes do."""

    def __init__(self, folder: Path, capacity: int, release_capacity: int = RELEASES) -> None:
        self.scoreboard = Scoreboard.create(folder / "scores", WORKERS)
        self.board = Switchboard.create(folder / "switches", WORKERS)
        self.board.heartbeat()
        self.versions = VersionSlots(capacity, self.scoreboard)
        self.releases = Slots(release_capacity, "releases", self.board)
        scores, switches = self.scoreboard.segment.path, self.board.segment.path
        self.workers = [
            SharedState(
                Switchboard.attach(switches, WORKERS),
                Scoreboard.attach(scores, WORKERS),
                worker,
                heartbeat_timeout_ns=DEAD_AFTER_NS,
                versions={},
                releases={},
                on_trip=lambda *trip: None,
            )
            for worker in range(WORKERS)
        ]

    def serve(self, keys: set[VersionKey]) -> list[dict[VersionKey, tuple[Tally, Switch]]]:
        """Control plans these versions, all as candidates, and each worker attaches to their tallies and switches."""
        versions = {key: self.versions.of(*key) for key in keys}
        releases = {key: self.releases.of(*key) for key in keys}
        held = []
        for worker in self.workers:
            worker.update_slots(versions, releases)
            held.append({key: (worker.tally(*key), switched(worker, key)) for key in keys})
        return held

    def sweep(self, wanted: set[VersionKey]) -> list[VersionKey]:
        for worker in self.workers:
            worker.release_ended()
        self.releases.sweep(wanted.__contains__)
        return self.versions.sweep(wanted.__contains__)

    def ok(self) -> dict[VersionKey, int]:
        """The exported numbers of predictions by version."""
        return {key: totals.success[0] for key, totals in self.versions.totals()}


def switched(worker: SharedState, key: VersionKey) -> Switch:
    switch = worker.switch(*key)
    assert isinstance(switch, Switch)
    return switch


@pytest.fixture
def life(tmp_path: Path) -> Life:
    return Life(tmp_path, 8)


@pytest.mark.parametrize("versions", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_thousands_of_versions_use_a_few_slots_in_turn(tmp_path: Path, versions: int) -> None:
    life = Life(tmp_path, 6, 6)
    held = life.serve({("model", 1)})
    for version in range(2, versions + 2):
        before, held = held, life.serve({("model", version - 1), ("model", version)})
        pairs = [worker["model", version] for worker in held]
        assert not any(switch.stopped(life.board.words[0]) for _, switch in pairs)
        for tally, switch in pairs:
            tally.success("candidate", 1, 1)
            switch.trip(switch.epoch)  # every candidate is stopped, and none of the next ones by that
        before[0]["model", version - 1][1].trip(1)  # late, on behalf of a release that is over
        del before, pairs, tally, switch
        life.sweep({("model", version - 1), ("model", version)})
    totals = life.ok()
    assert sum(totals.values()) == WORKERS * versions
    assert len(totals) <= MAX_REMOVED + 4
    assert totals["model", EARLIER_VERSIONS] > 0
    assert (tmp_path / "scores").stat().st_blocks * 512 < 6 * WORKERS * BLOCK * WORD + 2**16, "memory for few slots"


def test_slot_is_not_reused_while_a_worker_may_count_on_it(life: Life) -> None:
    first, second = life.serve({("a", 1)})
    slot = life.versions.of("a", 1)
    late = second["a", 1][0]
    del first, second
    assert life.sweep(set()) == []
    assert life.versions.of("b", 1) != slot
    late.success("stable", 5, 5)
    del late
    assert life.sweep({("b", 1)}) == [("a", 1)]
    assert life.versions.of("c", 1) == slot
    assert life.ok() == {("a", 1): 1, ("b", 1): 0, ("c", 1): 0}


def test_slots_of_dead_workers_are_freed_when_replacements_begin(life: Life) -> None:
    first, second = life.serve({("a", 1)})
    life.sweep(set())
    for worker in range(WORKERS):
        life.scoreboard.begin(worker, life.versions.slots())
        life.board.begin(worker, life.releases.slots())
    assert life.sweep(set()) == [("a", 1)]
    assert not life.releases.slots()
    assert first and second


def test_version_that_returns_continues_from_its_totals(life: Life) -> None:
    for round_ in range(1, 4):
        held = life.serve({("a", 1)})
        for worker in held:
            worker["a", 1][0].success("stable", 7, 7)
            worker["a", 1][0].waiting(1)  # its process is killed
        assert life.scoreboard.totals(life.versions.of("a", 1)).success == (2 * round_, 14 * round_)
        del held, worker
        life.sweep(set())
        other = life.serve({("b", round_)})
        assert life.scoreboard.totals(life.versions.of("b", round_)).success == (0, 0)
        del other
        life.sweep(set())
        assert life.ok()["a", 1] == 2 * round_
        assert {totals.waiting for _, totals in life.versions.totals()} == {0}


def test_release_with_a_new_slot_begins_unstopped_in_a_new_epoch(life: Life) -> None:
    slot = life.releases.of("a", 2)
    held = life.serve({("a", 2)})
    old = held[0]["a", 2][1]
    assert not old.stopped(life.board.words[0])
    epoch = old.epoch
    life.board.set_weights(slot, [7, 8])
    life.board.stop(slot)
    words = life.board.words
    assert life.board.held(slot)
    held.clear()
    del old
    life.sweep(set())
    assert life.releases.of("b", 2) == slot
    assert not life.board.stopped(slot)
    assert life.board.weights_ppm(slot, 2) == [0, 0]
    assert life.board.epoch(slot) > epoch
    words[life.board.first_word(slot) + 2] = epoch  # a breaker of the one before, too late
    assert not life.board.stopped(slot)


def test_full_slots_are_reported_and_freed_by_a_sweep(tmp_path: Path) -> None:
    slots = Slots(2, "model versions")
    assert [slots.of("a", 1), slots.of("b", 1), slots.of("a", 1)] == [0, 1, 0]
    with pytest.raises(SettingsError, match=r"no more than 2 model versions can be in use at once"):
        slots.of("c", 1)
    assert slots.sweep({("b", 1)}.__contains__) == [("a", 1)]
    assert slots.of("c", 1) == 0


def test_full_memory_refuses_the_version_and_affects_no_other(life: Life, monkeypatch: pytest.MonkeyPatch) -> None:
    life.versions.of("a", 1)

    looked_at: list[int] = []

    def full(slot: int) -> None:
        raise SettingsError("/dev/shm", ["shared memory is full"])

    with monkeypatch.context() as patched:
        patched.setattr(life.scoreboard, "open", full)
        patched.setattr(life.scoreboard, "held", looked_at.append)
        for _ in range(20):
            with pytest.raises(SettingsError, match="full"):
                life.versions.of("b", 1)
    assert [key for key, _ in life.versions.items()] == [("a", 1)]
    assert not looked_at, "a slot without memory must not be touched: where there is none left, that is a bus error"
    assert life.versions.of("b", 1) == 1


KEYS = st.tuples(st.sampled_from("abc"), st.integers(1, 3))
STEPS = st.lists(st.tuples(st.sets(KEYS, max_size=5), st.integers(0, 1), st.booleans()), max_size=25)


@settings(max_examples=40, deadline=None)
@given(STEPS)
def test_no_count_is_lost_or_credited_to_another_version(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[set[VersionKey], int, bool]]
) -> None:
    life = Life(tmp_path_factory.mktemp("life"), 64)
    kept: list[tuple[VersionKey, Tally]] = []  # of calls under way: they count late
    expected: dict[VersionKey, int] = {}
    for wanted, worker, keeps in steps:
        held = life.serve(wanted)
        for key in wanted:
            tally = held[worker][key][0]
            tally.success("stable", 1, 1)
            expected[key] = expected.get(key, 0) + 1
            if keeps:
                kept.append((key, tally))
        del held
        if wanted:
            del tally
        life.sweep(wanted)
        if not keeps:
            for key, late in kept:
                late.success("stable", 1, 1)
                expected[key] += 1
            kept.clear()
            late = None  # type: ignore[assignment]
        given_slots = [slot for _, slot in life.versions.items()]
        assert len(given_slots) == len(set(given_slots))
        assert {key: count for key, count in life.ok().items() if count} == expected


def test_number_of_removed_versions_with_totals_is_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(slots_module, "MAX_REMOVED", 3)
    life = Life(tmp_path, 4)
    seen = 0
    for version in range(1, 20):
        held = life.serve({("m", version)})
        held[1]["m", version][0].success("stable", 1, 1)
        held.clear()
        life.sweep(set())
        totals = life.ok()
        assert sum(totals.values()) == version > seen
        assert len(totals) <= 4
        seen = version


def test_last_success_is_kept_and_a_trip_is_not_when_a_version_returns(life: Life) -> None:
    now_ns = 10**12
    for worker in (held := life.serve({("a", 1)})):
        tally = worker["a", 1][0]
        tally.success("stable", 1, now_ns)
        tally.tripped(TRIPS[2])
    del worker, tally
    held.clear()
    life.sweep(set())
    slot = life.versions.of("a", 1)
    assert life.scoreboard.last_success_ns(slot) == now_ns
    assert life.scoreboard.trip(0, slot) == ""


def test_totals_of_a_served_model_do_not_fall_when_old_versions_are_dropped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Prometheus would take a fall for a restart, and count the remaining total again."""
    monkeypatch.setattr(slots_module, "MAX_REMOVED", 3)
    life = Life(tmp_path, 6)

    def come_and_go(key: VersionKey) -> None:
        held = life.serve({("old", 9), key})
        held[0][key][0].rescue("timeout")
        held.clear()
        life.sweep({("old", 9)})

    def rescues(model: str) -> int:
        return sum(totals.rescues["timeout"] for (name, _), totals in life.versions.totals() if name == model)

    for version in (1, 2, 1):
        come_and_go(("old", version))
    for number in range(20):
        come_and_go((f"passing-{number}", 1))
        assert rescues("old") == 3
    come_and_go(("old", 1))
    assert rescues("old") == 4
    assert rescues(EARLIER_MODELS[0]) == 20 - 3 + 1
    assert len(list(life.versions.totals())) == 1 + 3 + 2


def test_versions_of_a_model_are_those_with_a_slot(life: Life) -> None:
    slots = life.releases
    given = {key: slots.of(*key) for key in (("a", 1), ("a", 2), ("b", 1))}
    assert dict(slots.versions_of("a")) == {1: given["a", 1], 2: given["a", 2]}
    slots.sweep(lambda key: key == ("a", 2))
    assert dict(slots.versions_of("a")) == {2: given["a", 2]}
    assert not slots.versions_of("b")
    assert not slots.versions_of("c")
