"""An unchanged file is read only now and then, and no change is missed, whatever its timestamps say."""

import os
from pathlib import Path

import pytest

from gateway.control.config import file_poll
from gateway.control.config.file_poll import REREAD_S, SETTLED_S, FilePoll
from gateway.control.config.file_snapshot import Snapshot, snapshot


class Looking:
    """Polls ten times a second on a fake clock, and counts how often the file is read."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reads = 0
        self.seen = snapshot(path)
        self._glance = FilePoll(path)
        self._now_s = 0.0
        monkeypatch.setattr(file_poll, "snapshot", self._read)

    def _read(self, path: Path) -> Snapshot:
        self.reads += 1
        return snapshot(path)

    def look(self, times: int = 1) -> bytes:
        for _ in range(times):
            self._now_s += 0.1
            self.seen = self._glance.poll(self._now_s, self.seen)
        return self.seen.content


def test_unchanged_file_is_read_rarely(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "routing.yaml"
    path.write_text("before")
    looking = Looking(path, monkeypatch)
    assert looking.look(round(SETTLED_S * 10) + 2) == b"before"
    reads = looking.reads
    looking.look(round(REREAD_S * 10) - 5)
    assert looking.reads == reads
    looking.look(10)
    assert looking.reads == reads + 1


@pytest.mark.parametrize("settled", [False, True])
def test_change_with_unchanged_size_and_times_is_seen_at_the_next_poll(
    settled: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, other = tmp_path / "routing.yaml", tmp_path / "other"
    path.write_text("before")
    looking = Looking(path, monkeypatch)
    looking.look(30 if settled else 1)
    times = path.stat()
    path.write_text("behind")  # as long as before, in the same place, and with the same times
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert looking.look() == b"behind"
    looking.look(30 if settled else 1)
    other.write_text("beside")
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)
    assert looking.look() == b"beside"
    looking.look(30 if settled else 1)
    path.unlink()
    looking.look()
    assert looking.seen.error
    path.symlink_to(other)
    looking.look(30)
    assert "not there" in looking.seen.error
    other.write_text("linked")
    assert looking.look() == b"linked"
