"""A version in the repository that is, or may be, half copied is not proposed."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.backends.repository import Repository
from gateway.control.proposals.present_version import PresentVersion
from gateway.errors import Conflict, NotFound
from tests.recording import MODELS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of version 2 of digits, in a repository."""
    shutil.copytree(MODELS / "digits" / "2", tmp_path / "digits" / "2")
    (tmp_path / "digits" / "2" / "weights").mkdir()
    (tmp_path / "digits" / "2" / "weights" / "w.bin").write_bytes(bytes(1000))
    return tmp_path / "digits" / "2"


def present(folder: Path, version: int = 2) -> PresentVersion:
    return PresentVersion(Repository(folder.parents[1]), "digits", version)


def test_a_version_that_stays_as_it_is_is_complete(folder: Path) -> None:
    found = present(folder)
    found.refuse_changed()
    assert sorted(found.files) == ["model.onnx", "training.json", "weights/w.bin"]
    assert found.total_bytes == sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
    assert found.evidence("ab")["model_sha256"] == "ab"


def replaced(file: Path) -> None:
    """As rsync does: the whole file under another name, then in its place, with its old time."""
    made = file.with_name("made")
    shutil.copy2(file, made)
    made.rename(file)


CHANGES: list[tuple[str, Callable[[Path], object]]] = [
    ("model.onnx", lambda file: file.write_bytes(file.read_bytes() + b"x")),
    ("model.onnx", lambda file: os.utime(file)),
    ("weights/w.bin", lambda file: file.write_bytes(bytes(1000))),
    ("weights/w.bin", replaced),
    ("weights/w.bin", lambda file: file.unlink()),
    ("labels.txt", lambda file: file.write_text("new")),
    ("../model.yaml", lambda file: file.write_text("{}")),
]


@pytest.mark.parametrize(("name", "change"), CHANGES)
def test_a_version_that_changes_is_refused(folder: Path, name: str, change: Callable[[Path], object]) -> None:
    found = present(folder)
    change(folder / name)
    with pytest.raises(Conflict, match=r"has changed while version 2 of 'digits' was being tried") as refused:
        found.refuse_changed()
    assert str(refused.value).startswith(str((folder / name).resolve()))


@pytest.mark.parametrize(
    "name",
    [
        ".model.onnx.aB3xYz",
        ".~tmp~/model.onnx",
        ".rsync-partial/w.bin",
        "weights/.w.bin.Zz09aa",
        "w.bin.part",
        "w.bin.filepart",
    ],
)
def test_a_file_of_a_copy_under_way_is_told(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).touch()
    with pytest.raises(Conflict, match=r"is being copied: .* try again once it is, or remove that file"):
        present(folder)


@pytest.mark.parametrize("name", [".gitattributes", "part", "partial.json", ".DS_Store", "weights.onnx_data"])
def test_other_files_are_no_copies(folder: Path, name: str) -> None:
    (folder / name).touch()
    present(folder).refuse_changed()


def test_what_is_missing_is_told(folder: Path) -> None:
    with pytest.raises(NotFound, match=r"no version 3 of 'digits' in .*: it has 2; copy it to .*/digits/3"):
        present(folder, 3)
    (folder / "model.onnx").unlink()
    with pytest.raises(Conflict, match=r"digits/2/model\.onnx is missing"):
        present(folder)
