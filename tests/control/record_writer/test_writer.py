"""The record writer on real rings and files, with a crash between any two of its steps."""

import errno
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.control.record_writer import writer as journal_module
from gateway.control.record_writer.segment_writer import SegmentWriter
from gateway.control.record_writer.writer import (
    BATCH_BYTES,
    CHUNK_BYTES,
    MIN_RING_TO_WAIT,
    SMALL_CHUNK_BYTES,
    RecordWriter,
    RingSource,
    StreamHook,
)
from gateway.records.segments import FEEDBACK, MIRRORS, PREDICTIONS, segment_path, segments
from gateway.settings.gateway import RecordsSettings
from gateway.shm.ring import Ring

RING = 1 << 16
PATIENCE_S = 30.0


class Bench:
    """Rings in a folder, and the record writers that drain them one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "records"
        self._rings = folder

    def ring(self, name: str, size: int = RING) -> Ring:
        return Ring.create(self._rings / f"{name}.ring", size)

    def heir(self, ring: Ring) -> Ring:
        return Ring.attach(ring.segment.path)

    def journal(self, *sources: RingSource, listeners: Any = journal_module.NO_HOOKS, **settings: Any) -> RecordWriter:
        journal = RecordWriter(self.folder, RecordsSettings(**settings), listeners)
        for source in sources:
            journal.add(source)
        return journal

    def lines(self, stream: str = PREDICTIONS) -> list[bytes]:
        return [line for path in segments(self.folder, stream) for line in path.read_bytes().splitlines(keepends=True)]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def line(number: int, size: int = 0) -> bytes:
    return b'{"n":%d,"x":"%b"}\n' % (number, b"x" * size)


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE_S:g} s: {what}"
        time.sleep(0.005)


class Disk:
    """The writer's disk, which can be full, broken or slow. It fails after `room` more bytes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.room: float = float("inf")
        self.truncates = True
        self.pause = threading.Event()
        self.pause.set()
        self._pwrite, self._ftruncate = os.pwrite, os.ftruncate
        monkeypatch.setattr(os, "pwrite", self._write)
        monkeypatch.setattr(os, "ftruncate", self._truncate)

    def _write(self, file: int, data: Any, offset: int) -> int:
        self.pause.wait()
        if self.room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._pwrite(file, memoryview(data)[: int(min(self.room, len(data)))], offset)
        self.room -= written
        return written

    def _truncate(self, file: int, size: int) -> None:
        if not self.truncates:
            raise OSError(errno.EIO, "Input/output error")
        self._ftruncate(file, size)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_streams_have_their_own_segments_which_are_sealed_at_the_end(bench: Bench) -> None:
    rings = {name: bench.ring(name) for name in (PREDICTIONS, FEEDBACK, MIRRORS)}
    journal = bench.journal(*(RingSource(ring, name) for name, ring in rings.items()))
    journal.start()
    for number, (name, ring) in enumerate(rings.items()):
        for _ in range(number + 1):
            ring.append(b'{"kind":"%b"}\n' % name.encode())
    journal.stop()
    assert journal.written == {PREDICTIONS: 1, FEEDBACK: 2, MIRRORS: 3}
    assert bench.lines(FEEDBACK) == [b'{"kind":"feedback"}\n'] * 2
    assert sorted(path.name for path in bench.folder.iterdir()) == [
        "feedback-000000001.jsonl",
        "mirrors-000000001.jsonl",
        "predictions-000000001.jsonl",
    ]
    assert all(ring.empty for ring in rings.values())


def test_writer_without_records_creates_no_file(bench: Bench) -> None:
    journal = bench.journal(RingSource(bench.ring("a"), PREDICTIONS))
    journal.start()
    journal.stop()
    assert not bench.folder.exists()


def test_writer_that_never_started_can_be_stopped(bench: Bench) -> None:
    ring = bench.ring("a")
    ring.append(line(1))
    bench.journal(RingSource(ring, PREDICTIONS)).stop()
    assert not ring.empty


def test_segments_rotate_between_lines(bench: Bench) -> None:
    ring = bench.ring("a")
    journal = bench.journal(RingSource(ring, PREDICTIONS), segment=500)
    for number in range(100):
        ring.append(line(number, 50))
        journal.drain_round()
    paths = segments(bench.folder, PREDICTIONS)
    assert len(paths) > 8
    assert all(500 <= path.stat().st_size < 600 for path in paths[:-1])
    assert all(path.read_bytes().endswith(b"\n") for path in paths)
    assert bench.lines() == [line(number, 50) for number in range(100)]


def test_oldest_predictions_are_deleted_first_and_feedback_last(bench: Bench) -> None:
    predictions, feedback = bench.ring("a"), bench.ring("b")
    journal = bench.journal(
        RingSource(predictions, PREDICTIONS), RingSource(feedback, FEEDBACK), segment=100, retain=1000
    )
    for number in range(8):
        feedback.append(line(number, 90))
        journal.drain_round()
    for number in range(40):
        predictions.append(line(number, 90))
        journal.drain_round()
    sealed = [path for path in bench.folder.iterdir() if path.suffix == ".jsonl"]
    assert sum(path.stat().st_size for path in sealed) <= 1000
    assert len(bench.lines(FEEDBACK)) == 8, "feedback is small and dear"
    assert bench.lines() == [line(39, 90)]
    for number in range(8, 40):
        feedback.append(line(number, 90))
        journal.drain_round()
    assert bench.lines() == [], "no predictions are left to delete"
    kept = bench.lines(FEEDBACK)
    assert 5 < len(kept) < 12 and kept[-1] == line(39, 90)


def test_segment_removed_by_a_log_shipper_is_no_error(bench: Bench) -> None:
    ring = bench.ring("a")
    journal = bench.journal(RingSource(ring, PREDICTIONS), segment=50, retain=100)
    for number in range(10):
        ring.append(line(number, 60))
        journal.drain_round()
        for path in segments(bench.folder, PREDICTIONS):
            path.unlink()
    assert journal.error == ""
    assert journal.written[PREDICTIONS] == 10


def test_busy_ring_does_not_delay_the_others(bench: Bench) -> None:
    """The first ring is filled faster than the writer drains it: after each chunk taken, another is there."""
    busy, quiet = bench.ring("a", 4 * CHUNK_BYTES), bench.ring("b")

    def refill(lines: bytes) -> bytes:
        while busy.append(line(1, 10_000)):
            pass
        return lines

    listeners = {MIRRORS: StreamHook(refill, lambda lines: None)}
    journal = bench.journal(RingSource(busy, MIRRORS), RingSource(quiet, PREDICTIONS), listeners=listeners)
    refill(b"")
    quiet.append(line(2))
    assert journal.drain_round(), "there is more to do"
    assert bench.lines() == [line(2)]


@pytest.mark.parametrize(
    ("size", "stream", "entry", "waits"),
    [
        (MIN_RING_TO_WAIT, PREDICTIONS, 100, True),
        (MIN_RING_TO_WAIT, PREDICTIONS, BATCH_BYTES, False),  # they are many
        (MIN_RING_TO_WAIT, FEEDBACK, 100, False),  # guards hear of it
        (RING, PREDICTIONS, 100, False),  # it might be full by then
    ],
)
def test_predictions_are_written_in_chunks_when_patient(
    bench: Bench, size: int, stream: str, entry: int, waits: bool
) -> None:
    ring = bench.ring("a", size)
    source = RingSource(ring, stream)
    journal = bench.journal(source)
    ring.append(line(1))
    journal.drain_round(patient=True)
    assert bench.lines(stream) == [line(1)], "what has waited long is taken"
    ring.append(line(2, entry))
    journal.drain_round(patient=True)
    assert ring.empty != waits
    source.drained_s -= 2 * journal_module.MAX_WAIT_S
    journal.drain_round(patient=True)
    assert bench.lines(stream) == [line(1), line(2, entry)]


def test_waiting_predictions_are_written_at_the_end(bench: Bench) -> None:
    ring = bench.ring("a", MIN_RING_TO_WAIT)
    source = RingSource(ring, PREDICTIONS, drained_s=time.monotonic() + 1000)
    ring.append(line(1))
    journal = bench.journal(source)
    journal.start()
    journal.stop()
    assert bench.lines() == [line(1)]


def test_entry_larger_than_a_chunk_is_written_whole(bench: Bench) -> None:
    ring = bench.ring("a", 4 * CHUNK_BYTES)
    journal = bench.journal(RingSource(ring, PREDICTIONS))
    large = line(1, 2 * CHUNK_BYTES)
    ring.append(large)
    ring.append(line(2))
    while not ring.empty:
        journal.drain_round()
    assert bench.lines() == [large, line(2)]


def test_line_split_at_a_chunk_boundary_is_written_whole(bench: Bench) -> None:
    ring = bench.ring("a", 4 * CHUNK_BYTES)
    journal = bench.journal(RingSource(ring, PREDICTIONS))
    lines = [line(number, CHUNK_BYTES // 3) for number in range(9)]
    for each in lines:
        ring.append(each)
    while not ring.empty:
        journal.drain_round()
        assert all(each.endswith(b"\n") for each in bench.lines())
    assert bench.lines() == lines


def test_hook_selects_the_lines_to_write_and_hears_all_once(bench: Bench, disk: Disk) -> None:
    heard: list[bytes] = []
    listeners = {FEEDBACK: StreamHook(lambda lines: b"".join(lines.splitlines(keepends=True)[::2]), heard.append)}
    ring = bench.ring("a")
    journal = bench.journal(RingSource(ring, FEEDBACK), listeners=listeners)
    for number in range(6):
        ring.append(line(number))
    disk.room = 0
    journal.drain_round()
    assert heard == [], "what is not written is not heard"
    disk.room = 1e9
    journal.drain_round()
    journal.drain_round()
    assert b"".join(heard) == b"".join(line(number) for number in range(6))
    assert bench.lines(FEEDBACK) == [line(0), line(2), line(4)]
    assert journal.written[FEEDBACK] == 3


def test_failing_hook_does_not_stop_the_writer(bench: Bench) -> None:
    def broken(lines: bytes) -> None:
        raise ZeroDivisionError

    feedback, predictions = bench.ring("a"), bench.ring("b")
    listeners = {FEEDBACK: StreamHook(lambda lines: lines, broken)}
    journal = bench.journal(RingSource(feedback, FEEDBACK), RingSource(predictions, PREDICTIONS), listeners=listeners)
    journal.start()
    feedback.append(line(1))
    until(lambda: "ZeroDivisionError" in journal.error, "the journal says what has failed")
    feedback.append(line(2))
    predictions.append(line(3))
    until(lambda: predictions.empty and feedback.empty, "the journal goes on")
    journal.stop()
    assert bench.lines(FEEDBACK) == [line(1), line(2)]
    assert bench.lines() == [line(3)]


@pytest.mark.parametrize("room", [0, 1, 30, 74])
def test_records_refused_by_a_full_disk_are_written_once_later(bench: Bench, disk: Disk, room: int) -> None:
    ring = bench.ring("a")
    journal = bench.journal(RingSource(ring, PREDICTIONS))
    ring.append(line(0))
    journal.drain_round()
    for number in range(1, 6):
        ring.append(line(number))
    disk.room = room
    for _ in range(3):
        journal.drain_round()
        disk.room = room
    assert "No space left on device" in journal.error
    assert bench.lines() == [line(0)]
    disk.room = 1e9
    journal.drain_round()
    assert journal.error == ""
    assert bench.lines() == [line(number) for number in range(6)]
    assert journal.written[PREDICTIONS] == 6


def test_stream_that_cannot_be_written_does_not_stop_others(bench: Bench) -> None:
    segment_path(bench.folder, FEEDBACK, 1, open=True).mkdir(parents=True)
    feedback, predictions = bench.ring("a"), bench.ring("b")
    journal = bench.journal(RingSource(feedback, FEEDBACK), RingSource(predictions, PREDICTIONS))
    feedback.append(line(1))
    predictions.append(line(2))
    journal.drain_round()
    assert "Is a directory" in journal.error
    assert bench.lines() == [line(2)]
    segment_path(bench.folder, FEEDBACK, 1, open=True).rmdir()
    journal.drain_round()
    assert journal.error == ""
    assert bench.lines(FEEDBACK) == [line(1)]


def test_disk_error_is_logged_once(bench: Bench, disk: Disk, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    ring = bench.ring("a")
    journal = bench.journal(RingSource(ring, PREDICTIONS))
    ring.append(line(1))
    disk.room = 0
    for _ in range(5):
        journal.drain_round()
    disk.room = 1e9
    journal.drain_round()
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


@pytest.mark.parametrize("written", [0, 1, 20, 40, 41, 60])
def test_drain_interrupted_by_a_crash_is_repeated(bench: Bench, written: int) -> None:
    ring = bench.ring("a")
    first = bench.journal(RingSource(ring, PREDICTIONS))
    ring.append(line(0))
    first.drain_round()
    data = b"".join(line(number) for number in (1, 2, 3))
    ring.append(data)
    path = segment_path(bench.folder, PREDICTIONS, 1, open=True)
    offset = path.stat().st_size
    ring.begin_drain(len(data), 1, offset)
    with path.open("r+b") as file:  # and there it was killed
        file.seek(offset)
        file.write(data[:written])
    heir = bench.heir(ring)
    journal = bench.journal(RingSource(heir, PREDICTIONS, abandoned=True))
    journal.drain_round()
    assert bench.lines() == [line(number) for number in range(4)]
    assert heir.empty and heir.interrupted is None


def test_drain_finished_but_not_released_is_not_repeated(bench: Bench) -> None:
    ring = bench.ring("a")
    ring.append(line(1) + line(2))
    ring.begin_drain(len(ring.pending(RING)), 1, 0)
    bench.folder.mkdir()
    segment_path(bench.folder, PREDICTIONS, 1, open=True).write_bytes(line(1) + line(2))
    bench.journal(RingSource(bench.heir(ring), PREDICTIONS)).drain_round()
    assert bench.lines() == [line(1), line(2)]


class Death(BaseException):
    """Stands for the end of the process at this point."""


def test_recovery_of_a_refused_drain_keeps_lines_of_other_rings(bench: Bench, disk: Disk) -> None:
    """The disk refuses the lines of worker 1, then takes those of worker 0, then all die: these are kept."""

    def die(lines: bytes) -> None:
        raise Death

    zero, one = bench.ring("0"), bench.ring("1")
    listeners = {PREDICTIONS: StreamHook(lambda lines: lines, die)}
    journal = bench.journal(RingSource(zero, PREDICTIONS), RingSource(one, PREDICTIONS), listeners=listeners)
    one.append(line(1, 100))
    disk.room = 50
    journal.drain_round()
    assert not one.empty
    zero.append(line(0))
    disk.room = 1e9
    with pytest.raises(Death):
        journal.drain_round()
    assert zero.empty and not one.empty
    heirs = [RingSource(bench.heir(ring), PREDICTIONS, abandoned=True) for ring in (zero, one)]
    bench.journal(*heirs).drain_round()
    assert bench.lines() == [line(0), line(1, 100)]


def test_no_line_is_duplicated_where_the_disk_cannot_truncate(bench: Bench, disk: Disk) -> None:
    zero, one = bench.ring("0"), bench.ring("1")
    journal = bench.journal(RingSource(zero, PREDICTIONS), RingSource(one, PREDICTIONS))
    zero.append(line(0))
    journal.drain_round()
    one.append(line(1) + line(2) + line(3, 100))
    disk.room, disk.truncates = len(line(1) + line(2)) + 10, False
    journal.drain_round()
    zero.append(line(4))
    disk.room = 1e9
    journal.drain_round()
    assert not zero.empty and not one.empty, "nothing is written before the rest is cut off"
    disk.truncates = True
    journal.drain_round()
    assert sorted(bench.lines()) == sorted([line(0), line(1), line(2), line(3, 100), line(4)])


def test_cut_refused_by_the_disk_is_done_before_the_next_write(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ring, other = bench.ring("a"), bench.ring("b")
    ring.append(line(1) + line(2))
    ring.begin_drain(len(ring.pending(RING)), 1, 0)
    bench.folder.mkdir()
    segment_path(bench.folder, PREDICTIONS, 1, open=True).write_bytes(line(1))
    other.append(line(3))
    journal = bench.journal(RingSource(other, PREDICTIONS), RingSource(bench.heir(ring), PREDICTIONS))

    def refuses(*arguments: object) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    with monkeypatch.context() as patched:
        patched.setattr(os, "truncate", refuses)
        journal.drain_round()
        assert "Read-only file system" in journal.error
        assert bench.heir(ring).interrupted is not None, "the note outlives this process too"
    journal.drain_round()
    assert sorted(bench.lines()) == [line(1), line(2), line(3)]


def test_abandoned_ring_is_drained_until_its_owner_ends_and_then_removed(bench: Bench) -> None:
    ring = bench.ring("a")
    code = (
        "import sys; from pathlib import Path; from gateway.shm.ring import Ring\n"
        "ring = Ring.attach(Path(sys.argv[1])); ring.own(); print(flush=True)\n"
        "for entry in sys.stdin.buffer:\n    ring.append(entry); print(flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(ring.segment.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdin is not None and owner.stdout is not None
        owner.stdout.readline()
        journal = bench.journal(RingSource(bench.heir(ring), PREDICTIONS, abandoned=True))
        for number in range(3):
            owner.stdin.write(line(number))
            owner.stdin.flush()
            owner.stdout.readline()
            journal.drain_round()
            assert len(bench.lines()) == number + 1
            assert ring.segment.path.exists()
        owner.stdin.write(line(3))
        owner.stdin.flush()
        owner.stdout.readline()
        owner.kill()
        owner.wait()
    journal.drain_round()
    assert bench.lines() == [line(number) for number in range(4)]
    assert not ring.segment.path.exists()


def test_abandoned_ring_is_kept_while_the_disk_refuses(bench: Bench, disk: Disk) -> None:
    ring = bench.ring("a")
    ring.append(line(1))
    journal = bench.journal(RingSource(bench.heir(ring), PREDICTIONS, abandoned=True))
    disk.room = 0
    journal.drain_round()
    assert ring.segment.path.exists()
    disk.room = 1e9
    journal.drain_round()
    assert not ring.segment.path.exists()
    assert bench.lines() == [line(1)]


def test_stop_does_not_wait_for_a_hanging_disk(bench: Bench, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "STOP_TIMEOUT_S", 0.2)
    ring = bench.ring("a")
    journal = bench.journal(RingSource(ring, PREDICTIONS))
    disk.pause.clear()
    journal.start()
    ring.append(line(1))
    started = time.monotonic()
    journal.stop()
    assert time.monotonic() - started < 10
    assert not ring.empty, "it waits in memory for the next start"
    assert ring.interrupted is not None or bench.lines() == []
    disk.pause.set()
    until(lambda: ring.empty, "the disk has come back")


def test_writer_thread_survives_an_intermittent_disk(bench: Bench, disk: Disk) -> None:
    ring = bench.ring("a", 1 << 20)
    journal = bench.journal(RingSource(ring, PREDICTIONS), segment=2000)
    journal.start()
    appended = 0
    for turn in range(20):
        disk.room = (turn % 2) * 1e9 + 37 * turn
        for _ in range(50):
            assert ring.append(line(appended))
            appended += 1
        if turn % 2:
            until(lambda: ring.empty, "the disk takes what waits")
    disk.room = 1e9
    journal.stop()
    assert bench.lines() == [line(number) for number in range(appended)]
    assert journal.written[PREDICTIONS] == appended


def test_last_space_of_a_full_disk_is_filled_in_small_pieces(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is larger than a piece is written by itself."""
    ring, write = bench.ring("a", 4 * CHUNK_BYTES), SegmentWriter.write
    lines = [line(0, 2 * SMALL_CHUNK_BYTES), *(line(number, 1000) for number in range(1, 200))]

    def takes_little(stream: SegmentWriter, data: bytes) -> None:
        if len(data) > 3 * SMALL_CHUNK_BYTES:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(stream, data)

    monkeypatch.setattr(SegmentWriter, "write", takes_little)
    journal = bench.journal(RingSource(ring, PREDICTIONS))
    for each in lines:
        assert ring.append(each)
    while not ring.empty:
        assert journal.drain_round()
    assert journal.error == ""
    assert bench.lines() == lines


def test_writing_continues_in_a_segment_that_cannot_be_sealed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    ring = bench.ring("a")
    journal = bench.journal(RingSource(ring, PREDICTIONS), segment=10)

    def refuses(stream: SegmentWriter) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(SegmentWriter, "seal", refuses)
        ring.append(line(1))
        journal.drain_round()
        assert "Input/output error" in journal.error
        ring.append(line(2))
        journal.drain_round()
    ring.append(line(3))
    journal.drain_round()
    assert journal.error == ""
    assert segment_path(bench.folder, PREDICTIONS, 1, open=False).read_bytes() == line(1) + line(2) + line(3)
