"""The archive that `gateway propose` sends: the folder's files, the same bytes each time, of the announced length."""

import os
from pathlib import Path

import pytest

from gateway.cli.refusal import CommandError
from gateway.cli.version_archive import VersionArchive
from gateway.errors import ModelUnavailable
from tests.backends.test_digest import scaling
from tests.control.proposals.test_tar_stream import read


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "trained"
    (made / "weights").mkdir(parents=True)
    (made / "model.onnx").write_bytes(b"m" * 1000)
    (made / "weights" / "w.bin").write_bytes(b"w" * 512)
    (made / "empty ä.txt").touch()
    (made / ".DS_Store").touch()
    (made / "__pycache__").mkdir()
    return made


def test_holds_the_files_without_hidden_ones(folder: Path) -> None:
    archive = VersionArchive(folder)
    sent = b"".join(archive.chunks())
    files = {"empty ä.txt": b"", "model.onnx": b"m" * 1000, "weights/w.bin": b"w" * 512}
    assert read(sent, 1000) == ([], files, True)
    assert len(archive) == len(sent)
    os.utime(folder / "model.onnx", (1, 1))
    assert b"".join(VersionArchive(folder).chunks()) == sent


def test_follows_a_link_to_a_file_and_refuses_one_to_a_folder(folder: Path) -> None:
    (folder / "labels.txt").symlink_to(folder / "weights" / "w.bin")
    assert read(b"".join(VersionArchive(folder).chunks()), 512)[1]["labels.txt"] == b"w" * 512
    (folder / "more").symlink_to(folder / "weights")
    with pytest.raises(CommandError, match="more is a link to a folder"):
        VersionArchive(folder)


def test_refuses_what_is_neither_a_file_nor_a_folder(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(CommandError, match="pipe is neither a file nor a folder"):
        VersionArchive(folder)


def test_a_model_file_brings_its_weights(tmp_path: Path) -> None:
    model = scaling(tmp_path / "net.onnx", 2.0, "net.weights")
    names = [file.name for file in VersionArchive(model).files]
    assert names == ["model.onnx", "net.weights"]
    (tmp_path / "net.weights").unlink()
    with pytest.raises(CommandError, match=r"net\.weights, which holds weights of it, is missing"):
        VersionArchive(model)


def test_a_model_file_that_names_other_files_does_not_send_them(tmp_path: Path) -> None:
    model = scaling(tmp_path / "made" / "net.onnx", 2.0, "nets")
    (tmp_path / "s").write_text("key")
    renamed = model.read_bytes().replace(b"\x0a\x08location\x12\x04nets", b"\x0a\x08location\x12\x04../s")
    assert renamed != model.read_bytes()
    model.write_bytes(renamed)
    with pytest.raises(ModelUnavailable, match="leads out of"):
        VersionArchive(model)


@pytest.mark.parametrize(
    ("files", "says"),
    [
        (["net.onnx"], "holds no model.onnx; rename net.onnx to it"),
        (["1/model.onnx", "2/model.onnx"], "name one version's folder, such as .*/1"),
        (["notes.txt"], "holds no model.onnx$"),
    ],
)
def test_a_folder_without_a_model_is_refused_with_what_would_be_right(
    tmp_path: Path, files: list[str], says: str
) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(CommandError, match=says):
        VersionArchive(tmp_path)


def test_a_file_that_grows_or_shrinks_is_refused(folder: Path) -> None:
    for content in (b"m" * 1001, b"m" * 999):
        archive = VersionArchive(folder)
        (folder / "model.onnx").write_bytes(content)
        with pytest.raises(CommandError, match="is being written"):
            list(archive.chunks())
