"""Memory files are removed when no process holds them, and never while one does."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.shm import segment
from gateway.shm.segment import Segment, memory_folder, memory_path, remove_leftovers


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = memory_path(tmp_path).with_suffix(".test")
    yield path
    path.unlink(missing_ok=True)


def age(path: Path) -> None:
    before = time.time() - 2 * segment.LEFT_AFTER_S
    os.utime(path, (before, before))


def test_a_file_is_removed_once_its_last_user_is_dead(path: Path) -> None:
    code = (
        "import sys, pathlib; from gateway.shm.segment import Segment\n"
        "held = Segment.{}(pathlib.Path(sys.argv[1]), {}); print(flush=True); input()"
    )
    creates = [sys.executable, "-c", code.format("create", "8, 1"), str(path)]
    attaches = [sys.executable, "-c", code.format("attach", "1"), str(path)]
    with subprocess.Popen(creates, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as control:
        assert control.stdout is not None
        control.stdout.readline()
        with subprocess.Popen(attaches, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            worker.stdout.readline()
            age(path)
            remove_leftovers()
            assert path.exists(), "both hold it"
            control.kill()
            control.wait()
            remove_leftovers()
            assert path.exists(), "an orphan holds it"
            worker.kill()
    remove_leftovers()
    assert not path.exists()


def test_a_young_file_is_left_alone(path: Path) -> None:
    path.touch()
    remove_leftovers()
    assert path.exists()
    age(path)
    remove_leftovers()
    assert not path.exists()


def test_what_another_user_has_put_in_its_way_is_not_followed(path: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    path.with_suffix(f".{os.getpid()}").symlink_to(theirs)
    Segment.create(path, 8, 1)
    assert theirs.read_text() == "precious"
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_folder_in_its_way_is_said(path: Path) -> None:
    path.mkdir()
    try:
        with pytest.raises(SettingsError, match="cannot be made"):
            Segment.create(path, 8, 1)
    finally:
        path.rmdir()
        for left in memory_folder().glob(f"{path.stem}.*"):
            left.unlink()
