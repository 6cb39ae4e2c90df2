"""Creating a memory file: completely or not at all, and safe from other users."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.shm.segment import SharedSegment, memory_folder


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    path = memory_folder() / f"test-segment-{os.getpid()}.test"
    yield path
    path.unlink(missing_ok=True)


def test_symlink_of_another_user_is_not_followed(path: Path, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_text("precious")
    path.with_suffix(f".{os.getpid()}").symlink_to(theirs)
    SharedSegment.create(path, 8, 1)
    assert theirs.read_text() == "precious"
    assert path.stat().st_mode & 0o777 == 0o600


def test_folder_in_place_of_the_file_is_reported(path: Path) -> None:
    path.mkdir()
    try:
        with pytest.raises(SettingsError, match="cannot be made"):
            SharedSegment.create(path, 8, 1)
    finally:
        path.rmdir()
        for left in memory_folder().glob(f"{path.stem}.*"):
            left.unlink()
