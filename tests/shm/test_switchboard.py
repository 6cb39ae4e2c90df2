"""Release switches as several processes see them: two mappings of one file."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.shm.scoreboard import HEAD, LATE_SENDS
from gateway.shm.segment import SharedSegment
from gateway.shm.switch import Gate, Switch
from gateway.shm.switchboard import FOREVER_NS, HEARTBEAT, NEVER_NS, Switchboard

DEAD_AFTER_NS = 1_000_000_000


@pytest.fixture
def control(tmp_path: Path) -> Switchboard:
    board = Switchboard.create(tmp_path / "board", 2)
    board.heartbeat()
    return board


def switch(control: Switchboard, worker: int, slot: int = 3) -> Switch:
    board = Switchboard.attach(control.segment.path, 2)
    return Switch(board, slot, worker, DEAD_AFTER_NS)


def now(control: Switchboard) -> int:
    return control.words[0]


def test_stop_is_seen_by_every_worker_and_by_no_other_release(control: Switchboard) -> None:
    first, second, other = switch(control, 0), switch(control, 1), switch(control, 0, slot=4)
    assert not any(each.stopped(now(control)) for each in (first, second, other))
    control.stop(3)
    assert first.stopped(now(control)) and second.stopped(now(control))
    assert not other.stopped(now(control))
    control.resume(3)
    assert not first.stopped(now(control))


def test_trip_by_one_worker_stops_all_workers(control: Switchboard) -> None:
    first, second = switch(control, 0), switch(control, 1)
    first.stopped(now(control))
    first.trip(first.epoch)
    assert second.stopped(now(control))
    assert control.stopped(3)
    assert control.tripped_by(3) == [0]


def test_late_trip_does_not_stop_a_release_resumed_since(control: Switchboard) -> None:
    worker = switch(control, 1)
    worker.stopped(now(control))
    epoch = worker.epoch
    control.stop(3)
    control.resume(3)
    worker.trip(epoch)
    assert not worker.stopped(now(control))
    assert not control.stopped(3)


def test_late_trip_does_not_undo_a_later_one(control: Switchboard) -> None:
    worker = switch(control, 1)
    control.resume(3)
    worker.trip(2)
    worker.trip(1)
    assert worker.stopped(now(control))


def test_without_a_heartbeat_every_release_is_stopped(control: Switchboard) -> None:
    worker = switch(control, 0)
    assert not worker.stopped(now(control) + DEAD_AFTER_NS)
    assert worker.stopped(now(control) + DEAD_AFTER_NS + 1)


def test_gate_counts_a_send_as_begun_and_ended(control: Switchboard) -> None:
    gate = Gate(Switchboard.attach(control.segment.path, 2), 1, memoryview(bytes(HEAD * 8)).cast("q"))
    with gate:
        assert control.sends(1) == (1, 0)
    assert control.sends(1) == (1, 1)
    assert control.sends(0) == (0, 0)
    control.begin(1, [])
    assert control.sends(1) == (0, 0)


def test_deferred_sends_end_in_their_order(control: Switchboard) -> None:
    """The first is still to be written when the second, which sends nothing because of a stop, has ended."""
    gate = Gate(Switchboard.attach(control.segment.path, 2), 1, memoryview(bytes(HEAD * 8)).cast("q"))
    turn: list[Callable[[], None]] = []
    gate.defer_exit(turn.append)
    with gate:
        pass
    begun, _ = control.sends(1)
    with gate:
        pass
    assert (begun, control.sends(1)) == (1, (2, 0)), "who waits for the first goes on waiting"
    for end in turn:
        end()
    assert control.sends(1) == (2, 2)


@pytest.mark.parametrize("deferred", [False, True])
def test_send_that_ends_after_the_lease_is_counted(control: Switchboard, deferred: bool) -> None:
    head = memoryview(bytearray(HEAD * 8)).cast("q")
    worker, gate, turn = switch(control, 1), Gate(control, 1, head), list[Callable[[], None]]()
    if deferred:
        gate.defer_exit(turn.append)
    for late in range(3):
        with gate:
            assert not worker.stopped(gate.now_ns())
            if not deferred and late:
                control.words[HEARTBEAT] -= 2 * DEAD_AFTER_NS
            gate.sent(worker.lapsed)
        if deferred and late:
            control.words[HEARTBEAT] -= 2 * DEAD_AFTER_NS
        while turn:
            turn.pop(0)()
        assert head[LATE_SENDS] == late
        control.heartbeat()


def test_file_that_is_no_switchboard_is_refused(tmp_path: Path, control: Switchboard) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        SharedSegment.attach(tmp_path / "absent", 1)
    (tmp_path / "text").write_bytes(b"no memory of ours, surely not!!!" * 4)
    with pytest.raises(SettingsError, match="is not shared memory"):
        SharedSegment.attach(tmp_path / "text", 1)
    with pytest.raises(SettingsError, match="of this version"):
        Switchboard.attach(control.segment.path, 3)


def test_too_little_memory_is_reported_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"needs .* MiB, but only .* free; .*--shm-size"):
        SharedSegment.create(tmp_path / "huge", 2**57, 1)


def test_create_replaces_the_file_of_a_killed_run_and_orphans_keep_theirs(control: Switchboard) -> None:
    orphan = switch(control, 0)
    control.stop(3)
    fresh = Switchboard.create(control.segment.path, 2)
    fresh.heartbeat()
    assert not fresh.stopped(3)
    assert orphan.stopped(now(control))


def test_lease_closes_every_release_when_it_ends_and_not_before(control: Switchboard) -> None:
    seen, until_ns = switch(control, 0), now(control) + DEAD_AFTER_NS // 2
    control.grant_lease(until_ns, DEAD_AFTER_NS)
    assert not seen.stopped(until_ns - 1)
    assert seen.stopped(until_ns)


def test_shorter_lease_holds_at_once_and_a_longer_one_from_the_next_heartbeat_on(control: Switchboard) -> None:
    seen, began_ns = switch(control, 0), now(control)
    control.grant_lease(NEVER_NS, DEAD_AFTER_NS)
    assert seen.stopped(began_ns)
    control.grant_lease(FOREVER_NS, DEAD_AFTER_NS)
    assert seen.stopped(began_ns), "only a tick that has done its work writes a heartbeat"
    control.heartbeat()
    assert not seen.stopped(now(control))
    assert control.heartbeat_ns == now(control)


def test_lease_keeps_no_release_open_once_control_is_dead(control: Switchboard) -> None:
    seen = switch(control, 0)
    control.grant_lease(FOREVER_NS, DEAD_AFTER_NS)
    control.heartbeat()
    assert not seen.stopped(control.heartbeat_ns + DEAD_AFTER_NS)
    assert seen.stopped(control.heartbeat_ns + DEAD_AFTER_NS + 1)


def test_clock_of_the_board_is_the_same_in_all_processes_and_counts_suspensions(control: Switchboard) -> None:
    attached = Switchboard.attach(control.segment.path, 2)
    assert abs(attached.clock.now_ns() - time.monotonic_ns()) < DEAD_AFTER_NS, "the machine was not suspended since"
    slept_ns = 3600 * DEAD_AFTER_NS
    control.segment.spare_word -= slept_ns  # as if it had been, since the board was created
    again = Switchboard.attach(control.segment.path, 2)
    assert abs(again.clock.now_ns() - time.monotonic_ns() - slept_ns) < DEAD_AFTER_NS


def test_expired_heartbeat_stops_every_release_at_once(control: Switchboard) -> None:
    seen = switch(control, 0)
    assert not seen.stopped(now(control))
    Switchboard.expire_heartbeat(control.segment.path)
    assert seen.stopped(1)
    Switchboard.expire_heartbeat(control.segment.path.with_name("absent"))
