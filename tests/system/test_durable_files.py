"""Replacing a file: whole after a kill at any moment, synced in the right order, and as before where it fails."""

import errno
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.system.durable_files import replace_durably, replacing, write_all

SIZE = 1 << 20
REPLACES = f"""
import itertools, pathlib, sys
from gateway.system.durable_files import replace_durably
for letter in itertools.cycle([b"a", b"b"]):
    replace_durably(pathlib.Path(sys.argv[1]), letter * {SIZE})
    print(flush=True)
"""


def test_a_kill_at_any_moment_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for turn in range(6):
        with subprocess.Popen([sys.executable, "-c", REPLACES, str(path)], stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            writer.stdout.readline()
            until_s = time.monotonic() + turn * 0.0017
            while time.monotonic() < until_s:
                assert path.read_bytes() in (b"a" * SIZE, b"b" * SIZE)
            writer.kill()
        assert path.read_bytes() in (b"a" * SIZE, b"b" * SIZE)
    replace_durably(path, b"c")  # over what the kill may have left
    assert (path.read_bytes(), list(tmp_path.iterdir())) == (b"c", [path])


def test_the_content_is_synced_before_it_has_the_name_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[tuple[str, bytes]] = []
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fsync(file: int) -> None:
        synced.append((os.readlink(f"/proc/self/fd/{file}"), path.read_bytes()))

    monkeypatch.setattr(os, "fsync", fsync)
    replace_durably(path, b"new")
    assert synced == [(f"{path}.new", b"old"), (str(tmp_path), b"new")]


@pytest.mark.parametrize("step", ["body", "last moment", "sync", "open"])
def test_a_failure_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fails(*given: object) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    if step == "sync":
        monkeypatch.setattr(os, "fsync", fails)
    if step == "open":
        (tmp_path / "file.new").mkdir()
    before = fails if step == "last moment" else lambda: None
    files = os.listdir("/proc/self/fd")
    with pytest.raises(OSError), replacing(path, before_replace=before) as file:
        write_all(file, b"new")
        if step == "body":
            fails()
    assert path.read_bytes() == b"old"
    assert len(os.listdir("/proc/self/fd")) == len(files)
    assert [found.name for found in tmp_path.iterdir() if found.is_file()] == ["file"]


@pytest.mark.parametrize(("error", "raised"), [(errno.EINVAL, False), (errno.ENOTSUP, False), (errno.EIO, True)])
def test_a_file_system_that_cannot_sync_folders_is_used_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: int, raised: bool
) -> None:
    def fsync(file: int) -> None:
        if stat.S_ISDIR(os.fstat(file).st_mode):
            raise OSError(error, os.strerror(error))

    monkeypatch.setattr(os, "fsync", fsync)
    if raised:
        with pytest.raises(OSError):
            replace_durably(tmp_path / "file", b"new")
    else:
        replace_durably(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_mode_holds_whatever_a_killed_run_left(tmp_path: Path) -> None:
    (tmp_path / "file.new").write_bytes(b"left")
    (tmp_path / "file.new").chmod(0o666)
    replace_durably(tmp_path / "file", b"secret", mode=0o600)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o600


def test_an_exclusive_file_is_no_one_elses(tmp_path: Path) -> None:
    """As where another user of /dev/shm has put a link in the unfinished file's place."""
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"theirs")
    (tmp_path / "file.new").symlink_to(theirs)
    with replacing(tmp_path / "file", mode=0o600, exclusive=True) as file:
        write_all(file, b"ours")
    assert (theirs.read_bytes(), (tmp_path / "file").read_bytes()) == (b"theirs", b"ours")
    assert not (tmp_path / "file").is_symlink()


def test_an_empty_and_a_large_content_are_written_whole(tmp_path: Path) -> None:
    for content in (b"", b"x" * (64 << 20)):
        replace_durably(tmp_path / "file", content)
        assert (tmp_path / "file").stat().st_size == len(content)
