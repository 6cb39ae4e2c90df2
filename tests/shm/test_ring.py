"""The ring as both of its ends see it: two mappings of one file, with any order of appends, drains and crashes."""

import mmap
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from gateway.errors import SettingsError
from gateway.shm.process_identity import UNKNOWN, start_ticks
from gateway.shm.ring import OWNER_PID, OWNER_START_TICKS, Drain, Ring
from gateway.shm.segment import memory_folder

SIZE = 256  # small, so that everything wraps again and again


@pytest.fixture
def ring(tmp_path: Path) -> Ring:
    return Ring.create(tmp_path / "a.ring", SIZE)


def take(ring: Ring) -> bytes:
    data = bytes(ring.pending(1 << 62))
    ring.release(len(data))
    return data


def test_appended_entries_are_taken_once_and_in_order(ring: Ring) -> None:
    writer = Ring.attach(ring.segment.path)
    assert ring.empty
    assert writer.append(b"one\n") and writer.append(b"two\n")
    assert not ring.empty
    assert ring.pending(4) == b"one\n"
    assert take(ring) == b"one\ntwo\n"
    assert ring.empty and take(ring) == b""


@pytest.mark.parametrize("size", [1, 8, SIZE - 1, SIZE])
def test_entry_as_large_as_the_ring_fits_at_any_position(ring: Ring, size: int) -> None:
    for _ in range(3 * SIZE // size + 3):
        entry = os.urandom(size)
        assert ring.append(entry)
        assert take(ring) == entry


def test_full_ring_refuses_an_entry_and_loses_nothing(ring: Ring) -> None:
    assert not ring.append(b"x" * (SIZE + 1))
    assert ring.append(b"a" * (SIZE - 3))
    assert not ring.fits(4) and not ring.append(b"bbbb")
    assert ring.fits(3) and ring.append(b"ccc")
    assert not ring.append(b"d")
    assert take(ring) == b"a" * (SIZE - 3) + b"ccc"
    assert ring.append(b"d" * SIZE)


def test_writer_sees_space_freed_through_another_mapping(ring: Ring) -> None:
    writer = Ring.attach(ring.segment.path)
    assert writer.append(b"x" * SIZE)
    assert not writer.append(b"y")
    ring.release(len(ring.pending(10)))
    assert writer.append(b"y" * 10)
    assert not writer.append(b"z")


def test_writer_restarts_at_the_front_of_an_empty_ring(ring: Ring) -> None:
    writer = Ring.attach(ring.segment.path)
    assert writer.append(b"a" * 200) and take(ring) == b"a" * 200
    assert writer.append(b"b" * 200)
    assert b"b" * 200 in bytes(ring.segment.raw), "in one piece"
    assert not writer.append(b"c" * 57) and writer.append(b"c" * 56), "no less room than before"
    heir = Ring.attach(ring.segment.path)
    assert take(heir) == b"b" * 200 + b"c" * 56
    assert Ring.attach(ring.segment.path).append(b"d" * SIZE) and take(ring) == b"d" * SIZE


def test_entry_not_yet_taken_keeps_its_place(ring: Ring) -> None:
    writer = Ring.attach(ring.segment.path)
    assert writer.append(b"a" * 200)
    ring.release(199)
    assert writer.append(b"b" * 200)
    assert take(ring) == b"a" + b"b" * 200


def test_lines_returns_whole_lines_and_at_least_one(ring: Ring) -> None:
    for at in (0, 100, 120):  # where they begin: twice the long one lies across the end
        assert ring.append(b"x" * at) and take(ring) == b"x" * at
        for line in (b"one\n", b"three\n", b"y" * 150 + b"\n"):
            assert ring.append(line)
        found = []
        while data := bytes(ring.lines(12)):
            found.append(data)
            ring.release(len(data))
        assert found == [b"one\nthree\n", b"y" * 150 + b"\n"]


def test_lines_across_the_end_are_returned_in_the_same_chunks(ring: Ring) -> None:
    assert ring.append(b"x" * 120) and take(ring)
    lines = [b"%02d" % number + b"y" * 17 + b"\n" for number in range(12)]  # 20 bytes: the seventh lies across the end
    for line in lines:
        assert ring.append(line)
    found = []
    while data := bytes(ring.lines(100)):
        found.append(len(data))
        ring.release(len(data))
    assert found == [100, 100, 40]


def test_ring_of_the_previous_version_can_be_read(ring: Ring) -> None:
    assert ring.append(b"one\n")
    header = memoryview(ring.segment.raw).cast("q")
    header[1] = 0x524E_0001_0000
    assert take(Ring.attach(ring.segment.path)) == b"one\n"


def test_drain_counts_as_interrupted_until_released_or_undone(ring: Ring) -> None:
    ring.append(b"first\nsecond\n")
    assert ring.interrupted is None
    ring.begin_drain(6, segment=7, offset=1234)
    assert Ring.attach(ring.segment.path).interrupted == Drain(6, 7, 1234)
    ring.release(6)
    assert ring.interrupted is None
    ring.begin_drain(7, segment=8, offset=0)
    heir = Ring.attach(ring.segment.path)
    heir.undo_drain()
    assert heir.interrupted is None
    assert take(heir) == b"second\n"


def test_owner_lives_until_its_process_has_ended(ring: Ring) -> None:
    assert not ring.owner_lives, "no one has taken it yet"
    code = (
        "import sys; from pathlib import Path; from gateway.shm.ring import Ring\n"
        "ring = Ring.attach(Path(sys.argv[1])); ring.own(); ring.append(b'mine\\n')\n"
        "print(flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(ring.segment.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        owner.stdout.readline()
        assert ring.owner_lives
        owner.kill()
        owner.wait()
        assert not ring.owner_lives
    assert take(ring) == b"mine\n"


def test_reused_pid_is_not_taken_for_the_owner(ring: Ring) -> None:
    ring.own()
    assert ring.owner_lives
    ring.segment.words[OWNER_START_TICKS] -= 1
    assert not ring.owner_lives
    ring.segment.words[OWNER_PID] = 2**22 + 1  # beyond any pid
    ring.segment.words[OWNER_START_TICKS] = UNKNOWN
    assert not ring.owner_lives


def test_start_ticks_of_a_zombie_is_unknown() -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as child:
        assert start_ticks(child.pid) > 0
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert Path(f"/proc/{child.pid}/stat").exists()
        assert start_ticks(child.pid) == UNKNOWN


def test_start_ticks_identifies_a_process() -> None:
    assert start_ticks(os.getpid()) == start_ticks(os.getpid()) > 0
    assert start_ticks(2**22 + 1) == UNKNOWN


def test_file_that_is_no_ring_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        Ring.attach(tmp_path / "missing.ring")
    (tmp_path / "short.ring").write_bytes(b"")
    with pytest.raises(SettingsError, match="cannot be read"):
        Ring.attach(tmp_path / "short.ring")
    (tmp_path / "other.ring").write_bytes(bytes(4096))
    with pytest.raises(SettingsError, match="no shared memory"):
        Ring.attach(tmp_path / "other.ring")


def test_ring_without_enough_memory_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SettingsError, match="are free"):
        Ring.create(tmp_path / "huge.ring", 1 << 60)

    def taken(*arguments: object) -> mmap.mmap:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", taken)
    with pytest.raises(SettingsError, match="No space left on device"):
        Ring.create(tmp_path / "late.ring", SIZE)
    assert list(tmp_path.iterdir()) == []


def test_writer_killed_at_any_moment_leaves_no_partial_entry(tmp_path: Path) -> None:
    ring = Ring.create(tmp_path / "killed.ring", 1 << 16)
    code = (
        "import sys; from pathlib import Path; from gateway.shm.ring import Ring\n"
        "ring = Ring.attach(Path(sys.argv[1])); ring.own(); n = int(sys.argv[2])\n"
        "while True:\n"
        "    n += ring.append(b'%d:' % n + b'x' * (n * 37 % 997) + b'\\n')\n"
    )
    taken, following = b"", 0
    for _ in range(4):
        writer = subprocess.Popen([sys.executable, "-c", code, str(ring.segment.path), str(following)])
        end = time.monotonic() + 30
        begun = len(taken)
        while len(taken) < begun + (1 << 17) and time.monotonic() < end:
            taken += take(ring)
        writer.send_signal(signal.SIGKILL)
        writer.wait()
        taken += take(ring)
        assert len(taken) > begun, "the writer has written nothing within 30 s"
        following = taken.count(b"\n")
    assert taken.endswith(b"\n")
    for number, line in enumerate(taken.splitlines()):
        assert line == b"%d:" % number + b"x" * (number * 37 % 997)


@given(st.lists(st.binary(min_size=1, max_size=SIZE // 3), max_size=60), st.randoms())
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_entries_pass_through_unchanged(tmp_path: Path, entries: list[bytes], choice: object) -> None:
    ring = Ring.create(tmp_path / "any.ring", SIZE)
    taken = b""
    for entry in entries:
        while not ring.append(entry):
            part = ring.pending(1 + choice.randrange(SIZE))  # type: ignore[attr-defined]
            taken += part
            ring.release(len(part))
    assert taken + take(ring) == b"".join(entries)


class RingMachine(RuleBasedStateMachine):
    """Compared with a model of two byte strings: what is written for good, and what waits.

    A sink stands for the segment file: it may hold half of a drain when its process dies."""

    def __init__(self) -> None:
        super().__init__()
        self.path = memory_folder() / f"test-ring-{os.getpid()}-{id(self)}.ring"
        self.reader = Ring.create(self.path, SIZE)
        self.writer = Ring.attach(self.path)
        self.waiting = b""
        self.expected = b""
        self.sink = bytearray()
        self.draining = b""

    def teardown(self) -> None:
        self.reader.remove()

    @rule(entry=st.binary(min_size=0, max_size=SIZE + 2))
    def append(self, entry: bytes) -> None:
        fits = len(self.waiting) + len(entry) <= SIZE
        assert self.writer.fits(len(entry)) == fits
        assert self.writer.append(entry) == fits
        if fits:
            self.waiting += entry
            self.expected += entry

    @precondition(lambda self: not self.draining)
    @rule(most=st.integers(min_value=1, max_value=SIZE + 1))
    def begin(self, most: int) -> None:
        data = self.reader.pending(most)
        assert data == self.waiting[:most]
        if data:
            self.reader.begin_drain(len(data), 1, len(self.sink))
            self.draining = data

    @precondition(lambda self: self.draining)
    @rule()
    def finish(self) -> None:
        self.sink += self.draining
        self.reader.release(len(self.draining))
        self.waiting = self.waiting[len(self.draining) :]
        self.draining = b""

    @precondition(lambda self: self.draining)
    @rule(written=st.integers(min_value=0, max_value=SIZE))
    def reader_dies_while_it_drains(self, written: int) -> None:
        self.sink += self.draining[:written]
        self.draining = b""
        self.reader_is_replaced()

    @precondition(lambda self: not self.draining)
    @rule()
    def reader_is_replaced(self) -> None:
        self.reader = Ring.attach(self.path)
        drain = self.reader.interrupted
        if drain is not None:
            del self.sink[drain.offset :]
            self.reader.undo_drain()

    @rule()
    def writer_is_replaced(self) -> None:
        self.writer = Ring.attach(self.path)
        self.writer.own()

    @invariant()
    def nothing_is_lost_and_nothing_comes_twice(self) -> None:
        if not self.draining:
            assert self.reader.interrupted is None
            assert bytes(self.sink) + self.reader.pending(1 << 62) == self.expected
        assert self.reader.empty == (not self.waiting)


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=100, stateful_step_count=60, deadline=None)
