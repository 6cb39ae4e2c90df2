"""Files in the repository that are not served: each is listed with its reason, unless it was never meant as a model."""

import os
from pathlib import Path

import pytest

from gateway.backends.not_served import UnservedEntry, unserved_entries, unserved_reason
from gateway.backends.repository import Repository
from tests.backends import onnx_models
from tests.backends.onnx_models import place

FILES = {  # a file of the repository: the entry that is named for it, and what its reason must hold
    "flat/model.onnx": ("flat", "", "model.onnx lies in no version's folder; move it to 1/model.onnx"),
    "flat/net.onnx": ("flat", "", "net.onnx lies in no version's folder"),
    "torch/model.pt": ("torch", "", "holds model.pt, which is not ONNX"),
    "vee/v1/model.onnx": ("vee", "v1", "a whole number from 1, such as 1"),
    "vee/V2/model.onnx": ("vee", "V2", "such as 2"),
    "vee/version-3/model.onnx": ("vee", "version-3", "such as 3"),
    "vee/0/model.onnx": ("vee", "0", "is no version"),
    "vee/01/model.onnx": ("vee", "01", "such as 1"),
    "vee/-1/model.onnx": ("vee", "-1", "such as 1"),
    "vee/1.0/model.onnx": ("vee", "1.0", "is no version"),
    "vee/1 /model.onnx": ("vee", "1 ", "such as 1"),
    "vee/202611261639/model.onnx": ("vee", "202611261639", "4294967295 is the largest"),
    "vee/\u0663/x": ("vee", "\u0663", "is no version"),
    "vee/prod/model.onnx": ("vee", "prod", "is no version"),
    "m/7": ("m", "7", "is a file; a version is a folder with model.onnx in it"),
    "triton/1/model.onnx/model.onnx": ("triton", "1", "model.onnx is a folder"),
    "m/2/Model.ONNX": ("m", "2", "rename Model.ONNX to model.onnx"),
    "m/2/net.onnx": ("m", "2", "rename net.onnx to model.onnx"),
    "m/2/model.pt": ("m", "2", "model.pt is not ONNX"),
    "m/2/saved_model/x": ("m", "2", "saved_model is not ONNX"),
    "m/2/model.onnx.data": ("m", "2", "only its weights are there"),
    "m/2/readme": ("m", "2", "model.onnx is missing; there is readme"),
    "two words/1/model.onnx": ("two words", "", "such as to two_words"),
    " lead/1/model.onnx": (" lead", "", "such as to _lead"),
    "a@b/1/model.onnx": ("a@b", "", "such as to a_b"),
    "settings/model.yaml": ("settings", "", "holds no version; put one into settings/1/model.onnx"),
    "loose.onnx": ("loose.onnx", "", "move it to loose/1/model.onnx"),
    "Loose.ONNX": ("Loose.ONNX", "", "move it to Loose/1/model.onnx"),
}


@pytest.mark.parametrize("file", FILES)
def test_passed_over_lists_each_file_with_its_reason(tmp_path: Path, file: str) -> None:
    place(tmp_path, "m", 1, onnx_models.doubling)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    name, version, reason = FILES[file]
    (found,) = unserved_entries(tmp_path)
    assert (found.name, found.version) == (name, version)
    assert reason in found.reason


@pytest.mark.parametrize("file", FILES)
def test_passed_over_files_do_not_affect_valid_versions(tmp_path: Path, file: str) -> None:
    place(tmp_path, "m", 1, onnx_models.doubling)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).touch()
    repository = Repository(tmp_path)
    assert "m" in repository.names()
    assert repository.model_file("m", 1).is_file()


def test_passed_over_lists_folders_without_versions_or_files(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "1").mkdir(parents=True)
    assert unserved_entries(tmp_path) == [
        UnservedEntry("empty", "", "holds no version; put one into empty/1/model.onnx"),
        UnservedEntry("half", "1", "model.onnx is missing"),
    ]


def test_passed_over_lists_broken_symlinks(tmp_path: Path) -> None:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "1" / "model.onnx").symlink_to("/gone/model.onnx")
    (tmp_path / "m" / "2").symlink_to("/gone/2")
    (tmp_path / "n").symlink_to("/gone/n")
    assert [str(over) for over in unserved_entries(tmp_path)] == [
        "m/1: model.onnx is a link to /gone/model.onnx, which does not exist",
        "m/2: is a link to /gone/2, which does not exist",
        "n: is a link to /gone/n, which does not exist",
    ]


def test_named_pipe_is_reported_and_not_opened(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    os.mkfifo(folder / "model.onnx")
    assert unserved_reason(folder) == "model.onnx is no regular file"


def test_unreadable_model_file_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may read everything, so the answer of the operating system is replaced."""
    file = place(tmp_path, "m", 1, onnx_models.doubling)
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != file)
    assert "must be readable by the gateway's user" in unserved_reason(file.parent)


NO_MODELS = [
    *(".git/1/model.onnx", ".ipynb_checkpoints/x", "..data/m/1/model.onnx", "lost+found/x", "__pycache__/x.pyc"),
    *("README.md", "training.py", "notes/draft.txt", "m/train.py", "m/messages.csv", "m/README.md", "m/warmup.json"),
    *("m/__pycache__/train.pyc", "m/data/rows.csv", "m/.1/model.onnx", "m/.ipynb_checkpoints/x", "m/model.yaml"),
    *("m/1/model.onnx.data", "m/1/labels.txt", "m/1/.model.onnx.swp", "m/1/other.onnx"),
]


@pytest.mark.parametrize("file", NO_MODELS)
def test_passed_over_ignores_files_not_meant_as_models(tmp_path: Path, file: str) -> None:
    place(tmp_path, "m", 1, onnx_models.doubling)
    (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / file).write_text("")
    assert unserved_entries(tmp_path) == []


def test_passed_over_ignores_a_symlink_to_a_version_beside_it(tmp_path: Path) -> None:
    place(tmp_path, "m", 1, onnx_models.doubling)
    (tmp_path / "m" / "latest").symlink_to("1")
    assert unserved_entries(tmp_path) == []


def test_models_linked_in_as_from_a_config_map_are_served(tmp_path: Path) -> None:
    place(tmp_path / "..2026", "m", 1, onnx_models.doubling)
    (tmp_path / "..data").symlink_to("..2026")
    (tmp_path / "m").symlink_to("..data/m")
    assert Repository(tmp_path).names() == ["m"]
    assert unserved_entries(tmp_path) == []


def test_unprintable_names_are_escaped(tmp_path: Path) -> None:
    (tmp_path / "a\x1b[31m\n").mkdir()
    os.mkdir(os.fsencode(tmp_path) + b"/b\xff")
    assert [over.name for over in unserved_entries(tmp_path)] == ["a\\x1b[31m\\n", "b\\udcff"]
    assert all(str(over).isprintable() for over in unserved_entries(tmp_path))


def test_missing_repository_is_reported(tmp_path: Path) -> None:
    assert "cannot be read" in unserved_entries(tmp_path / "gone")[0].reason


def test_release_of_a_model_without_versions_is_refused_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "model.onnx").touch()
    with pytest.raises(Exception, match=r"flat' has no version 1; .* holds none; flat: model\.onnx lies in no version"):
        Repository(tmp_path).model_file("flat", 1)
