"""Ownership of memory files: by an id in the state folder, by a lock, and by what a killed run has left."""

import json
import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.errors import SettingsError
from gateway.shm import segment
from gateway.shm.claim import claim, former_name, memory_path
from gateway.shm.leftovers import remove_leftovers
from gateway.shm.owner import ID_FILE, Owner, files_of, owner_of, read_id
from gateway.shm.ring import Ring
from gateway.shm.segment import SharedSegment, memory_folder
from gateway.shm.switchboard import Switchboard

LINE = b"a record\n"
YEARS_S = 5 * 366 * 86400.0
HOLDS = """
import sys, pathlib
from gateway.shm import segment
segment.SHARED_MEMORY = pathlib.Path(sys.argv[2])
from gateway.shm.claim import claim
from gateway.shm.ring import Ring
held = claim(pathlib.Path(sys.argv[1]))
ring = Ring.create(held.path.with_name(held.name + ".1-predictions-0.ring"), 4096)
ring.own()
assert ring.append(b"a record\\n")
print(flush=True)
input()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "state"
    made.mkdir()
    return made


@pytest.fixture(autouse=True)
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for memory files: any gateway that starts on this machine removes what none needs."""
    made = tmp_path / "memory"
    made.mkdir()
    monkeypatch.setattr(segment, "SHARED_MEMORY", made)
    return made


@pytest.fixture
def running(folder: Path) -> Iterator[Callable[[Path], "subprocess.Popen[bytes]"]]:
    """A process that owns a folder's memory, with a record in a ring."""
    begun = []

    def begin(state: Path) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-c", HOLDS, str(state), str(segment.SHARED_MEMORY)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        begun.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield begin
    for process in begun:
        kill(process)


def kill(process: "subprocess.Popen[bytes]") -> None:
    with process:
        process.kill()


def age(folder: Path) -> None:
    before = time.time() - YEARS_S
    for path in memory_folder().glob(f"{memory_path(folder).name}*"):
        os.utime(path, (before, before))


def left_for(folder: Path) -> list[bytes]:
    """The records in the rings that the next start adopts."""
    held = claim(folder)
    rings = [bytes(Ring.attach(path).pending(4096)) for path in files_of(held.name) if path.suffix == ".ring"]
    held.close()
    return rings


def test_claim_keeps_its_id_and_makes_the_file_private(folder: Path) -> None:
    held = claim(folder)
    assert held.path == memory_path(folder)
    assert len(read_id(folder) or "") == 32
    assert stat.S_IMODE((folder / ID_FILE).stat().st_mode) == 0o600
    name = held.name
    held.close()
    again = claim(folder)
    assert again.name == name
    again.close()
    assert not list(memory_folder().glob(f"{name}*")), "nothing waits, and no one runs"


def test_two_folders_at_the_same_path_have_separate_memory(tmp_path: Path, folder: Path) -> None:
    first = claim(folder)
    folder.rename(tmp_path / "moved")
    folder.mkdir()
    second = claim(folder)
    assert first.name != second.name
    for held in (first, second):
        held.close()


@pytest.mark.parametrize("text", ["", "x", "0" * 31, "0" * 33, "../../etc/passwd", "G" * 32, "\x00" * 32, "\udcff"])
def test_damaged_id_file_is_refused(folder: Path, text: str) -> None:
    (folder / ID_FILE).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(SettingsError, match="32 hexadecimal digits; restore it, or remove it"):
        claim(folder)


def test_records_are_kept_for_their_folder_however_old_they_are(
    folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    kill(running(folder))
    age(folder)
    for _ in range(2):
        remove_leftovers("another")
    assert left_for(folder) == [LINE]


def test_copy_is_refused_while_the_original_runs(
    tmp_path: Path, folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    process = running(folder)
    copy = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(SettingsError) as refused:
        claim(copy)
    for said in (str(folder), str(copy), f"process {process.pid}", f"remove {copy / ID_FILE}"):
        assert said in str(refused.value)
    (copy / ID_FILE).unlink()
    held = claim(copy)
    assert files_of(held.name) == []
    held.close()
    kill(process)
    assert left_for(folder) == [LINE]


def test_copy_is_refused_while_the_original_exists(
    tmp_path: Path, folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    kill(running(folder))
    copy = shutil.copytree(folder, tmp_path / "copy")
    with pytest.raises(SettingsError, match="which is still there"):
        claim(copy)
    shutil.rmtree(folder)
    assert left_for(copy) == [LINE], "it was moved"


def test_copy_that_cannot_see_the_original_is_refused_while_workers_run(
    tmp_path: Path, folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    """As in another container with the same path: its control process is dead, its workers still run."""
    kill(running(folder))
    name = memory_path(folder).name
    (ring,) = files_of(name)
    worker = SharedSegment.attach(ring, 0x524E_0002_0000)
    owner = memory_folder() / f"{name}.owner"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | {"namespace": "mnt:[1]", "inode": 1}))
    with pytest.raises(SettingsError, match="whose workers still run"):
        claim(folder)
    del worker
    assert left_for(folder) == [LINE], "restored from a copy"


def test_moved_folder_is_not_taken_for_a_copy(
    tmp_path: Path, folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    kill(running(folder))
    (ring,) = files_of(memory_path(folder).name)
    worker = SharedSegment.attach(ring, 0x524E_0002_0000)
    moved = folder.rename(tmp_path / "moved")
    assert left_for(moved) == [LINE]
    del worker


def test_records_under_a_lost_id_are_found_again(
    folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"]
) -> None:
    kill(running(folder))
    before = memory_path(folder).name
    (folder / ID_FILE).unlink()
    assert left_for(folder) == [LINE]
    assert memory_path(folder).name != before
    assert not list(memory_folder().glob(f"{before}*"))


def test_rings_of_the_previous_version_are_adopted_once(folder: Path) -> None:
    def leave() -> Path:
        path = memory_folder() / f"{former_name(folder)}.1795717007179187357-predictions-0.ring"
        Ring.create(path, 4096).append(LINE)
        return path

    leave()
    assert left_for(folder) == [LINE]
    other = leave()  # of another container's, by now
    assert left_for(folder) == [LINE]
    assert other.exists()


def test_rings_of_the_previous_version_stay_with_the_process_that_uses_them(folder: Path) -> None:
    path = memory_folder() / f"{former_name(folder)}.1795717007179187357-predictions-0.ring"
    used = Ring.create(path, 4096)  # its writer is not to be seen here: it is in another container
    used.append(LINE)
    assert left_for(folder) == []
    used.own()  # and here it is: a worker that a killed control has left
    (folder / ID_FILE).unlink()
    assert left_for(folder) == [LINE]


def test_unwritable_id_loses_no_record(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / f"{ID_FILE}.new").mkdir()  # as a full disk: as root, permissions keep no one out
    held = claim(folder)
    Ring.create(held.path.with_name(f"{held.name}.1-predictions-0.ring"), 4096).append(LINE)
    os.close(held._held._file)  # killed
    assert left_for(folder) == [LINE]


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


def with_another_id(folder: Path) -> None:
    (folder / ID_FILE).write_text("0" * 32)


@pytest.mark.parametrize("unwanted", [gone, with_another_id])
def test_memory_that_no_folder_needs_is_removed_at_once(
    folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"], unwanted: Callable[[Path], None]
) -> None:
    process = running(folder)
    name = memory_path(folder).name
    unwanted(folder)
    remove_leftovers("another")
    assert files_of(name), "it runs"
    kill(process)
    remove_leftovers(name)
    assert files_of(name), "they are our own"
    remove_leftovers("another")
    assert not list(memory_folder().glob(f"{name}*"))


@pytest.mark.parametrize(
    "elsewhere", [{"namespace": "mnt:[1]"}, {"device": 1}], ids=["in another container", "not mounted now"]
)
def test_memory_of_a_folder_that_may_be_elsewhere_is_kept(
    folder: Path, running: Callable[[Path], "subprocess.Popen[bytes]"], elsewhere: dict[str, object]
) -> None:
    kill(running(folder))
    name = memory_path(folder).name
    owner = memory_folder() / f"{name}.owner"
    owner.write_text(json.dumps(json.loads(owner.read_text()) | elsewhere))
    age(folder)
    shutil.rmtree(folder)
    remove_leftovers("another")
    (ring,) = files_of(name)
    taken = Ring.attach(ring)
    taken.release(taken.waiting)
    del taken
    remove_leftovers("another")
    assert not list(memory_folder().glob(f"{name}*")), "nothing is in it"
    owner.unlink(missing_ok=True)


def test_boards_without_a_successor_are_removed_and_stops_kept(folder: Path) -> None:
    held = claim(folder)
    boards = [held.path.with_suffix(suffix) for suffix in (".scoreboard", ".ratecounters", f".{os.getpid()}")]
    for path in boards:
        SharedSegment.create(path, 8, 1)
    board = Switchboard.create(held.path.with_suffix(".switchboard"), 1)
    board.open(0)
    board.names.put(0, "digits", 2)
    board.stop(0)
    path = board.segment.path
    assert board.segment._file is not None
    os.close(board.segment._file)
    del board
    os.close(held._held._file)  # killed
    remove_leftovers("another")
    assert files_of(held.name) == [path]


def test_malformed_owner_file_owns_nothing(folder: Path) -> None:
    held = claim(folder)
    for text in ("", "[]", "7", '{"folder": 1}', "\udcff"):
        held._held.path.write_bytes(text.encode(errors="surrogateescape"))
        assert owner_of(held.name) is None
    assert Owner.here(folder).is_at(folder)
    held.close()
