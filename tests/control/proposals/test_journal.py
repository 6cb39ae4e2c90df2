"""A proposal that ends anywhere, by a kill too, leaves its version complete or nothing, and blocks no other."""

import shutil
from pathlib import Path

import pytest

from gateway.control.proposals.journal import (
    FILE,
    ProposalJournal,
    VersionTaken,
    next_version,
    undo_interrupted,
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    (tmp_path / "models" / "digits" / "1").mkdir(parents=True)
    (tmp_path / "models" / "digits" / "model.yaml").write_text("{}")
    return tmp_path / "models" / "digits"


def begun(model: Path) -> tuple[ProposalJournal, Path]:
    """A journal with a version that has arrived."""
    journal = ProposalJournal(model.parents[1] / "state")
    staged = journal.begin(model)
    (staged / "weights").mkdir(parents=True)
    (staged / "model.onnx").write_text("model")
    return journal, staged


def restart(model: Path, named: bool = False) -> list[str]:
    """What is beside model.yaml once a gateway has been started after a kill."""
    undo_interrupted(model.parents[1] / "state", lambda key: named and key == ("digits", 2))
    assert not (model.parents[1] / "state" / FILE).exists()
    return sorted(entry.name for entry in model.iterdir() if entry.is_dir())


def test_a_kill_before_the_folder_exists(model: Path) -> None:
    ProposalJournal(model.parents[1] / "state").begin(model)
    assert restart(model) == ["1"]


def test_a_kill_while_the_version_arrives(model: Path) -> None:
    begun(model)
    assert restart(model) == ["1"]


def test_a_kill_after_the_version_has_its_number(model: Path) -> None:
    journal, _ = begun(model)
    journal.place(2)
    assert (model / "2" / "model.onnx").read_text() == "model"
    assert restart(model) == ["1"]


def test_a_version_that_is_named_stays(model: Path) -> None:
    journal, _ = begun(model)
    journal.place(2)
    assert restart(model, named=True) == ["1", "2"]


def test_a_kill_while_a_version_is_removed(model: Path) -> None:
    journal, staged = begun(model)
    journal.place(2)
    (model / "2").rename(staged)
    (staged / "model.onnx").unlink()
    assert restart(model) == ["1"]


def test_a_version_that_someone_else_has_put_in_its_place_stays(model: Path) -> None:
    journal, _ = begun(model)
    journal.place(2)
    (model / "2").rename(model / "3")
    shutil.copytree(model / "3", model / "2")
    assert restart(model) == ["1", "2", "3"]


def test_a_version_that_someone_else_has_made_of_the_same_inode_stays(model: Path) -> None:
    journal, _ = begun(model)
    journal.place(2)
    (model / "2" / "model.onnx").unlink()
    (model / "2" / "model.onnx").write_text("another")
    assert restart(model) == ["1", "2"]


def test_what_is_complete_is_never_undone(model: Path) -> None:
    journal, _ = begun(model)
    journal.place(2)
    file = model.parents[1] / "state" / FILE
    written = file.read_bytes()
    journal.complete()
    file.write_bytes(written)  # as if the disk had refused to remove it
    journal.undo(lambda key: False)  # the version is not named any more: it was promoted, and replaced since
    assert (model / "2" / "model.onnx").exists()
    assert not file.exists()


def test_a_number_that_is_taken_keeps_both(model: Path) -> None:
    journal, staged = begun(model)
    with pytest.raises(VersionTaken):
        journal.place(1)
    assert list((model / "1").iterdir()) == []
    journal.place(2)
    journal.complete()
    assert not staged.exists()
    assert restart(model) == ["1", "2"]


@pytest.mark.parametrize(
    "content",
    [
        "{",
        '{"model": "digits", "staged": "/tmp"}',
        '{"model": "digits", "staged": 3}',
        '{"model": "digits", "staged": "/tmp/.proposal-x", "version": "../x"}',
        "[1]",
    ],
)
def test_a_damaged_journal_blocks_nothing(model: Path, content: str) -> None:
    (model.parents[1] / "state" / FILE).write_text(content)
    assert restart(model) == ["1"]


def test_next_version_is_beyond_all_that_look_like_one(model: Path) -> None:
    assert next_version(model, []) == 2
    (model / "7").write_text("a file")
    (model / "007x").mkdir()
    assert next_version(model, []) == 8
    assert next_version(model, [12]) == 13
    (model / "20261231235959").mkdir()
    assert next_version(model, [12]) == 13
